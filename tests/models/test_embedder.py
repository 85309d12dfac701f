"""The embedder: bytes in, vectors out, one file that is all of it."""

import json

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from passerby.errors import UserError
from passerby.inputs import InputSettings
from passerby.models.embedder import Embedder, ModelSettings, load_embedder, save_embedder
from passerby.models.pooling import Pool
from passerby.types import Inputs

given = Inputs.of_images

INPUT = InputSettings(size=(32, 16))
MODEL = ModelSettings(backbone="test_resnet", last_stride=1)


def images(count=4):
    return torch.randint(256, (count, 3, 32, 16), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)


def test_bytes_and_floats_mean_the_same():
    embedder = Embedder(MODEL, INPUT).eval()
    with torch.inference_mode():
        assert torch.equal(embedder(given(images())).before_neck, embedder(given(images().float())).before_neck)


def test_normalisation_is_part_of_the_model():
    embedder = Embedder(MODEL, InputSettings(size=(32, 16), mean=(0.1, 0.2, 0.3), std=(0.5, 0.6, 0.7))).eval()
    mean, std = (torch.tensor(v).reshape(1, 3, 1, 1) for v in ((0.1, 0.2, 0.3), (0.5, 0.6, 0.7)))
    with torch.inference_mode():
        direct = embedder.backbone(given((images() / 255 - mean) / std))[0]
        torch.testing.assert_close(embedder(given(images())).map, direct)


def test_the_neck_is_a_batch_norm_without_shift():
    embedder = Embedder(MODEL, INPUT)
    assert not embedder.neck.bias.requires_grad
    assert not embedder.neck.bias.any()
    out = embedder(given(images()))
    wanted = (out.before_neck - out.before_neck.mean(0)) / (out.before_neck.var(0, unbiased=False) + 1e-5).sqrt()
    torch.testing.assert_close(out.after_neck, wanted, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(out.before_neck, out.map.mean(dim=(2, 3)))


def test_without_a_neck_both_vectors_are_one():
    out = Embedder(MODEL.model_copy(update={"neck": "none"}), INPUT)(given(images()))
    assert torch.equal(out.before_neck, out.after_neck)


@pytest.mark.parametrize("pool", ["avg", "max", "avg_max", "gem", "gem_learned"])
def test_the_feature_is_the_pooled_map(pool):
    embedder = Embedder(MODEL.model_copy(update={"pool": pool}), INPUT).eval()
    out = embedder(given(images()))
    assert torch.equal(out.before_neck, Pool(pool)(out.map))
    assert [n for n, _ in embedder.named_parameters() if "pool" in n] == (["pool.p"] if pool == "gem_learned" else [])


def test_a_pooling_that_a_token_model_ignores_is_told():
    with pytest.raises(UserError, match=r"model\.pool: 'test_vit' pools its own tokens, so 'gem' has no effect"):
        Embedder(ModelSettings(backbone="test_vit", pool="gem"), INPUT)


def test_vectors_are_float32_under_autocast():
    embedder = Embedder(MODEL, INPUT)
    with torch.autocast("cpu", torch.bfloat16):
        out = embedder(given(images()))
    assert out.map.dtype == torch.bfloat16
    assert out.before_neck.dtype == out.after_neck.dtype == torch.float32


def test_channels_last_is_only_a_layout(tmp_path):
    embedder = Embedder(MODEL, INPUT).eval()
    save_embedder(embedder, tmp_path / "a.safetensors", recipe="")
    save_embedder(embedder.to(memory_format=torch.channels_last), tmp_path / "b.safetensors", recipe="")
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()


def test_the_file_carries_the_recipe(tmp_path):
    save_embedder(Embedder(MODEL, INPUT), tmp_path / "e.safetensors", recipe="seed: 3")
    with safe_open(tmp_path / "e.safetensors", "pt") as file:
        assert file.metadata()["recipe"] == "seed: 3"


def test_weights_named_in_the_settings_are_loaded_unless_a_checkpoint_follows(tmp_path):
    trained = Embedder(MODEL, INPUT)
    path = tmp_path / "e.safetensors"
    save_embedder(trained, path, recipe="")
    again = Embedder(MODEL.model_copy(update={"weights": str(path)}), INPUT)
    assert again.loaded is not None
    for one, other in zip(again.backbone.parameters(), trained.backbone.parameters(), strict=True):
        assert torch.equal(one, other)
    assert Embedder(MODEL.model_copy(update={"weights": "nowhere.pt"}), INPUT, load=False).loaded is None


def foreign(path):
    save_file({"a": torch.zeros(1)}, path)


def other_words(path):
    save_file({"a": torch.zeros(1)}, path, {"passerby": "[]"})


def no_input(path):
    save_file({"a": torch.zeros(1)}, path, {"passerby": json.dumps({"model": {}})})


@pytest.mark.parametrize("write", [foreign, other_words, no_input])
def test_a_file_of_another_program_is_told(tmp_path, write):
    write(tmp_path / "e.safetensors")
    with pytest.raises(UserError, match=r"holds weights but no passerby settings"):
        load_embedder(tmp_path / "e.safetensors")


def test_a_file_with_other_tensors_is_told(tmp_path):
    described = {"model": MODEL.model_dump(mode="json"), "input": INPUT.model_dump(mode="json")}
    save_file({"a": torch.zeros(1)}, tmp_path / "e.safetensors", {"passerby": json.dumps(described)})
    with pytest.raises(UserError, match=r"e\.safetensors was made by another model: ") as caught:
        load_embedder(tmp_path / "e.safetensors")
    assert "\n" not in str(caught.value)


def test_no_file(tmp_path):
    with pytest.raises(UserError, match="no weights file"):
        load_embedder(tmp_path / "e.safetensors")
    (tmp_path / "e.safetensors").write_text("text")
    with pytest.raises(UserError, match="is not a readable weights file"):
        load_embedder(tmp_path / "e.safetensors")
