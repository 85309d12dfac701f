"""What every network and norm that a method brings along must follow: weight decay, frozen norms, ghost batch norm."""

import numpy as np
import pytest
import torch

from passerby.errors import UserError
from passerby.models.groups import GroupedNorm, batch_norms
from passerby.models.pooling import Pool
from passerby.recipe import MethodSettings
from passerby.training.trainer import make_trainer
from tests.contracts.test_methods import recipe_with
from tests.methods.steps import some

NAMES = [name for name in MethodSettings.model_fields if name != "prompts"]
"""All methods but that of CLIP's towers, which have no learned power of a pooling and no batch norm."""


def second_stage(recipe, folder):
    """Open the second stage of a run whose first one is not trained, at the start of its first epoch."""
    run = make_trainer(recipe, folder)
    run.open_stage(0)
    for method in run.state.active_methods:
        method.on_stage_end(run.context)
    run.open_stage(1)
    run.assign_labels()
    run.state.embedder.train()
    return run


@pytest.mark.parametrize("name", NAMES)
def test_all_learned_powers_are_spared_and_all_norms_are_grouped(tiny, tmp_path, name):
    run = second_stage(recipe_with(tiny, name, 0, "model.pool=gem_learned", "engine.ghost_batch_size=2"), tmp_path)
    decay = {id(p): group["weight_decay"] for group in run.state.optimiser.param_groups for p in group["params"]}
    pools = [m for module in run.state.modules for m in module.modules() if isinstance(m, Pool)]
    powers = [p for pool in pools for p in pool.parameters() if p.requires_grad]
    assert [decay[id(power)] for power in powers] == [0] * len(powers)
    assert len(powers) == (2 if name == "mmt" else 1)
    norms = [n for method in run.state.active_methods for n in batch_norms(method) if n.training]
    assert all(isinstance(norm, GroupedNorm) for norm in norms)
    assert bool(norms) == (name in ("mmt", "pplr"))


@pytest.mark.parametrize("name", NAMES)
def test_norms_stand_still_where_the_recipe_says_so(tiny, tmp_path, name):
    try:
        recipe = recipe_with(tiny, name, 0, "optim.batch_norm=freeze_all")
    except UserError as error:
        assert name == "mmt"
        assert "optim.batch_norm" in str(error)  # noqa: PT017
        return
    run = second_stage(recipe, tmp_path)
    norms = [norm for module in (run.state.embedder, *run.state.active_methods) for norm in batch_norms(module)]
    before = [{key: value.clone() for key, value in norm.state_dict().items()} for norm in norms]
    rows = np.arange(0, len(run.state.stage.train), 3)
    run.step(some(run, rows=rows, labels=run.state.counters.labels), count=1)
    for norm, state in zip(norms, before, strict=True):
        assert all(torch.equal(value, norm.state_dict()[key]) for key, value in state.items())
