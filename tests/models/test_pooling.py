"""Pooling: the generalised mean against numbers computed elsewhere, and what its neighbours must equal."""

import json
from pathlib import Path

import pytest
import torch

from passerby.models.pooling import Pool, cell_weights, generalised_mean

ORACLE = json.loads((Path(__file__).parents[1] / "oracles_data" / "gem.json").read_text())
KINDS = ("avg", "max", "avg_max", "gem", "gem_learned")


def maps():
    return torch.randn(3, 5, 4, 2, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("power", ["1.0", "3.0", "6.5"])
def test_the_generalised_mean_gives_the_known_numbers(power):
    pooled = generalised_mean(torch.tensor(ORACLE["x"]), float(power), floor=ORACLE["eps"])
    torch.testing.assert_close(pooled, torch.tensor(ORACLE["out_by_p"][power]), atol=1e-6, rtol=1e-5)


def test_the_learned_power_starts_at_3_and_has_the_known_gradient():
    pool = Pool("gem_learned")
    total = pool(torch.tensor(ORACLE["x"])).sum()
    total.backward()
    assert total.item() == pytest.approx(ORACLE["p3_sum"], rel=1e-5)
    assert pool.p.grad.tolist() == pytest.approx(ORACLE["p3_grad_p_of_sum"], rel=1e-4)
    torch.testing.assert_close(Pool("gem")(maps()), pool(maps()).detach())


def test_a_power_below_1_counts_as_1_and_can_come_back():
    pool = Pool("gem_learned")
    with torch.no_grad():
        pool.p.fill_(0.3)
    torch.testing.assert_close(pool(maps()).detach(), generalised_mean(maps(), 1.0))
    pool(maps()).sum().backward()
    assert pool.p.grad.item() > 0


def test_the_plain_kinds():
    torch.testing.assert_close(Pool("avg")(maps()), maps().mean((2, 3)))
    torch.testing.assert_close(Pool("max")(maps()), maps().flatten(2).max(2).values)
    torch.testing.assert_close(Pool("avg_max")(maps()), maps().mean((2, 3)) + maps().flatten(2).max(2).values)


def test_the_generalised_mean_lies_between_average_and_maximum():
    positive = maps().abs() + 0.1
    low, high = Pool("avg")(positive), Pool("max")(positive)
    last = low
    for power in (1.5, 3.0, 6.5, 20.0):
        pooled = generalised_mean(positive, power)
        assert (pooled >= last - 1e-5).all()
        assert (pooled <= high + 1e-5).all()
        last = pooled


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_maps_are_pooled_in_float32(kind, dtype):
    large = (maps() * 300).to(dtype)  # 300 ** 3 is beyond float16
    pooled = Pool(kind)(large)
    assert pooled.dtype == torch.float32
    assert torch.isfinite(pooled).all()
    torch.testing.assert_close(pooled, Pool(kind)(large.float()))


@pytest.mark.parametrize("kind", KINDS)
def test_maps_of_zeros_have_finite_gradients(kind):
    pool, dark = Pool(kind), torch.zeros(2, 3, 4, 2, requires_grad=True)
    pool(dark).sum().backward()
    assert torch.isfinite(dark.grad).all()
    assert all(torch.isfinite(p.grad).all() for p in pool.parameters())


# ---- weighted by a mask


def masks():
    return (torch.rand(3, 1, 16, 8, generator=torch.Generator().manual_seed(1)) > 0.6).to(torch.uint8)


def brute_force(kind, featuremap, weights):
    """Pool one map (C, h, w) cell by cell."""
    cells = [
        (float(weights[y, x]), featuremap[:, y, x])
        for y in range(featuremap.shape[1])
        for x in range(featuremap.shape[2])
    ]
    total = sum(weight for weight, _ in cells)
    mean = sum(weight * cell for weight, cell in cells) / total
    highest = torch.stack([cell for weight, cell in cells if weight > 0]).amax(dim=0)
    if kind.startswith("gem"):
        return (sum(weight * cell.clamp(min=1e-6) ** 3 for weight, cell in cells) / total) ** (1 / 3)
    return {"avg": mean, "max": highest, "avg_max": mean + highest}[kind]


@pytest.mark.parametrize("kind", KINDS)
def test_weighted_pooling_equals_brute_force(kind):
    mask = masks()
    mask[0, :, :4] = 0  # the first cells of the first image do not count at all
    pooled = Pool(kind)(maps(), mask).detach()
    for number in range(3):
        weights = mask[number, 0].float().reshape(4, 4, 2, 4).mean(dim=(1, 3))
        torch.testing.assert_close(pooled[number], brute_force(kind, maps()[number], weights))


@pytest.mark.parametrize("kind", KINDS)
def test_a_full_or_an_empty_mask_is_plain_pooling(kind):
    pool = Pool(kind)
    for mask in (torch.ones(3, 1, 16, 8), torch.zeros(3, 1, 16, 8)):
        torch.testing.assert_close(pool(maps(), mask), pool(maps()))


@pytest.mark.parametrize("kind", KINDS)
def test_what_the_mask_leaves_out_gets_no_gradient(kind):
    mask = torch.zeros(3, 1, 16, 8, dtype=torch.uint8)
    mask[:, :, :8] = 1
    featuremap = maps().requires_grad_()
    Pool(kind)(featuremap, mask).sum().backward()
    assert featuremap.grad[:, :, 2:].abs().sum() == 0
    assert featuremap.grad[:, :, :2].abs().sum() > 0


def test_cells_need_not_fit_into_the_mask():
    weights = cell_weights(torch.ones(1, 1, 5, 3), (2, 2))
    torch.testing.assert_close(weights, torch.ones(1, 1, 2, 2))
