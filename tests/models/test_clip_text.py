"""The text tower of CLIP and its tokens against open_clip, and text towers out of files."""

import json
import re
import sys

import pytest
import torch
from safetensors.torch import save_file

from passerby.errors import UserError
from passerby.models.clip_text import ClipTextSettings
from passerby.models.clip_text_file import read_text_tower, text_tower_of
from passerby.models.clip_tokens import PHRASE, phrase_tokens, tokenise
from tests.models.tiny_clip import text_tower
from tests.models.tiny_transformers import DATA

SMALL = ClipTextSettings(width=128, depth=3, heads=2, projection=10, vocabulary=50, context=9)
TOKENS = torch.tensor([[48, 3, 7, 49, 0, 0, 0, 0, 0], [48, 5, 2, 2, 9, 11, 4, 30, 49]])
PROMPT = json.loads((DATA / "clip_reid_losses.json").read_text())["prompt"]


def of_open_clip(tower, *, quick=True):
    """Return open_clip's text tower with the weights of ours."""
    transformer = pytest.importorskip("open_clip.transformer", reason="the extra `clip` is not installed")
    settings = tower.settings
    model = transformer.TextTransformer(
        context_length=settings.context, vocab_size=settings.vocabulary, width=settings.width, heads=settings.heads,
        layers=settings.depth, output_dim=settings.projection,
        act_layer=transformer.QuickGELU if quick else torch.nn.GELU,
    )  # fmt: skip
    missing, unexpected = model.load_state_dict(tower.state_dict(), strict=False)
    assert (missing, unexpected) == ([], [])
    return model.eval()


def test_vectors_are_those_of_open_clip():
    tower = text_tower(SMALL)
    with torch.inference_mode():
        found, expected = tower(TOKENS), of_open_clip(tower)(TOKENS)
        other = of_open_clip(tower, quick=False)(TOKENS)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    assert (found - other).abs().max() > 1e-3


def test_what_follows_the_last_token_has_no_part_in_the_vector():
    tower = text_tower(SMALL)
    with torch.inference_mode():
        short = tower.encode(tower.token_embedding(TOKENS[:1, :4]), torch.tensor([3]))
        torch.testing.assert_close(short, tower(TOKENS[:1]), rtol=1e-5, atol=1e-6)
        other = TOKENS[:1].clone()
        other[0, 2] = 8  # before the last token
        assert (tower(other) - short).abs().max() > 1e-3


def test_tokens_of_the_published_phrase():
    pytest.importorskip("open_clip", reason="the extra `clip` is not installed")
    expected = PROMPT["token_ids_before_padding"]
    (row,) = tokenise([PHRASE.format("X X X X")])
    assert row[: len(expected)].tolist() == expected
    assert not row[len(expected) :].any()
    assert len(row) == PROMPT["context_length"]
    before, after = phrase_tokens(PHRASE)
    assert [*before, *expected[5:9], *after] == expected
    assert phrase_tokens("A photo of a {} vehicle.") == (
        before,
        (PROMPT["vehicle_token_instead_of_person"], *after[1:]),
    )


@pytest.mark.parametrize(("phrase", "sentence"), [
    ("A photo of a person.", "a prompt has one {} where the learnt words go"),
    ("{} and {}", "a prompt has one {} where the learnt words go"),
])  # fmt: skip
def test_a_phrase_without_one_place_for_words_is_refused(phrase, sentence):
    with pytest.raises(UserError, match=sentence):
        phrase_tokens(phrase)


@pytest.mark.parametrize(("text", "sentence"), [
    ("  ", "the text '  ' holds no word"),
    ("red " * 80, "a text may have 75 tokens .* has 80"),
])  # fmt: skip
def test_texts_that_cannot_be_encoded_are_refused(text, sentence):
    pytest.importorskip("open_clip", reason="the extra `clip` is not installed")
    with pytest.raises(UserError, match=sentence):
        tokenise([text])


def test_a_missing_extra_is_one_sentence(monkeypatch):
    from passerby.models import clip_tokens

    monkeypatch.setitem(sys.modules, "open_clip.tokenizer", None)
    clip_tokens._tokenizer.cache_clear()
    with pytest.raises(UserError, match=re.escape("pip install 'passerby[clip]'")):
        tokenise(["a person"])
    assert phrase_tokens(PHRASE)[1][-1] == 49407  # needs none


def of_transformers(tower):
    """Return the tensors of a tower by the names of transformers."""
    state, renamed = tower.state_dict(), {}
    renamed["text_model.embeddings.token_embedding.weight"] = state["token_embedding.weight"]
    renamed["text_model.embeddings.position_embedding.weight"] = state["positional_embedding"]
    renamed["text_projection.weight"] = state["text_projection"].T.contiguous()
    for kind in ("weight", "bias"):
        renamed[f"text_model.final_layer_norm.{kind}"] = state[f"ln_final.{kind}"]
        for number in range(tower.settings.depth):
            here, there = f"transformer.resblocks.{number}", f"text_model.encoder.layers.{number}"
            for part, rows in zip("qkv", state[f"{here}.attn.in_proj_{kind}"].chunk(3), strict=True):
                renamed[f"{there}.self_attn.{part}_proj.{kind}"] = rows.clone()
            names = {"attn.out_proj": "self_attn.out_proj", "mlp.c_fc": "mlp.fc1", "mlp.c_proj": "mlp.fc2",
                     "ln_1": "layer_norm1", "ln_2": "layer_norm2"}  # fmt: skip
            renamed |= {f"{there}.{new}.{kind}": state[f"{here}.{old}.{kind}"] for old, new in names.items()}
    return renamed


@pytest.mark.parametrize("layout", ["openai", "open_clip", "clip_reid", "transformers", "half"])
def test_the_tower_of_a_file_whatever_names_it_has(tmp_path, layout):
    tower, path = text_tower(SMALL), tmp_path / "clip.safetensors"
    image = {"visual.proj": torch.zeros(1), "vision_model.encoder.layers.0.mlp.fc1.bias": torch.zeros(1)}
    if layout == "transformers":
        state = of_transformers(tower)
    else:
        prefix = {"open_clip": "text.", "clip_reid": "text_encoder."}.get(layout, "")
        state = {f"{prefix}{key}": value for key, value in tower.state_dict().items()}
    save_file({key: value.half() if layout == "half" else value for key, value in {**image, **state}.items()}, path)
    loaded = read_text_tower(path)
    assert loaded.settings == tower.settings
    assert not any(parameter.requires_grad for parameter in loaded.parameters())
    exact = {} if layout != "half" else {"rtol": 0.02, "atol": 0.02}
    torch.testing.assert_close(loaded(TOKENS), tower(TOKENS), **exact)


def test_a_tower_without_tokens_takes_vectors_alone():
    tower = text_tower(SMALL)
    state = {key: value for key, value in tower.state_dict().items() if not key.startswith("token")}
    loaded = text_tower_of(state, source="file")
    assert loaded.settings == SMALL.model_copy(update={"vocabulary": 0})
    embedded, last = tower.token_embedding(TOKENS), torch.tensor([3, 8])
    torch.testing.assert_close(loaded.encode(embedded, last), tower(TOKENS))


@pytest.mark.parametrize(("change", "sentence"), [
    ({"text_projection": None}, "file holds no text tower of CLIP"),
    ({"ln_final.weight": None}, "file: its text tower lacks ln_final.weight"),
    ({"ln_final.bias": None}, "file: its text tower does not fit together: Missing key.*ln_final.bias"),
    ({"ln_final.weight": torch.zeros(3)}, r"file: its text tower does not fit together: size mismatch for ln_final"),
    ({"text_projection": torch.zeros(100, 10)}, "the width 100 of its text tower is no multiple of 64"),
])  # fmt: skip
def test_a_file_without_a_whole_tower_is_refused(change, sentence):
    state = {**text_tower(SMALL).state_dict(), **change}
    with pytest.raises(UserError, match=sentence):
        text_tower_of({key: value for key, value in state.items() if value is not None}, source="file")
