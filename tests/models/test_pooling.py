"""Pooling: the generalised mean against numbers computed elsewhere, and what its neighbours must equal."""

import json
from pathlib import Path

import pytest
import torch

from passerby.models.pooling import Pool, generalised_mean

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
