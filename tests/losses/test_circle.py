"""The pairwise circle loss against the published values, against a loop, and at the edges."""

import json
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from passerby.losses.circle import CircleSettings, circle_loss
from passerby.types import Output
from tests import loss_oracles

ORACLE = json.loads((Path(__file__).parents[1] / "oracles_data" / "circle_pairwise.json").read_text())


@pytest.mark.parametrize("case", ["even", "uneven_single"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_equals_the_published_values_and_gradients(case, dtype):
    given, wanted = ORACLE[case], ORACLE[case]["m025_g128"]
    x = torch.tensor(given["x"], dtype=dtype, requires_grad=True)
    labels = torch.tensor(given["labels"])
    loss = circle_loss(x, labels, anchors="all")
    assert loss.item() == pytest.approx(wanted["loss"], rel=1e-6)
    assert loss.item() != pytest.approx(given["cosface_m025_g128_loss"], rel=1e-2)  # factors of 1
    loss.backward()
    near = {"rtol": 1e-4, "atol": 1e-4} if dtype == torch.float32 else {"rtol": 1e-7, "atol": 1e-7}
    torch.testing.assert_close(x.grad, torch.tensor(wanted["grad"], dtype=dtype), **near)
    for margin, scale, name in ((0.25, 64, "m025_g64_loss"), (0.35, 2, "m035_g2_loss")):
        found = circle_loss(x, labels, margin=margin, scale=scale, anchors="all")
        assert found.item() == pytest.approx(given[name], rel=1e-6)


@given(
    st.lists(st.integers(0, 3), min_size=1, max_size=8),
    st.integers(0, 999),
    st.floats(0, 1),
    st.floats(0.5, 200),
    st.sampled_from(["valid", "all"]),
)
def test_equals_the_loop(labels, seed, margin, scale, anchors):
    x = torch.randn(len(labels), 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    found = circle_loss(x, torch.tensor(labels), margin=margin, scale=scale, anchors=anchors)
    wanted = loss_oracles.circle(x.tolist(), labels, margin=margin, scale=scale, anchors=anchors)
    assert found.item() == pytest.approx(wanted, rel=1e-6, abs=1e-9)


def test_no_gradient_flows_through_the_factors():
    x = torch.randn(6, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64, requires_grad=True)
    labels = torch.tensor([0, 0, 1, 1, 2, 2])
    exact = torch.autograd.grad(circle_loss(x, labels, scale=4.0), x)[0]
    fixed = x.detach()

    def loss(v):  # the same loss with the factors of the point where the gradient is taken
        similar, there = (torch.nn.functional.normalize(u) for u in (v, fixed))
        similar, there = similar @ similar.T, there @ there.T
        same, itself = labels[:, None] == labels[None, :], torch.eye(6, dtype=torch.bool)
        toward = (-4 * (1.25 - there).relu() * (similar - 0.75)).exp() * (same & ~itself)
        away = (4 * (there + 0.25).relu() * (similar - 0.25)).exp() * ~same
        return (1 + toward.sum(1) * away.sum(1)).log().mean()

    moved = fixed.clone().requires_grad_()
    assert torch.autograd.gradcheck(loss, moved)
    torch.testing.assert_close(torch.autograd.grad(loss(moved), moved)[0], exact)


@pytest.mark.parametrize("labels", [[0, 0, 0, 0], [0, 1, 2, 3], [0]])
@pytest.mark.parametrize("anchors", ["valid", "all"])
def test_without_pairs_it_is_zero(labels, anchors):
    x = torch.randn(len(labels), 3, requires_grad=True)
    loss = circle_loss(x, torch.tensor(labels), anchors=anchors)
    loss.backward()
    assert loss.item() == 0
    assert not x.grad.any()


@pytest.mark.parametrize("feature", ["before_neck", "after_neck"])
def test_the_settings_choose_the_vector(feature):
    generator = torch.Generator().manual_seed(0)
    out = Output(*(torch.randn(6, 4, generator=generator) for _ in range(2)), map=torch.zeros(6, 4, 1, 1))
    labels = torch.tensor([0, 0, 1, 1, 2, 2])
    loss = CircleSettings(feature=feature, margin=0.4, scale=32.0).make(dimension=4, classes=3)
    assert loss(out, labels) == circle_loss(getattr(out, feature), labels, margin=0.4, scale=32.0)
