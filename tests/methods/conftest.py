"""Tiny runs that stand where methods are called."""

import pytest

from passerby.training.trainer import make_trainer
from tests.methods.steps import shake
from tests.methods.test_weight_penalty import TWO_SITES


@pytest.fixture
def later(tiny, tmp_path):
    """Return what begins a run, ends its first stage untrained, and opens the second, with other weights if shaken."""

    def begin(*overrides, shaken=True):
        run = make_trainer(tiny(*TWO_SITES, *overrides), tmp_path / "run")
        run.open_stage(0)
        for method in run.state.active_methods:
            method.on_stage_end(run.context)
        run.open_stage(1)
        if shaken:
            shake(run.state.embedder)
        run.state.embedder.train()
        return run

    return begin


@pytest.fixture
def unknown(tiny, tmp_path):
    """Return what begins a run in a stage of 24 unknown images, whose people have been found."""

    def begin(*overrides, stage=""):
        stages = f"stages=[{{train: [other], labelled: false, epochs: 3{stage}}}]"
        alone = "losses={softmax: null, triplet: null}"
        run = make_trainer(
            tiny(stages, alone, "data.sampler.identities=2", "evaluate=[]", *overrides), tmp_path / "run"
        )
        run.open_stage(0)
        run.assign_labels()
        run.state.embedder.train()
        return run

    return begin
