"""Distillation losses against numbers computed elsewhere, and what must hold for any vectors."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from passerby.losses.mining import hardest, pair_distances
from passerby.losses.triplet import triplet_loss
from passerby.methods.distillation import (
    affinity,
    affinity_divergence,
    entropy,
    feature_gap,
    rectified_affinity,
    softened_cross_entropy,
    worst_triplet,
)

FOLDER = Path(__file__).parents[1] / "oracles_data"
CE, TRIPLET, LSTKC = (json.loads((FOLDER / f"{name}.json").read_text()) for name in ("ce_dist", "tr_dist", "lstkc"))
CASES = ("mixed", "close_models", "identical_models_tie")


def wide(values):
    return torch.tensor(values, dtype=torch.float64)


def vectors(count=8, length=6, seed=0):
    return torch.randn(count, length, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


LABELS = torch.tensor([0, 0, 1, 1, 2, 2, 3, 3])


def test_softened_cross_entropy_equals_the_known_numbers():
    old, new = wide(CE["f_old"]), wide(CE["f_new"]).requires_grad_()
    loss = softened_cross_entropy(old, new)
    loss.backward()
    assert loss.item() == pytest.approx(CE["loss"], rel=1e-7)
    torch.testing.assert_close(new.grad, wide(CE["grad_f_new"]), atol=1e-11, rtol=1e-6)
    by_hand = ((new.detach() / 10).softmax(1) - (old / 10).softmax(1)) / (10 * len(old))
    torch.testing.assert_close(new.grad, by_hand)
    assert entropy(old).item() == pytest.approx(CE["loss_at_equality_entropy"], rel=1e-7)
    assert loss.item() - entropy(old).item() == pytest.approx(CE["kl_form"], rel=1e-4)
    assert softened_cross_entropy(old, new, scale="squared").item() == pytest.approx(CE["loss_times_T2"], rel=1e-7)


def test_softened_cross_entropy_is_nearly_inert_without_its_scale():
    generator = torch.Generator().manual_seed(0)
    old = torch.randn(8, 2048, generator=generator)
    norms = {}
    for scale in ("none", "squared"):
        new = (old + 0.5 * torch.randn(8, 2048, generator=generator)).requires_grad_()
        softened_cross_entropy(old, new, scale=scale).backward()
        norms[scale] = new.grad.norm().item()
    assert norms["none"] < 1e-4  # known elsewhere: 3.9e-5 for vectors of this kind
    assert norms["squared"] == pytest.approx(100 * norms["none"], rel=0.1)


def test_softened_cross_entropy_of_long_vectors_equals_the_known_numbers():
    known, generator = CE["inert_check_D2048"], np.random.RandomState(0)
    old, step = (torch.from_numpy(generator.standard_normal((8, 2048))) for _ in range(2))
    new = (old + 0.5 * step).requires_grad_()
    loss = softened_cross_entropy(old, new)
    loss.backward()
    assert loss.item() == pytest.approx(known["loss"], rel=1e-7)
    assert entropy(old).item() == pytest.approx(known["loss_at_equality"], rel=1e-7)
    assert loss.item() - entropy(old).item() == pytest.approx(known["excess"], rel=1e-4)
    assert new.grad.norm().item() == pytest.approx(known["grad_l2_norm"], rel=1e-6)
    assert (new - old).norm().item() == pytest.approx(known["feature_gap_l2"], rel=1e-6)


def test_softened_cross_entropy_stands_still_at_equality_and_under_a_shift():
    old = vectors()
    new = old.clone().requires_grad_()
    softened_cross_entropy(old, new).backward()
    assert new.grad.abs().max() < 1e-9
    other = vectors(seed=1)
    shifted = other + torch.arange(8.0)[:, None]
    assert softened_cross_entropy(old, shifted).item() == pytest.approx(softened_cross_entropy(old, other).item())


@pytest.mark.parametrize("name", CASES)
def test_worst_triplet_equals_the_known_numbers(name):
    case = TRIPLET[name]
    new, labels = wide(case["f_new"]).requires_grad_(), torch.tensor(case["labels"])
    loss = worst_triplet(wide(case["f_old"]), new, labels, margin=case["margin"])
    loss.backward()
    assert loss.item() == pytest.approx(case["loss"], rel=1e-7)
    torch.testing.assert_close(new.grad, wide(case["grad_f_new"]), atol=1e-8, rtol=1e-6)
    assert loss.item() >= case["lower_bound_from_old_model"] - 1e-9


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize(("model", "who"), [("f_old", "source"), ("f_new", "current")])
def test_what_either_model_finds_hardest_equals_the_known_numbers(name, model, who):
    case = TRIPLET[name]
    found = hardest(pair_distances(wide(case[model]), distance="euclidean_norm"), torch.tensor(case["labels"]))
    for distances, known in zip(found, ("ap", "an"), strict=True):
        torch.testing.assert_close(distances, wide(case[f"{who}_{known}"]), atol=1e-8, rtol=1e-7)


def test_worst_triplet_of_two_equal_models_has_half_the_gradient_of_a_plain_triplet():
    case = TRIPLET["identical_models_tie"]
    new, labels = wide(case["f_new"]).requires_grad_(), torch.tensor(case["labels"])
    plain = triplet_loss(new, labels, distance="euclidean_norm")
    assert worst_triplet(new.detach(), new, labels).item() == pytest.approx(plain.item())
    (plain_gradient,) = torch.autograd.grad(plain, new)
    (gradient,) = torch.autograd.grad(worst_triplet(new.detach(), new, labels), new)
    torch.testing.assert_close(gradient, case["ratio"] * plain_gradient)


def test_worst_triplet_does_not_look_at_order_or_numbers():
    old, new, order = vectors(), vectors(seed=1), torch.randperm(8, generator=torch.Generator().manual_seed(2))
    loss = worst_triplet(old, new, LABELS)
    assert worst_triplet(old[order], new[order], 7 - LABELS[order]).item() == pytest.approx(loss.item())
    assert loss >= triplet_loss(new, LABELS, distance="euclidean_norm") - 1e-12
    assert worst_triplet(old, new, torch.zeros(8, dtype=torch.int64)).item() == 0


def test_affinities_equal_the_known_numbers():
    old, new = affinity(wide(LSTKC["f_old"])), affinity(wide(LSTKC["f_new"]))
    torch.testing.assert_close(old, wide(LSTKC["affinity_old"]), atol=2e-5, rtol=1e-4)
    target = rectified_affinity(old, new, torch.tensor(LSTKC["labels"]))
    torch.testing.assert_close(target, wide(LSTKC["rectified_target"]), atol=2e-5, rtol=1e-4)
    plain, mended = (affinity_divergence(wanted, wide(LSTKC["f_new"])).item() for wanted in (old, target))
    assert plain == pytest.approx(LSTKC["plain_affinity_kl"], rel=1e-4)
    assert mended == pytest.approx(LSTKC["loss_kl_batchmean"], rel=1e-4)


def test_a_right_old_model_is_not_mended():
    old = affinity(torch.eye(4, dtype=torch.float64).repeat_interleave(2, dim=0) + 0.01 * vectors(8, 4))
    assert torch.equal(rectified_affinity(old, affinity(vectors(seed=3)), LABELS), old / old.sum(1, keepdim=True))


def test_equal_models_cost_nothing():
    x = vectors().requires_grad_()
    affinity_divergence(affinity(x), x).backward()
    assert x.grad.abs().max() < 1e-9
    assert feature_gap(x, x).item() == pytest.approx(0, abs=1e-12)
    assert feature_gap(x, 2 * x, distance="mse").item() == pytest.approx(x.square().mean().item())


def test_nothing_flows_into_the_old_model():
    old, new = vectors().requires_grad_(), vectors(seed=1).requires_grad_()
    losses = [softened_cross_entropy(old, new), worst_triplet(old, new, LABELS), feature_gap(old, new)]
    losses += [affinity_divergence(rectified_affinity(affinity(old), affinity(new), LABELS), new)]
    torch.stack(losses).sum().backward()
    assert old.grad is None
    assert math.isfinite(new.grad.norm().item())
    assert new.grad.norm().item() > 0
