"""Two processes on the CPU do what one does: one recipe of each kind; `test_distributed_sweep.py` has all others."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from passerby.evaluation import evaluate
from passerby.models.embedder import load_embedder
from passerby.training import run_log
from passerby.training.trainer import make_trainer
from passerby.types import Embeddings
from tests.embedded import embed_tested
from tests.training.gathering import VARIANTS
from tests.training.runs import optimiser_hash, weights
from tests.training.two_processes import compare_with_one, train_in_two

NAMES = ("gathered", "clusters", "local", "batch norm")


@pytest.fixture(scope="module")
def two(tiny_file, tmp_path_factory):
    """Train in two processes, one recipe also broken off before its third batch and gone on with; return the folder."""
    out = tmp_path_factory.mktemp("two")
    train_in_two(tiny_file, out, {name: VARIANTS[name] for name in NAMES}, broken_off={"batch norm": 3})
    return out


@pytest.fixture(scope="module")
def ranks(two):
    return [json.loads((two / f"rank{rank}.json").read_text()) for rank in range(2)]


@pytest.mark.parametrize("variant", NAMES)
def test_all_processes_end_with_the_same_weights(ranks, variant):
    assert ranks[0][variant] == ranks[1][variant]


def test_every_process_refuses_what_is_refused(ranks):
    assert "already holds a run" in ranks[0]["refused"]
    assert ranks[0]["refused"] == ranks[1]["refused"]


@pytest.mark.parametrize("variant", ["gathered", "clusters"])
def test_a_step_of_two_equals_a_step_of_one(two, tiny, tmp_path, variant):
    moved, apart = compare_with_one(two / variant, tiny(*VARIANTS[variant]), tmp_path / "one")
    assert moved > 1e-3
    assert apart < 1e-5
    norms = [
        {name: term.norm for name, term in record.terms.items()}
        for folder in (two / variant, tmp_path / "one")
        for record in run_log.gradients(run_log.read(folder / "log.jsonl"))[:1]
    ]
    assert norms[0] == pytest.approx(norms[1], rel=1e-4)
    assert norms[0], "the first step is measured"


def test_two_processes_go_on_in_the_middle_of_an_epoch_as_if_never_stopped(two, ranks):
    whole, broken = two / "batch norm", two / "batch norm, broken off"
    assert weights(broken) == weights(whole)
    assert optimiser_hash(broken) == optimiser_hash(whole)
    assert [rank["batch norm, stopped"] for rank in ranks] == [True, True]


def test_a_loss_that_is_not_finite_in_one_process_ends_all_with_the_sentence(ranks):
    for rank in ranks:
        assert "the loss of process 2 of 2 is not finite at stage 1, epoch 1, batch 2" in rank["not finite"]


def test_local_mining_is_something_else(two):
    one, other = (load_file(two / name / "embedder.safetensors") for name in ("local", "batch norm"))
    assert any(not torch.equal(one[name], other[name]) for name in one)


def test_scores_equal_those_of_one_process(two, tiny):
    folder = two / "batch norm"
    run = make_trainer(tiny(*VARIANTS["batch norm"]), folder)
    alone = embed_tested(load_embedder(folder / "embedder.safetensors"), run.setup.datasets["market1501"])
    together = Embeddings.load(folder / "embeddings" / "market1501.npz")
    assert together.path.tolist() == alone.path.tolist()
    np.testing.assert_allclose(together.vectors, alone.vectors, rtol=1e-4, atol=1e-4)
    told = json.loads((folder / "scores.json").read_text())["market1501"]["plain"]
    assert told["mAP"] == pytest.approx(100 * evaluate(alone).mAP, abs=0.01)
    assert json.loads((folder / "environment.json").read_text())["processes"] == "2"


def test_what_is_written_is_written_once(two):
    lines = (two / "batch norm" / "log.jsonl").read_text().splitlines()
    events = [json.loads(line)["event"] for line in lines]
    assert [event for event in events if event != "threads"] == ["gradients", *["epoch", "scores"] * 2]
