"""Samplers in recipes: by a word alone, in stages, and in files that extend others."""

import pytest

from passerby.data.samplers.pk import PkSettings
from passerby.data.samplers.pk_cameras import PkCamerasSettings
from passerby.data.samplers.shuffle import ShuffleSettings
from passerby.data.samplers.table import SAMPLERS
from passerby.recipe import Recipe, load_recipe, make_recipe
from passerby.settings import parse_yaml


def sampler(*overrides, name="lifelong"):
    return load_recipe(name, overrides).stages[0].data.sampler


def test_a_word_changes_the_sampler_and_keeps_the_size_of_the_batch():
    assert sampler() == PkCamerasSettings(identities=32, instances=4)
    assert sampler("data.sampler=pk") == PkSettings(identities=32, instances=4)
    assert sampler("data.sampler=pk", "data.sampler.identities=8") == PkSettings(identities=8, instances=4)
    assert sampler("data.sampler.identities=8", "data.sampler=pk") == PkSettings(identities=8, instances=4)
    assert sampler("data.sampler={kind: pk, instances: 2}") == PkSettings(identities=16, instances=2)
    assert sampler("data.sampler=shuffle", "losses.triplet=null", name="small") == ShuffleSettings(size=64)


def test_a_word_in_a_stage_keeps_what_the_recipe_says():
    stages = "stages=[{train: [market1501], data: {sampler: pk}}, {train: [market1501], name: b}]"
    first, second = load_recipe("lifelong", [stages, "stages.0.data.sampler.instances=8"]).stages
    assert first.data.sampler == PkSettings(identities=32, instances=8)
    assert second.data.sampler == PkCamerasSettings(identities=32, instances=4)


def test_a_file_that_extends_another_changes_its_sampler(tmp_path):
    (tmp_path / "a.yaml").write_text("data: {sampler: pk_cameras}\n")
    (tmp_path / "b.yaml").write_text("extends: a.yaml\ndata: {sampler: {identities: 8}}\n")
    (tmp_path / "c.yaml").write_text("extends: b.yaml\ndata: {sampler: pk}\n")
    assert sampler(name=str(tmp_path / "b.yaml")) == PkCamerasSettings(identities=8, instances=4)
    assert sampler(name=str(tmp_path / "c.yaml")) == PkSettings(identities=8, instances=4)


def test_the_schema_takes_a_kind_alone():
    field = Recipe.model_json_schema()["$defs"]["DataSettings"]["properties"]["sampler"]
    assert {"type": "string"} in field["anyOf"]


@pytest.mark.parametrize("kind", SAMPLERS)
def test_every_sampler_reads_back(kind):
    pairs = {"losses.triplet=null"} if kind == "shuffle" else set()
    recipe = load_recipe("small", [f"data.sampler={kind}", "stages.0.train=[market1501, msmt17]", *pairs])
    assert recipe.data.sampler == SAMPLERS[kind]()
    for text in (recipe.dump(), recipe.dump_changes()):
        assert make_recipe(parse_yaml(text, source="again"), source="again") == recipe
