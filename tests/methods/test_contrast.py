"""Cluster contrast against numbers computed elsewhere."""

import json
from pathlib import Path

import pytest
import torch

from passerby.methods.contrast import contrast_loss, moved_memory

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
