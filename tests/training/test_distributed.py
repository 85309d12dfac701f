"""Two processes on the CPU do what one does."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from passerby.evaluation import evaluate
from passerby.models.embedder import load_embedder
from passerby.training import run_log
from passerby.training.session import train
from passerby.training.trainer import make_trainer
from passerby.types import Embeddings
from tests.conftest import JOINT
from tests.embedded import embed_tested
from tests.training.gathering import CASES
from tests.training.runs import optimiser_hash, weights
from tests.training.two_processes import train_in_two

NO_BATCH_NORM = ["model.backbone=test_vit", "model.last_stride=2", "model.neck=none", "stages.0.epochs=1"]
UNLABELLED = ["stages=[{train: [market1501], labelled: false, epochs: 1}]", "losses={softmax: null, triplet: null}"]
VARIANTS = {
    "gathered": [*NO_BATCH_NORM, "optim.name=sgd", "optim.lr=0.05", "optim.warmup_epochs=0"],
    "accumulated": [
        *NO_BATCH_NORM,
        "optim.name=sgd",
        "optim.lr=0.05",
        "optim.warmup_epochs=0",
        "engine.grad_accum_steps=2",
    ],
    "joint": [*NO_BATCH_NORM, JOINT, "data.sampler=per_domain", "optim.name=sgd", "optim.lr=0.05"],
    "backbone frozen at first": [
        *NO_BATCH_NORM,
        "optim.name=sgd",
        "optim.lr=0.05",
        "optim.freeze_backbone_steps=3",
    ],
    "backbone frozen in a stage": [
        *NO_BATCH_NORM,
        "optim.name=sgd",
        "optim.lr=0.05",
        "stages=[{train: [market1501], epochs: 1, freeze: ['backbone.*']}, {train: [market1501], epochs: 1}]",
    ],
    "batch norm": ["test.every=1"],
    "running mean": ["optim.ema_decay=0.8", "stages.0.epochs=1"],
    "clusters": [
        *UNLABELLED,
        *NO_BATCH_NORM,
        "optim.name=sgd",
        "optim.lr=0.05",
        "method.contrast={cluster: {kind: kmeans, k: 5}}",
    ],
    "images": [
        *UNLABELLED,
        *NO_BATCH_NORM,
        "optim.name=sgd",
        "optim.lr=0.05",
        "method.spcl={cluster: {eps: 0.6, k1: 6, k2: 2}}",
    ],
    "mean teachers": [UNLABELLED[0], "method.mmt={cluster: {kind: kmeans, k: 5}}", "evaluate=[]"],
    "local": ["engine.mining=local", "stages.0.epochs=1"],
    "centres": [
        *NO_BATCH_NORM,
        "optim.name=sgd",
        "optim.lr=0.05",
        "engine.mining=local",
        "losses={triplet: null, center: {weight: 0.05}}",
    ],
}


AS_IN_ONE = [
    "gathered",
    "accumulated",
    "joint",
    "clusters",
    "images",
    "backbone frozen at first",
    "backbone frozen in a stage",
    "centres",
]
BROKEN_OFF = {"batch norm": 3, "running mean": 3, "mean teachers": 2, "backbone frozen at first": 3}
"""Variants that are also stopped before so many batches are done, and gone on with."""


@pytest.fixture(scope="module")
def two(tiny_file, tmp_path_factory):
    """Train all variants in two processes; return the folder."""
    out = tmp_path_factory.mktemp("two")
    train_in_two(tiny_file, out, {**CASES, **VARIANTS}, broken_off=BROKEN_OFF)
    return out


@pytest.fixture(scope="module")
def ranks(two):
    return [json.loads((two / f"rank{rank}.json").read_text()) for rank in range(2)]


@pytest.mark.parametrize("variant", [*CASES, *VARIANTS])
def test_all_processes_end_with_the_same_weights(ranks, variant):
    assert ranks[0][variant] == ranks[1][variant]


def test_every_process_refuses_what_is_refused(ranks):
    assert "already holds a run" in ranks[0]["refused"]
    assert ranks[0]["refused"] == ranks[1]["refused"]


@pytest.mark.parametrize("variant", AS_IN_ONE)
def test_a_step_of_two_equals_a_step_of_one(two, tiny, tmp_path, variant):
    train(tiny(*VARIANTS[variant]), tmp_path / "one")
    at_the_start = make_trainer(tiny(*VARIANTS[variant]), tmp_path / "start").state.embedder.state_dict()
    together, alone = (load_file(folder / "embedder.safetensors") for folder in (two / variant, tmp_path / "one"))
    moved = max(float((alone[name] - at_the_start[name]).abs().max()) for name in alone)
    apart = max(float((alone[name] - together[name]).abs().max()) for name in alone)
    assert moved > 1e-3
    assert apart < 1e-5


@pytest.mark.parametrize("case", CASES)
def test_two_processes_learn_what_one_does_by_every_loss_and_every_method(two, tiny, tmp_path, case):
    train(tiny(*CASES[case]), tmp_path / "one")
    at_the_start = make_trainer(tiny(*CASES[case]), tmp_path / "start").state.embedder.state_dict()
    together, alone = (load_file(folder / "embedder.safetensors") for folder in (two / case, tmp_path / "one"))
    names = [name for name in alone if alone[name].is_floating_point()]
    assert max(float((alone[name] - at_the_start[name]).abs().max()) for name in names) > 1e-4
    assert max(float((alone[name] - together[name]).abs().max()) for name in names) < 1e-5


@pytest.mark.parametrize("variant", BROKEN_OFF)
def test_two_processes_go_on_in_the_middle_of_an_epoch_as_if_never_stopped(two, ranks, variant):
    whole, broken = two / variant, two / f"{variant}, broken off"
    assert weights(broken) == weights(whole)
    assert optimiser_hash(broken) == optimiser_hash(whole)
    assert [rank[f"{variant}, stopped"] for rank in ranks] == [True, True]


def test_a_loss_that_is_not_finite_in_one_process_ends_all_with_the_sentence(ranks):
    for rank in ranks:
        assert "the loss of process 2 of 2 is not finite at stage 1, epoch 1, batch 2" in rank["not finite"]


def test_local_mining_is_something_else(two):
    one, other = (load_file(two / name / "embedder.safetensors") for name in ("local", "batch norm"))
    assert any(not torch.equal(one[name], other[name]) for name in one)


def test_centres_move_by_the_images_of_all_processes_where_each_mines_alone(two, tiny, tmp_path):
    train(tiny(*VARIANTS["centres"]), tmp_path / "one")
    together, alone = (
        torch.load(folder / "last.pt", weights_only=True)["losses"]["losses.center.centres"]
        for folder in (two / "centres", tmp_path / "one")
    )
    assert float((together - alone).abs().max()) < 1e-5


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


def test_two_processes_pull_as_one(two, tiny, tmp_path):
    train(tiny(*VARIANTS["gathered"]), tmp_path / "one")
    together, alone = (
        run_log.gradients(run_log.read(f / "log.jsonl"))[0] for f in (two / "gathered", tmp_path / "one")
    )
    assert {n: t.norm for n, t in together.terms.items()} == pytest.approx(
        {n: t.norm for n, t in alone.terms.items()}, rel=1e-4
    )
