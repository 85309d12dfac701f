"""Learnt prompts in a run: words against frozen towers, and the image tower against their texts."""

import contextlib
import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.nn import functional as F

from passerby.errors import UserError
from passerby.losses.image_text import image_text_loss
from passerby.models.clip_text_file import read_text_tower
from passerby.models.clip_tokens import PHRASE, phrase_tokens
from passerby.training.session import Interrupted, train
from passerby.training.trainer import make_trainer
from tests.methods.steps import some
from tests.models.tiny_clip import ARCHITECTURE, clip_file, text_tower, two_stages
from tests.training.runs import interrupt_after, optimiser_hash, weights

TOKENS = phrase_tokens(PHRASE)


@pytest.fixture
def begun(tiny, tmp_path):
    """Return what opens the stage of prompts of a run."""

    def begin(*overrides, **changes):
        run = make_trainer(tiny(*two_stages(**changes), "evaluate=[]", *overrides), tmp_path / "run")
        run.open_stage(0)
        run.assign_labels()
        return run

    return begin


def text_of(words):
    """Return the vector of a text by the whole tower, of 77 tokens with what follows the last one."""
    tower = read_text_tower(clip_file())
    tokens = tower.token_embedding(torch.tensor([*TOKENS[0], 0, 0, 0, 0, *TOKENS[1], *[0] * 65]))
    tokens[5:9] = words
    with torch.inference_mode():
        return tower.encode(tokens[None], torch.tensor([11]))[0]


def test_texts_are_the_words_of_an_identity_in_the_sentence(begun):
    encoder = begun().state.methods["prompts"].encoder
    assert encoder.words.shape == (6, 4, 64)
    assert encoder.words.std().item() == pytest.approx(0.02, rel=0.1)
    with torch.no_grad():
        encoder.words.add_(torch.randn(encoder.words.shape))
        found = encoder(torch.tensor([2, 0, 2]))
    torch.testing.assert_close(found[:2], torch.stack([text_of(encoder.words[2]), text_of(encoder.words[0])]))
    torch.testing.assert_close(found[0], found[2])


def test_a_step_compares_the_texts_of_a_batch_with_its_images_and_moves_the_words_alone(begun):
    run = begun("optim.weight_decay=0")  # which moves words without a gradient too
    method, embedder = run.state.methods["prompts"], run.state.embedder
    before = {key: value.clone() for key, value in embedder.state_dict().items()}
    words = method.encoder.words.detach().clone()
    batch = some(run, rows=(0, 9, 1, 30))
    labels, images = batch.labels, method.image_vectors[batch.index]
    with torch.inference_mode():
        projected = embedder.eval()(batch.inputs).projected
        texts = method.encoder(labels)
    torch.testing.assert_close(images, projected)
    terms = method.losses(run.context, batch, None)
    torch.testing.assert_close(terms["image to text"].value.detach(), image_text_loss(images, texts, labels))
    torch.testing.assert_close(terms["text to image"].value.detach(), image_text_loss(texts, images, labels))
    run.step(batch, count=1)
    assert all(torch.equal(value, before[key]) for key, value in embedder.state_dict().items())
    moved = (method.encoder.words - words).abs().amax(dim=(1, 2)) > 0
    assert moved.tolist() == [label in labels.tolist() for label in range(6)]


def test_images_are_embedded_without_their_cameras(begun):
    run = begun(model={"architecture": {**ARCHITECTURE, "cameras": True, "stride": 6}})  # overlapping patches too
    vectors, table = run.state.methods["prompts"].image_vectors, run.state.embedder.backbone.body.cv_embed
    table.coefficient = 0.0
    without = run.context.vectors_of(run.state.stage.train, "before_neck")[:, -12:]
    table.coefficient = 1.0
    with_cameras = run.context.vectors_of(run.state.stage.train, "before_neck")[:, -12:]
    torch.testing.assert_close(vectors, without)
    assert (vectors - with_cameras).abs().max() > 1e-3
    opened_images(run)
    before = table.pairs.weight.detach().clone()
    run.step(some(run, rows=range(0, 48, 6)), count=1)
    assert not torch.equal(table.pairs.weight, before)


def opened_images(run):
    """End the stage of prompts, and open that of images; return its method and the texts by the words."""
    method = run.state.methods["prompts"]
    with torch.no_grad():
        texts = method.encoder(torch.arange(6))
        method.on_stage_end(run.context)
    run.open_stage(1)
    run.assign_labels()
    return method, texts


def test_images_are_classified_among_the_texts_of_all_identities(begun):
    run = begun()
    method, texts = opened_images(run)
    assert method.encoder is None
    assert len(method.image_vectors) == 0
    torch.testing.assert_close(method.text_vectors, texts)
    batch = some(run, rows=(0, 9, 1, 30))
    out = run.state.embedder(batch.inputs)
    value = method.losses(run.context, batch, out)["image to text"].value
    expected = F.cross_entropy(out.projected @ texts.T, batch.labels, label_smoothing=0.1)
    torch.testing.assert_close(value, expected)
    assert torch.equal(out.projected, out.before_neck[:, -12:])


def test_fewer_identities_keep_their_texts_by_their_images(begun):
    run = begun("data.sampler.identities=3", stages=("", ", identities: 3"))
    method, _ = opened_images(run)
    assert method.text_of_class.tolist() == [0, 1, 2]
    path = run.state.stage.train.path[0]
    method.images = method.images[method.text_of_image > 0]
    method.text_of_image = method.text_of_image[method.text_of_image > 0]
    with pytest.raises(UserError, match=f"no prompt was learnt for the identity of {path}"):
        method.on_stage_start(run.context)


def test_an_identity_that_is_not_in_the_first_stage_is_refused(begun):
    run = begun(stages=(", identities: 4", ""))
    run.state.methods["prompts"].on_stage_end(run.context)
    with pytest.raises(UserError, match=r"no prompt was learnt for the identity of .*0005_c1.*; train prompts on the"):
        run.open_stage(1)


def test_both_stages_end_in_a_model_without_a_text_tower(tiny, tmp_path):
    run, recipe = tmp_path / "run", tiny(*two_stages(), "test.feature=before_neck")
    train(recipe, run)
    assert not recipe.lifelong
    assert not (run / "continual_metrics.json").exists()
    names = load_file(run / "embedder.safetensors")
    assert all(name.startswith(("backbone.body.", "neck.")) for name in names)
    assert names["neck.weight"].shape == (28,)  # of the class token and its projection
    saved = torch.load(run / "last.pt", weights_only=True)["methods"]
    assert not any(".tower." in name for name in saved)


def test_both_stages_go_on_as_if_never_stopped_without_the_file_of_the_text_tower(tiny, tmp_path):
    shutil.copy(clip_file(), file := tmp_path / "clip.safetensors")
    recipe = tiny(*two_stages(), "evaluate=[]", f"method.prompts.text_tower={file}")
    train(recipe, tmp_path / "whole")
    with pytest.raises(Interrupted, match="stopped before stage 1, epoch 1, batch 4"):
        train(recipe, tmp_path / "broken", watch=[interrupt_after(3)])
    file.unlink()
    for _ in range(2):  # the second one is not broken off
        with contextlib.suppress(Interrupted):
            train(recipe, tmp_path / "broken", start="resume", watch=[interrupt_after(2)])
    assert weights(tmp_path / "broken") == weights(tmp_path / "whole")
    assert optimiser_hash(tmp_path / "broken") == optimiser_hash(tmp_path / "whole")


def test_images_go_on_from_a_run_that_ends_with_prompts(tiny, tmp_path):
    recipe, short = tiny(*two_stages(), "evaluate=[]"), "stages=[{train: [market1501], epochs: 1, iterations: 1}]"
    train(recipe.model_copy(update={"stages": recipe.stages[:1]}), tmp_path / "prompts")
    train(tiny(*two_stages(), "evaluate=[]", short, "method={prompts: null}"), tmp_path / "none")

    def go_on_from(start):
        run = make_trainer(
            tiny(*two_stages(), "evaluate=[]", short, "model.weights=none", f"init_from={tmp_path / start}"), tmp_path
        )
        run.open_stage(0)
        return run.state.methods["prompts"]

    texts = torch.load(tmp_path / "prompts" / "last.pt", weights_only=True)["methods"]["prompts.text_vectors"]
    method = go_on_from("prompts")
    assert torch.equal(method.text_vectors, texts)
    assert method.text_of_class.tolist() == list(range(6))
    with pytest.raises(UserError, match=r"left nothing that method\.prompts could hold on to"):
        go_on_from("none")


def test_the_residual_network_of_clip(tiny, tmp_path):
    architecture = {"width": 4, "projection": 12, "heads": 4}
    model = {"backbone": "clip_resnet50", "weights": "none", "architecture": architecture}
    run = make_trainer(tiny(*two_stages(model=model), "evaluate=[]"), tmp_path)
    run.open_stage(0)
    run.assign_labels()
    before = run.state.embedder.backbone.body.layer4[0].conv1.weight.clone()
    method, _ = opened_images(run)
    batch = some(run, rows=range(0, 48, 6))
    run.step(batch, count=1)
    assert set(run.state.counters.sums) == {"softmax", "triplet", "image to text"}
    assert not torch.equal(run.state.embedder.backbone.body.layer4[0].conv1.weight, before)
    assert method.has_state


@pytest.mark.parametrize(("change", "sentence"), [
    ("stages=[{train: [market1501]}]", "prompts.train: images needs the texts of the same identities, and no stage"),
    ("stages.1.train=[other]", "no stage before has method.prompts with train: prompts on other"),
    ("stages.0.losses={softmax: {}}", "prompts shows the model no images, so losses.softmax has no effect in stage"),
    ("stages.0.method.prototypes={}", "prompts shows the model no images, so method.prototypes has no effect"),
    ("method.prompts.text_tower=null", "method.prompts.text_tower: name the file of a CLIP"),
    ("stages.0.labelled=false", "method.prompts needs known identities"),
])  # fmt: skip
def test_recipes_that_do_not_fit_are_refused(tiny, change, sentence):
    with pytest.raises(UserError, match=sentence):
        tiny(*two_stages(), change)


def test_models_and_towers_that_do_not_fit_are_refused(begun, tmp_path):
    tower = text_tower(text_tower().settings.model_copy(update={"projection": 20, "vocabulary": 100}))
    save_file(tower.state_dict(), other := tmp_path / "other.safetensors")
    with pytest.raises(UserError, match="makes vectors of texts of 20 numbers, and this model projects images to 12"):
        begun(f"method.prompts.text_tower={other}")
    image = {**ARCHITECTURE, "projection": 20}
    small = ["model.weights=none", f"model.architecture={json.dumps(image)}", f"method.prompts.text_tower={other}"]
    with pytest.raises(UserError, match="it has vectors of 100 tokens, and the prompt has token 49407"):
        begun(*small)
    with pytest.raises(UserError, match="a prompt of 108 tokens is longer than the 77 of the text tower"):
        begun("method.prompts.words=100")
    with pytest.raises(UserError, match=r"model.backbone 'test_resnet' has no projection into the space of texts"):
        begun(model={"backbone": "test_resnet", "weights": "none", "architecture": {}})
    with pytest.raises(UserError, match=r"method.prompts.text_tower: there is no file or folder /nowhere"):
        begun("method.prompts.text_tower=/nowhere")
