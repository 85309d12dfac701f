"""Reference results of a run, and caveats when its settings differ from the reference row."""

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from passerby.data.datasets import open_dataset
from passerby.data.readers.layout import UNLIKE_PUBLISHED
from passerby.evaluation import evaluate
from passerby.recipe import load_recipe, recipe_from_text
from passerby.reference_results import Figures, ReferenceResult, shipped_rows
from passerby.training.reference import change_since, changes_from_reference, figures, reference_of
from passerby.training.run_log import ScoreRecord
from passerby.types import Embeddings

NAME = "market1501/resnet50-09"


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        ([], []),
        (["root=elsewhere", "engine.device=cpu", "test.every=0", "data.cache=none", "evaluate=[]"], []),
        (["datasets.market1501={kind: market1501, root: here}"], []),
        (["datasets.market1501={kind: folder, root: here}"], ["datasets.market1501"]),
        (["losses.triplet.margin=0.5"], ["losses.triplet.margin=0.5"]),
        (["losses.triplet=null"], ["losses.triplet=null"]),
        (["stages.0.losses.triplet.margin=0.5"], ["stages.0.losses.triplet.margin=0.5"]),
        (["optim.lr=0.001", "engine.seed=3"], ["optim.lr=0.001", "engine.seed=3"]),
        (["stages.0.epochs=2"], ["stages.0.epochs=2"]),
        (["input.size=[64, 32]", "model.weights=none"], ["input.size=[64, 32]", 'model.weights="none"']),
    ],
)
def test_what_was_changed_is_told_once_and_what_cannot_matter_not_at_all(overrides, told):
    recipe = load_recipe(NAME, overrides)
    assert changes_from_reference(recipe) == told
    assert changes_from_reference(recipe_from_text(recipe.dump(), source="a run")) == told


def test_the_change_of_a_table_counts_from_the_stage_that_learnt_a_set(tiny):
    known = json.loads((Path(__file__).parents[1] / "oracles_data" / "continual_metrics.json").read_text())
    matrix, table = known["R_mAP_rows_after_stage_cols_dataset"], known["table_report"]
    recipe = tiny("stages=[{train: [market1501], epochs: 2}, {train: [other], epochs: 2}]", "data.sampler.identities=3")
    records = [
        ScoreRecord(stage, epoch, name, share / 100, 0.0, 0.0)
        for stage, row in enumerate(matrix[:2], start=1)
        for name, value in zip(("market", "other"), row, strict=False)
        for epoch, share in ((1, value / 2), (2, value))  # a stage counts by its last test
    ]

    def change(name, called, share):
        after = SimpleNamespace(mAP=share / 100, protocol=SimpleNamespace(dataset=called))
        return change_since(recipe, records, name, after=after)

    assert change("market1501", "market", table["market_map"]) == pytest.approx(table["market_forget"])
    assert change("other", "other", table["duke_map"]) is None


def test_more_stages_are_a_change():
    (told,) = changes_from_reference(load_recipe(NAME, ["stages=[{train: [market1501]}, {train: [msmt17]}]"]))
    assert told.startswith("stages=[")


def test_another_list_of_the_same_set_is_a_change():
    override = "datasets.msmt17={kind: msmt17, root: here, split: train+val}"
    assert changes_from_reference(load_recipe("msmt17/resnet50-01", [override])) == ["datasets.msmt17"]


def test_changes_in_an_extending_file_and_after_the_run_are_told(tmp_path):
    (tmp_path / "mine.yaml").write_text(f"extends: {NAME}\noptim: {{lr: 1e-3}}")
    recipe = load_recipe(str(tmp_path / "mine.yaml"))
    assert changes_from_reference(recipe) == ["optim.lr=0.001"]
    assert changes_from_reference(recipe_from_text(recipe.dump(), ["engine.seed=1"], source="a run")) == [
        "optim.lr=0.001",
        "engine.seed=1",
    ]


def test_every_row_by_itself_has_no_changes():
    assert [name for name in shipped_rows() if changes_from_reference(load_recipe(name))] == []


def test_a_set_that_is_not_as_published_is_told_of(site):
    recipe = load_recipe(NAME, [f"root={site}"])
    dataset = open_dataset(recipe.dataset("market1501"), "market1501")
    reference = reference_of(recipe, {"market1501": dataset}, "market1501")
    assert (reference.row, reference.result) == (NAME, ReferenceResult(mAP=86.7, rank1=93.9, mean=90.36))
    (caveat,) = reference.caveats
    assert caveat.startswith("market1501: ")
    assert UNLIKE_PUBLISHED in caveat
    as_published = replace(dataset, notes=("Junk images left out.",))
    assert reference_of(recipe, {"market1501": as_published}, "market1501").caveats == ()


def test_training_images_that_are_not_as_published_count_as_well(site):
    recipe = load_recipe("joint/resnet50-01", [f"root={site}"])
    dataset = open_dataset(recipe.dataset("market1501"), "market1501")
    plain = replace(dataset, notes=())
    sets = {"market1501": dataset, "dukemtmc": replace(plain, name="dukemtmc"), "msmt17": replace(plain, name="msmt17")}
    (caveat,) = reference_of(recipe, sets, "msmt17").caveats
    assert caveat.startswith("market1501: ")


def test_reference_results_of_a_custom_recipe(site):
    recipe = load_recipe("small", [f"root={site}", "reference_results={market1501: {mAP: 50, rank1: 60}}"])
    own = recipe.open_dataset("auto")
    assert own.title == f"{site.parent.name} (Market-1501 layout)"
    assert reference_of(recipe, {"auto": own}, "auto") is None
    dataset = replace(own, layout=replace(own.layout, published=True), notes=())
    reference = reference_of(recipe, {"auto": dataset}, "auto")
    assert (reference.row, reference.result, reference.caveats) == (None, ReferenceResult(mAP=50, rank1=60), ())
    assert reference_of(load_recipe("small"), {"auto": dataset}, "auto") is None


def test_a_row_of_another_version_is_told_of(site):
    recipe = load_recipe("small", ["reference=gone/row-1", "reference_results={market1501: {mAP: 50}}", f"root={site}"])
    dataset = replace(recipe.open_dataset("auto"), name="market1501", notes=())
    (caveat,) = reference_of(recipe, {"auto": dataset}, "auto").caveats
    assert caveat == "This version has no reference row 'gone/row-1', so changes from it cannot be listed."


def test_figures_are_percent():
    vectors = np.array([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0], [0.8, 0.2]], dtype=np.float32)
    role = np.array(["query", "gallery", "query", "gallery"])
    table = Embeddings(vectors, np.array([0, 0, 1, 1]), np.array([0, 1, 0, 1]), role)
    assert figures(evaluate(table)) == Figures(mAP=100, rank1=100)
