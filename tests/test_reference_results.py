"""Every reference row differs from its parent as stated, holds the published results, and trains."""

import functools
import json
import shutil
from pathlib import Path

import pytest
import timm
import torch

from passerby.inputs import InputSettings
from passerby.models.embedder import Embedder, ModelSettings
from passerby.recipe import load_recipe, make_recipe
from passerby.reference_results import Figures, ReferenceResult, shipped_rows
from passerby.settings import parse_yaml
from passerby.training import run_log
from passerby.training.session import train
from tests.reference_rows import (
    BASELINE,
    LEARNED,
    ROWS,
    THREE,
    as_duke,
    as_msmt,
    at,
    differences,
    resolved,
    with_stages,
)
from tests.test_recipes import TINY


def test_the_shipped_rows_are_those_of_the_tables():
    families = {name.partition("/")[0] for name in ROWS}
    assert [name for name in shipped_rows() if name.partition("/")[0] in families] == list(ROWS)


def test_the_baseline_is_what_the_tables_call_so():
    assert {path: at(resolved("baseline"), path) for path in BASELINE} == BASELINE


@pytest.mark.parametrize("name", ROWS)
def test_a_row_differs_from_its_parent_as_stated_and_in_nothing_else(name):
    row = ROWS[name]
    count = len(resolved(name)["stages"])
    assert count >= len(resolved(row.parent)["stages"])
    assert differences(resolved(row.parent), resolved(name)) == with_stages(row.differs, count=count)
    assert shipped_rows()[name].based_on == row.parent


def test_a_row_that_is_two_rows_together_differs_from_each_by_the_other():
    both = resolved("market1501/resnet50-16")
    assert differences(resolved("market1501/resnet50-05"), both) == with_stages(LEARNED)
    assert differences(resolved("market1501/resnet50-09"), both) == with_stages({"losses.triplet.weight": 2.0})


@pytest.mark.parametrize("name", ROWS)
def test_the_reference_results_are_the_published_ones_and_part_of_the_recipe(name):
    row, recipe = ROWS[name], load_recipe(name)
    reranked = None if row.reranked is None else Figures(mAP=row.reranked[0], rank1=row.reranked[1])
    losses = dict(zip(("ae", "ae_l1", "ae_l2"), row.losses, strict=False))
    results = {
        dataset: ReferenceResult(
            **dict(zip(("mAP", "rank1", "mean"), found, strict=False)), reranked=reranked, **losses
        )
        for dataset, found in row.figures.items()
    }
    assert recipe.reference_results == shipped_rows()[name].results == results
    assert recipe.reference == name
    assert make_recipe(parse_yaml(recipe.dump(), source="dump"), source="dump") == recipe


@functools.cache
def dimension_of(model: str, inputs: str) -> int:
    """Build the network of settings in JSON; many rows have the same."""
    with torch.device("meta"):
        network = Embedder(ModelSettings.model_validate_json(model), InputSettings.model_validate_json(inputs))
    return network.dimension


@pytest.mark.parametrize("name", ROWS)
def test_the_whole_network_of_a_row_can_be_built_and_has_weights(name):
    recipe = load_recipe(name)
    assert timm.models.get_pretrained_cfg(recipe.model.backbone).has_weights
    assert recipe.model.weights == "pretrained"
    model = recipe.model.model_copy(update={"weights": "none"})
    assert dimension_of(model.model_dump_json(), recipe.input.model_dump_json()) == 2048


# ---- two steps of each

ALIKE = ("101", "resnet50-02", "market1501/resnet50-03", "resnet50-07", "resnet50-08", "dukemtmc/ibn_a_resnet50-03")
"""Parts of names of rows that are another row once it is tiny: with another network, batch, weight or seed."""
TRAINED = [name for name in ROWS if not name.startswith(("joint", "ebll")) and not any(part in name for part in ALIKE)]


@pytest.fixture(scope="module")
def sites(site, tmp_path_factory) -> Path:
    """The tiny site three times, in one folder, as each of the three sets lies."""
    root = tmp_path_factory.mktemp("three")
    shutil.copytree(site, root / "Market-1501-v15.09.15")
    as_duke(site, root / "DukeMTMC-reID")
    as_msmt(site, root / "MSMT17_V1")
    return root


@pytest.mark.parametrize("name", TRAINED)
def test_a_row_trains(name, sites, tmp_path):
    recipe = load_recipe(name, [f"root={sites}", *TINY, "evaluate=[]"])
    train(recipe, tmp_path)
    (epoch,) = run_log.epochs(run_log.read(tmp_path / "log.jsonl"))
    assert epoch.loss > 0
    assert set(epoch.terms) == set(load_recipe(name).losses.chosen)


@pytest.mark.parametrize("name", [name for name in ROWS if name.startswith("joint")])
def test_a_joint_row_trains_on_all_and_is_tested_on_each(name, sites, tmp_path):
    recipe = load_recipe(name, [f"root={sites}", *TINY, "data.sampler.identities=18"])
    results = train(recipe, tmp_path)
    assert [result.dataset for result in results] == THREE
    scores = json.loads((tmp_path / "scores.json").read_text())
    for dataset, (mAP, rank1) in ROWS[name].figures.items():
        reference = scores[dataset]["reference"]["result"]
        assert (reference["mAP"], reference["rank1"]) == (mAP, rank1)
    assert [dataset for dataset in scores if "reference" in scores[dataset]] == list(ROWS[name].figures)


SMALL_CODE = [
    "method.ebll.code=8", "method.ebll.epochs=60", "method.ebll.lr=0.02", "method.ebll.batch=16",
    "method.ebll.milestones=[]",
]  # fmt: skip


@pytest.mark.parametrize(
    "number",
    [
        "18",
        "before_pooling",
        *(pytest.param(name, marks=pytest.mark.slow) for name in ("06", "13", "before_pooling_mse")),
    ],
)
def test_a_row_that_leaves_a_code_trains(number, sites, tmp_path):
    name = f"ebll/ibn_a_resnet50-{number}"
    second = ["stages.1.epochs=1"] * (len(load_recipe(name).stages) - 1)
    train(load_recipe(name, [f"root={sites}", *TINY, *SMALL_CODE, *second, "evaluate=[]"]), tmp_path)
    records = run_log.read(tmp_path / "log.jsonl")
    terms = [set(epoch.terms) - {"softmax", "triplet"} for epoch in run_log.epochs(records)]
    held = ["ae"] if number == "06" else ["ae", "ae_l1", "ae_l2"]
    assert terms == [set(), *({"tr_dist", *(f"code 1 {name}" for name in held)} for _ in second)]
    assert [record.stage for record in run_log.metrics(records)] == [1]
