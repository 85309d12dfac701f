"""Self-paced contrast against numbers computed elsewhere, and its two kinds of batch norms."""

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from passerby.methods.spcl import SpclSettings, memory_loss, moved_rows
from passerby.models.domains import divide_batch_norms, join_batch_norms
from tests.train.runs import state_hash

ORACLE = json.loads((Path(__file__).parents[1] / "oracles_data" / "memory_spcl.json").read_text())


def wide(name):
    return torch.tensor(ORACLE[name], dtype=torch.float64)


def test_the_loss_equals_the_known_number_and_not_that_of_the_padded_softmax():
    rows, people = torch.tensor(ORACLE["indexes"]), torch.tensor(ORACLE["labels"])
    loss = memory_loss(wide("inputs"), people[rows], torch.tensor(ORACLE["memory"]), people, temperature=ORACLE["temp"])
    assert loss.item() == pytest.approx(ORACLE["loss_exact_log_softmax"], rel=1e-4)
    assert loss.item() != pytest.approx(ORACLE["loss"], rel=1e-2)


def test_rows_move_to_the_known_place_one_after_the_other():
    memory, rows = torch.tensor(ORACLE["memory"]), torch.tensor(ORACLE["indexes"])
    moved = moved_rows(memory, wide("inputs"), rows, momentum=ORACLE["momentum"])
    assert torch.allclose(moved, torch.tensor(ORACLE["memory_after"]), rtol=1e-4, atol=1e-5)
    assert rows.tolist().count(3) == 2, "one row moves twice"


def test_a_radius_needs_room_on_both_sides():
    with pytest.raises(ValueError, match=r"step 0.1 leaves no radius in \(0, 1\) around cluster.eps 0.95"):
        SpclSettings(step=0.1, cluster={"eps": 0.95})


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.BatchNorm1d(16))


def test_each_kind_of_image_has_statistics_of_its_own():
    images = torch.randn(8, 3, 4, 4) + torch.arange(8).reshape(-1, 1, 1, 1)
    others = torch.tensor([False, True] * 4)
    net, mine, theirs = network(), network(), network()
    norms, division = divide_batch_norms(net)
    division.others = others
    out = net(images)
    assert torch.allclose(out[~others], mine(images[~others]), atol=1e-5)
    assert torch.allclose(out[others], theirs(images[others]), atol=1e-5)
    assert torch.allclose(net[1].running_mean, mine[1].running_mean)
    assert torch.allclose(norms[0].running_mean, theirs[1].running_mean)
    division.others = torch.ones(8, dtype=torch.bool)
    before = state_hash(net.state_dict())
    net(images)
    assert state_hash(net.state_dict()) == before, "a batch of others leaves the new site's statistics alone"


def test_other_images_move_statistics_of_their_own_even_where_the_network_was_just_tested():
    net, images = network().eval(), torch.randn(4, 3, 4, 4) + 5
    norms, division = divide_batch_norms(net)
    division.others = torch.tensor([True, False, True, False])
    net.train()(images)
    assert not torch.allclose(norms[0].running_mean, torch.zeros(4))


def test_at_test_and_afterwards_the_network_is_the_new_sites_and_plain():
    net, plain, images = network(), network(), torch.randn(4, 3, 4, 4)
    names = list(net.state_dict())
    _, division = divide_batch_norms(net)
    division.others = torch.tensor([True, False, True, False])
    assert torch.allclose(net.eval()(images), plain.eval()(images))
    join_batch_norms(net)
    assert [type(module) for module in net] == [type(module) for module in plain]
    assert list(net.state_dict()) == names
