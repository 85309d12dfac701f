"""Cluster contrast against numbers computed elsewhere, and its memory in a run."""

import json
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from passerby.errors import UserError
from passerby.methods.contrast import PrototypesSettings, contrast_loss, moved_memory
from passerby.training.trainer import make_trainer
from tests.methods.steps import some

DATA = Path(__file__).parents[1] / "oracles_data"
ORACLE = json.loads((DATA / "memory_cluster_contrast.json").read_text())
PCL = json.loads((DATA / "clip_reid_losses.json").read_text())["pcl"]


def test_the_loss_and_its_gradient_equal_the_known_numbers():
    inputs, labels = torch.tensor(ORACLE["inputs"], requires_grad=True), torch.tensor(ORACLE["targets"])
    loss = contrast_loss(inputs, labels, torch.tensor(ORACLE["centroids"]), temperature=ORACLE["temp"])
    loss.backward()
    assert loss.item() == pytest.approx(ORACLE["all"]["loss"], rel=1e-4)
    assert torch.allclose(inputs.grad, torch.tensor(ORACLE["all"]["grad_inputs"]), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("update", ["all", "hard"])
def test_the_memory_moves_to_the_known_place(update):
    memory, inputs, labels = (torch.tensor(ORACLE[name]) for name in ("centroids", "inputs", "targets"))
    moved = moved_memory(memory, inputs, labels, momentum=ORACLE["momentum"], update=update)
    assert torch.allclose(moved, torch.tensor(ORACLE[update]["memory_after"]), rtol=1e-4, atol=1e-5)
    assert torch.equal(memory, torch.tensor(ORACLE["centroids"])), "the memory before is not changed in place"


def test_the_order_of_images_counts_only_where_all_of_them_move_a_cluster():
    memory, inputs, labels = (torch.tensor(ORACLE[name]) for name in ("centroids", "inputs", "targets"))
    back = torch.arange(len(inputs)).flip(0)
    hard, other = (moved_memory(memory, inputs[rows], labels[rows], update="hard") for rows in (back, back.flip(0)))
    assert torch.allclose(hard, other)
    every, other = (moved_memory(memory, inputs[rows], labels[rows], update="all") for rows in (back, back.flip(0)))
    assert not torch.allclose(every, other)


@pytest.mark.parametrize(("vector", "update"), [("after_neck", "all"), ("before_neck", "hard")])
def test_every_batch_is_told_from_the_memory_and_then_moves_it(unknown, vector, update):
    run = unknown(
        f"method.contrast={{cluster: {{kind: kmeans, k: 3}}, feature: {vector}, update: {update}, momentum: 0.3}}"
    )
    method, vectors = run.state.methods["contrast"], torch.from_numpy(getattr(run.context.vectors(), vector))
    means = [F.normalize(F.normalize(vectors[run.state.counters.labels == label]).mean(0), dim=0) for label in range(3)]
    torch.testing.assert_close(method.memory, torch.stack(means))
    earlier = method.memory
    for rows in ((0, 5, 9, 14), (23, 2, 3, 17)):
        batch = some(run, rows=rows, labels=run.state.counters.labels)
        out, memory = run.state.embedder(batch.inputs), method.memory.clone()
        seen = getattr(out, vector).detach()
        loss = method.losses(run.context, batch, out)["contrast"].value
        torch.testing.assert_close(loss, contrast_loss(seen, batch.labels, memory))
        with torch.no_grad():
            method.after_step(run.context, batch, out)
        wanted = moved_memory(memory, seen, batch.labels, momentum=0.3, update=update)
        torch.testing.assert_close(method.memory, wanted)
        assert not torch.allclose(method.memory[batch.labels[0]], memory[batch.labels[0]], atol=1e-3)
    assert not torch.equal(method.memory, earlier)


def test_prototypes_of_known_identities_against_independent_figures():
    memory, x = (torch.tensor(PCL[name], dtype=torch.float64) for name in ("prototypes", "features"))
    labels, settings = torch.tensor(PCL["labels"]), PrototypesSettings()
    assert (settings.temperature, settings.momentum, settings.update) == (PCL["tau"], PCL["momentum_on_old"], "hard")
    loss = contrast_loss(x, labels, memory.float(), temperature=settings.temperature).item()
    assert loss == pytest.approx(PCL["loss"], rel=1e-5)
    moved = moved_memory(memory.float(), x, labels, momentum=settings.momentum, update=settings.update)
    torch.testing.assert_close(moved, torch.tensor(PCL["prototypes_after_hard"]), rtol=1e-4, atol=1e-5)
    every = moved_memory(memory.float(), x, labels, momentum=settings.momentum, update="all")
    torch.testing.assert_close(every, torch.tensor(PCL["prototypes_after_all_in_order"]), rtol=1e-4, atol=1e-5)
    assert (moved - torch.tensor(PCL["WRONG_prototypes_momentum_on_new"])).abs().max() > 0.1


def test_prototypes_begin_at_the_identities_in_every_epoch(tiny, tmp_path):
    run = make_trainer(tiny("losses={softmax: {weight: 0.25}, triplet: null}", "method.prototypes={}"), tmp_path)
    run.open_stage(0)
    for epoch in range(2):
        run.state.counters.epoch, run.state.counters.labels = epoch, None
        labels = torch.from_numpy(run.assign_labels())
        units, method = F.normalize(torch.from_numpy(run.context.vectors().after_neck)), run.state.methods["prototypes"]
        means = [F.normalize(units[labels == label].mean(0), dim=0) for label in range(6)]
        torch.testing.assert_close(method.memory, torch.stack(means))
        before = method.memory
        run.step(some(run, rows=range(0, 48, 6)), count=1)
        assert not torch.equal(method.memory, before)
        assert set(run.state.counters.sums) == {"softmax", "contrast"}


def test_prototypes_need_known_identities(tiny):
    with pytest.raises(UserError, match=r"method.prototypes needs known identities, and stage 'market1501' is unlab"):
        tiny("stages=[{train: [market1501], labelled: false}]", "method={prototypes: {}, pseudo: {}}")
