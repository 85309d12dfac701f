"""Every method of lifelong training on a tiny image tower of CLIP, which pools its own tokens and has layer norms."""

import math

import pytest
import torch

from passerby.errors import UserError
from passerby.methods.table import METHODS
from passerby.recipe import load_recipe
from passerby.training import run_log
from passerby.training.session import Interrupted, train
from tests.methods.test_pairs import Left, tensors
from tests.training.runs import interrupt_after, optimiser_hash, weights

SIZES = "width: 16, depth: 2, heads: 2, patch: 8, stride: 6, projection: 8"
TOWER = f"model={{backbone: clip_vit, last_stride: 2, architecture: {{{SIZES}}}}}"
NAMES = (
    "average", "feature", "affinity", "lstkc_pp", "lwf", "ebll", "ewc", "si", "mas", "replay", "grow", "dkp", "dask",
)  # fmt: skip


def test_all_methods_that_compare_with_an_earlier_model_are_tried():
    assert {name for name, kind in METHODS.items() if kind.needs_previous_model} <= set(NAMES)


@pytest.fixture(scope="module")
def plain(tiny, tmp_path_factory):
    """A run of the tower without any method."""
    return Left(tiny, tmp_path_factory.mktemp("plain"), (), TOWER)


@pytest.mark.parametrize("name", NAMES)
def test_a_method_changes_the_weights_or_remembers_on_a_tower(tiny, tmp_path, plain, name):
    left = Left(tiny, tmp_path, (name,), TOWER)
    now, before = (each.run.state.embedder.state_dict() for each in (left, plain))
    assert all(torch.isfinite(value).all() for value in now.values())
    changed = max(float((now[key] - before[key]).abs().max()) for key in now)
    remembered = tensors(left.run.state.methods[name])
    assert all(torch.isfinite(value).all() for value in remembered.values() if value.ndim)
    if name in ("ebll", "grow", "dask", "ewc"):
        assert remembered
    if name != "grow":  # two steps of a wider classifier differ too, but by its initial rows alone
        assert changed > 1e-7


def test_a_run_on_a_tower_broken_off_goes_on_bit_for_bit(tiny, tmp_path):
    stages = "stages=[{train: [market1501], epochs: 1, iterations: 1}, {train: [other], epochs: 1, iterations: 2}]"
    methods = "method={lstkc_pp: {}, grow: {}}"
    recipe = tiny(TOWER, stages, methods, "evaluate=[]", "data.sampler.identities=2")
    train(recipe, tmp_path / "whole")
    with pytest.raises(Interrupted, match="stage 2"):
        train(recipe, tmp_path / "broken", watch=[second_stage])
    train(recipe, tmp_path / "broken", start="resume")
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    assert (weights(broken), optimiser_hash(broken)) == (weights(whole), optimiser_hash(whole))
    first, second = run_log.epochs(run_log.read(whole / "log.jsonl"))
    assert (set(first.terms), "teachers" in second.terms) == ({"softmax", "triplet"}, True)
    assert all(math.isfinite(term.value) for term in second.terms.values())


def second_stage(run, engine):
    if run.state.counters.stage == 1:
        interrupt_after(1)(run, engine)


def test_a_code_before_the_pooling_is_refused_where_the_tower_pools_itself(tiny, tmp_path):
    with pytest.raises(UserError, match="there is no map before the pooling; use after_pooling"):
        Left(tiny, tmp_path, ("ebll",), TOWER, "method.ebll.place=before_pooling")


def test_the_recipe_has_the_settings_of_the_image_tower_of_clip_reid():
    recipe = load_recipe("lifelong_clip")
    (stage,), optim = recipe.stages, recipe.optim
    assert (recipe.model.backbone, recipe.model.weights, recipe.input.mean) == (
        "clip_vit",
        "pretrained",
        (0.5, 0.5, 0.5),
    )
    assert (optim.name, optim.lr, optim.weight_decay, optim.milestones) == ("adam", 5e-6, 1e-4, (30, 50))
    assert (optim.warmup_epochs, optim.warmup_factor) == (10, 0.1)
    assert [(group.match, group.lr_scale) for group in optim.groups] == [("*.bias", 2)]
    assert (stage.data.sampler.identities, stage.data.sampler.instances) == (16, 4)
    assert (stage.epochs, stage.identities, stage.losses.softmax.smoothing) == (60, 500, 0)
