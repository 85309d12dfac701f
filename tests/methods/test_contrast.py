"""Cluster contrast against numbers computed elsewhere, and its memory in a run."""

import json
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from passerby.methods.contrast import contrast_loss, moved_memory
from tests.methods.steps import some

ORACLE = json.loads((Path(__file__).parents[1] / "oracles_data" / "memory_cluster_contrast.json").read_text())


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
