"""Stored recipes of earlier versions are read by their present names, with one note; those of a person are refused."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from passerby import encoders
from passerby.encoders import load_model, loading
from passerby.errors import UserError
from passerby.inference.onnx_model import OnnxModel, OnnxSettings
from passerby.models.embedder import Embedder, save_embedder
from passerby.recipe import load_recipe, recipe_from_text, recipe_of_run
from passerby.recipe.former import in_present_words
from passerby.renamed import FORMER_VALUES, RENAMED
from passerby.settings import parse_yaml
from passerby.training.checkpoint import load_checkpoint, save_checkpoint
from passerby.training.session import train

FIRST = Path(__file__).parent / "first_version.yaml"
"""The recipe that the first version wrote into a run folder, with as many renamed settings as one recipe can have."""


def nested(path, value):
    for key in reversed(path.split(".")):
        value = {key: value}
    return value


def value_at(data, path):
    for key in path.split("."):
        data = data[key]
    return data


def in_words_of_the_first_version(recipe):
    """Return the dump of a recipe with some present names replaced by former ones."""
    text = recipe.dump().replace("min_lr:", "final_rate:").replace("ema_decay:", "ema:")
    text = text.replace("input_mask: auto", "pixels: auto").replace("after_neck", "embedding")
    assert text.count("final_rate:") == 1
    return text


def test_the_recipe_of_the_first_version_keeps_its_values():
    notes = []
    recipe = recipe_from_text(FIRST.read_text(), source="a model", notify=notes.append)
    first, second = recipe.stages
    assert (first.optim.min_lr, second.optim.min_lr, first.optim.ema_decay) == (1e-6, 7e-7, 0.99)
    assert (first.optim.flat_epochs, first.optim.freeze_backbone_steps) == (1.0, 1000)
    assert first.losses.chosen["center"].lr == 0.25
    assert second.source == ("market1501",)
    sampler = first.data.sampler
    assert (sampler.kind, sampler.identities, sampler.instances) == ("per_domain", 8, 16)
    assert first.method.chosen["average"].alpha == 0.25
    assert first.method.chosen["ebll"].autoencoders == ("ae_l2",)
    assert (recipe.engine.track, recipe.engine.grad_accum_steps) == ("tensorboard", 2)
    assert (recipe.test.background_bias, recipe.test.input_mask, recipe.test.feature) == ("off", "auto", "after_neck")
    assert recipe.init_from is None
    (note,) = notes
    assert note.startswith("a model was written by an earlier version; its settings data.identities, data.instances,")


def test_a_run_folder_of_the_first_version_is_read(tmp_path):
    (tmp_path / "recipe.yaml").write_text(FIRST.read_text())
    assert recipe_of_run(tmp_path / "recipe.yaml") == recipe_from_text(FIRST.read_text(), source="a model")


def test_a_person_is_told_the_present_names(tmp_path):
    with pytest.raises(UserError, match=r"unknown key optim\.final_rate; it is called optim\.min_lr now"):
        load_recipe(str(FIRST))


@pytest.mark.parametrize("path", [path for path in RENAMED if not path.startswith("data.")])
def test_every_renamed_setting_is_moved_at_the_top_level_and_in_stages(path):
    was, now = path.removeprefix("stages.*."), RENAMED[path].removeprefix("stages.*.")
    stage = in_present_words({"stages": [{}, nested(was, "value")]})
    assert value_at(stage.data["stages"][1], now) == "value"
    assert stage.renamed == (path,)
    if was == path:
        assert value_at(in_present_words(nested(was, "value")).data, now) == "value"


@pytest.mark.parametrize(("path", "was", "now"), [(p, a, b) for p, v in FORMER_VALUES.items() for a, b in v.items()])
def test_former_values_become_present_ones(path, was, now):
    assert value_at(in_present_words(nested(path, was)).data, path) == now


@pytest.mark.parametrize("name", ["small", "lifelong", "unlabelled", "sbs"])
def test_a_recipe_of_today_is_left_as_it_is(name):
    text = load_recipe(name).dump()
    translation = in_present_words(parse_yaml(text, source=name))
    assert translation.data == parse_yaml(text, source=name)
    assert translation.note(name) is None


def test_what_a_stage_leaves_out_of_its_former_sampler_is_that_of_the_top_level():
    data = in_present_words({"data": {"identities": 8}, "stages": [{"data": {"sampling": "datasets"}}]}).data
    assert data["data"] == {"sampler": {"kind": "pk", "identities": 8, "instances": 4}}
    sampler = data["stages"][0]["data"]["sampler"]
    assert (sampler["kind"], sampler["identities"]) == ("per_domain", 8)


def test_a_model_with_a_recipe_of_an_earlier_version_is_loaded_with_one_note(tiny, tmp_path):
    recipe, file = tiny(), tmp_path / "embedder.safetensors"
    torch.manual_seed(0)
    save_embedder(Embedder(recipe.model, recipe.input), file, recipe=in_words_of_the_first_version(recipe))
    model = load_model(file)
    assert model.recipe.stages == recipe.stages
    (note,) = model.notes
    assert note == (
        f"the recipe in {file} was written by an earlier version; its settings feature, optim.ema, optim.final_rate "
        "and 1 more are read by their present names"
    )


def test_so_is_an_onnx_file(tiny, tmp_path, monkeypatch):
    text = in_words_of_the_first_version(tiny())
    network = OnnxModel("model.onnx", None, None, OnnxSettings(), "vectors", 8, recipe=text, notes=("another",))
    monkeypatch.setattr(loading, "load_onnx", lambda *_, **__: network)
    model = encoders.load_model(tmp_path / "model.onnx")
    assert model.recipe.stages == tiny().stages
    assert model.notes[0] == "another"
    assert "was written by an earlier version" in model.notes[1]


def test_a_run_of_an_earlier_version_is_resumed(tiny, tmp_path):
    recipe, folder, said = tiny("stages.0.epochs=1"), tmp_path / "run", []
    train(recipe, folder)
    checkpoint = load_checkpoint(folder / "last.pt")
    save_checkpoint(replace(checkpoint, recipe=in_words_of_the_first_version(recipe)), folder / "last.pt")
    (result,) = train(recipe, folder, start="resume", say=said.append)
    assert 0 < result.plain.mAP <= 1
    assert len([sentence for sentence in said if "was written by an earlier version" in sentence]) == 1
