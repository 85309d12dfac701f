"""Self-paced contrast against numbers computed elsewhere, its memory in a run, and its two kinds of batch norms."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from passerby.distances.sparse import SparseRows
from passerby.methods.memory import moved_rows
from passerby.methods.spcl import SpclSettings, hybrid_loss, memory_loss, neighbouring_radii
from passerby.models.domains import Division
from tests.methods.steps import some
from tests.training.runs import state_hash

ORACLE = json.loads((Path(__file__).parents[1] / "oracles_data" / "memory_spcl.json").read_text())


def wide(name):
    return torch.tensor(ORACLE[name], dtype=torch.float64)


def test_the_loss_equals_the_known_number_and_not_that_of_the_padded_softmax():
    rows, people = torch.tensor(ORACLE["indexes"]), torch.tensor(ORACLE["labels"])
    loss = memory_loss(wide("inputs"), people[rows], torch.tensor(ORACLE["memory"]), people, temperature=ORACLE["temp"])
    assert loss.item() == pytest.approx(ORACLE["loss_exact_log_softmax"], rel=1e-4)
    assert loss.item() != pytest.approx(ORACLE["loss"], rel=1e-2)


def test_the_gradient_equals_that_of_the_padded_softmax_once_padded():
    inputs = F.normalize(wide("inputs")).requires_grad_()
    rows, people = torch.tensor(ORACLE["indexes"]), torch.tensor(ORACLE["labels"])
    memory = torch.tensor(ORACLE["memory"], dtype=torch.float64)
    cosines = F.normalize(inputs.float()).double() @ memory.T / ORACLE["temp"]
    whole = torch.stack([cosines[:, people == person].mean(1) for person in range(6)], dim=1).exp().sum(1)
    each = [
        memory_loss(inputs[[place]], people[rows[[place]]], memory.float(), people, temperature=ORACLE["temp"])
        for place in range(len(rows))
    ]
    share = (-torch.stack(each)).exp()  # what an image has of its person's softmax
    padded = -torch.log(share * whole / (whole + 1e-6) + 1e-6).mean()
    assert padded.item() == pytest.approx(ORACLE["loss"], rel=1e-4)
    padded.backward()
    known = wide("grad_inputs")  # by inputs whose length is already 1, so without what points along them
    along = (known * inputs.detach()).sum(1, keepdim=True) * inputs.detach()
    torch.testing.assert_close(inputs.grad, known - along, atol=1e-4, rtol=1e-3)


def test_the_loss_is_the_sum_of_two_means_of_labelled_and_of_unlabelled_images():
    generator = torch.Generator().manual_seed(0)
    memory, people = F.normalize(torch.randn(40, 16, generator=generator)), torch.arange(40)
    x, labels = torch.randn(12, 16, generator=generator), torch.tensor([0, 12, 3, 13, 14, 11, 39, 1, 2, 20, 20, 21])
    known = labels < 10
    each = [memory_loss(x[rows], labels[rows], memory, people) for rows in (known, ~known)]
    found = hybrid_loss(x, labels, memory, people, count_known=10)
    assert found.item() == pytest.approx(sum(each).item(), rel=1e-6)
    assert found.item() > 1.5 * memory_loss(x, labels, memory, people).item()
    for rows in (known, ~known):  # of one kind alone
        alone = hybrid_loss(x[rows], labels[rows], memory, people, count_known=10)
        assert alone.item() == pytest.approx(memory_loss(x[rows], labels[rows], memory, people).item(), rel=1e-6)


def test_rows_move_to_the_known_place_one_after_the_other():
    memory, rows = torch.tensor(ORACLE["memory"]), torch.tensor(ORACLE["indexes"])
    moved = moved_rows(memory, wide("inputs"), rows, momentum=ORACLE["momentum"])
    assert torch.allclose(moved, torch.tensor(ORACLE["memory_after"]), rtol=1e-4, atol=1e-5)
    assert rows.tolist().count(3) == 2, "one row moves twice"


def test_a_radius_needs_room_on_both_sides():
    with pytest.raises(ValueError, match=r"step 0.1 leaves no radius in \(0, 1\) around cluster.eps 0.95"):
        SpclSettings(step=0.1, cluster={"eps": 0.95})


@pytest.mark.parametrize(
    ("eps", "radii"), [(0.6, (0.58, 0.62)), (0.01, (0.005, 0.03)), (7e-5, (3.5e-5, 0.02007)), (0.99, (0.97, 0.995))]
)
def test_radii_around_a_radius_that_the_data_gave_stay_in_range(eps, radii):
    assert neighbouring_radii(eps, 0.02) == pytest.approx(radii)


def test_a_radius_that_is_a_small_share_of_the_distances_leaves_clusters(unknown):
    run = unknown(
        "method.spcl={cluster: {eps: share, share: 0.002, k1: 6, k2: 2, min_samples: 2}, max_noise_ratio: 1.0}"
    )
    assert 0 < float(run.state.methods["spcl"].eps) < 0.02
    assert (run.state.counters.labels >= 0).all()


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.BatchNorm1d(16))


def test_each_kind_of_image_has_statistics_of_its_own():
    images = torch.randn(8, 3, 4, 4) + torch.arange(8).reshape(-1, 1, 1, 1)
    others = torch.tensor([False, True] * 4)
    net, mine, theirs = network(), network(), network()
    present = [others]
    division = Division(net, lambda: present[0])
    out = net(images)
    assert torch.allclose(out[~others], mine(images[~others]), atol=1e-5)
    assert torch.allclose(out[others], theirs(images[others]), atol=1e-5)
    assert torch.allclose(net[1].running_mean, mine[1].running_mean)
    assert torch.allclose(division.norms[0].running_mean, theirs[1].running_mean)
    present[0] = torch.ones(8, dtype=torch.bool)
    before = state_hash(net.state_dict())
    net(images)
    assert state_hash(net.state_dict()) == before, "a batch of others leaves the new site's statistics alone"


def test_other_images_move_statistics_of_their_own_even_where_the_network_was_just_tested():
    net, images = network().eval(), torch.randn(4, 3, 4, 4) + 5
    division = Division(net, lambda: torch.tensor([True, False, True, False]))
    net.train()(images)
    assert not torch.allclose(division.norms[0].running_mean, torch.zeros(4))


def test_at_test_and_afterwards_the_network_is_the_new_sites_and_plain():
    net, plain, images = network(), network(), torch.randn(4, 3, 4, 4)
    names = list(net.state_dict())
    division = Division(net, lambda: torch.tensor([True, False, True, False]))
    assert torch.allclose(net.eval()(images), plain.eval()(images))
    division.end()
    assert [type(module) for module in net] == [type(module) for module in plain]
    assert list(net.state_dict()) == names


# ---- in a run


def distances_of(count, near):
    """Return a graph (N, N) in which all are 0.9 apart but the pairs that are named."""
    values = np.full((count, count), 0.9, np.float32)
    np.fill_diagonal(values, 1e-6)
    for (one, other), distance in near.items():
        values[one, other] = values[other, one] = distance
    column = np.tile(np.arange(count), count)
    return SparseRows(np.arange(0, count * count + 1, count), column, values.ravel(), count)


def test_a_smaller_radius_tears_images_off_and_a_larger_one_joins_clusters():
    near = {(0, 1): 0.3, (1, 2): 0.49}  # the last one is torn off at 0.48
    near |= {(3, 4): 0.3, (5, 6): 0.3, (4, 5): 0.51}  # two pairs that are one at 0.52
    near |= {(7, 8): 0.3}  # stays whatever happens
    method = SpclSettings(cluster={"eps": 0.5, "min_samples": 2}).make()
    method.threshold.fill_(0.9)
    clusters, _ = method.find(np.eye(9, dtype=np.float32), distances_of(9, near))
    assert clusters.labels.tolist() == [0, 0, -1, -1, -1, -1, -1, 1, 1]


@pytest.mark.parametrize("beside", ["", ", source: [market1501]"])
def test_every_batch_is_told_from_the_memory_and_then_moves_the_rows_of_its_images(unknown, beside):
    cluster = "{k1: 6, k2: 2, min_samples: 2, eps: 0.6}"
    run = unknown(f"method.spcl={{cluster: {cluster}, momentum: 0.3, temperature: 0.1}}", stage=beside)
    method, stage = run.state.methods["spcl"], run.state.stage
    hidden = torch.from_numpy(stage.train.pid < 0)
    count = 6 if beside else 0
    assert hidden.sum() == 24
    assert method.identities.tolist() == [*range(count), *run.state.counters.labels[hidden].tolist()]
    known = torch.nonzero(~hidden).flatten().tolist()
    unseen = torch.nonzero(hidden).flatten().tolist()
    rows = [unseen[7], *known[1:3], unseen[0], *known[-1:], unseen[23]]  # two are of one known person
    batch = some(run, rows=rows, labels=run.state.counters.labels)
    run.state.batch = batch
    out, before = run.state.embedder(batch.inputs), method.memory.clone()
    loss = method.losses(run.context, batch, out)["memory"].value
    kinds = [rows for rows in (batch.labels < count, batch.labels >= count) if rows.any()]
    wanted = sum(
        memory_loss(out.after_neck[rows], batch.labels[rows], before, method.identities, temperature=0.1)
        for rows in kinds
    )
    torch.testing.assert_close(loss, wanted)
    with torch.no_grad():
        method.after_step(run.context, batch, out)
    wanted = before.clone()
    for row, vector in zip(rows, F.normalize(out.after_neck.detach()), strict=True):
        place = count + unseen.index(row) if row in unseen else int(stage.train.pid[row])
        wanted[place] = F.normalize(0.3 * wanted[place] + 0.7 * vector, dim=0)
    torch.testing.assert_close(method.memory, wanted)
    moved = (method.memory - before).norm(dim=1) > 1e-3
    assert moved.sum() == (5 if beside else 3)
