"""Margin classifiers against the published values, against loops, and at the edges."""

import json
import math
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from passerby.losses.margins import (
    ArcfaceSettings,
    CircleSoftmaxSettings,
    CosfaceSettings,
    arcface_logits,
    circle_logits,
    cosface_logits,
    cosines,
)
from passerby.losses.softmax import smoothed_cross_entropy
from passerby.types import Output
from tests import loss_oracles

ORACLE = json.loads((Path(__file__).parents[1] / "oracles_data" / "margin_softmax_logits.json").read_text())
LABELS = torch.tensor(ORACLE["targets"])
FORMS = {
    "arcface": arcface_logits,
    "arcface plain": lambda cosine, labels, **more: arcface_logits(cosine, labels, beyond="plain", **more),
    "cosface": cosface_logits,
    "circle": circle_logits,
}
PUBLISHED = {
    "arcface": "arcface_monotone_s64_m05",
    "arcface plain": "arc_s64_m05",
    "cosface": "cos_s64_m035",
    "circle": "circle_s64_m035",
}


def inputs(dtype=torch.float64):
    return (torch.tensor(ORACLE[name], dtype=dtype, requires_grad=True) for name in ("embedding", "weight"))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_equals_the_published_logits(form, dtype):
    cosine = cosines(*inputs(dtype))
    torch.testing.assert_close(cosine, torch.tensor(ORACLE["cos"], dtype=dtype), atol=1e-6, rtol=1e-5)
    wanted = torch.tensor(ORACLE[PUBLISHED[form]], dtype=dtype)
    torch.testing.assert_close(FORMS[form](cosine, LABELS), wanted, atol=1e-4, rtol=1e-5)


def test_equals_the_published_losses():
    cosine = cosines(*inputs())
    monotone = smoothed_cross_entropy(arcface_logits(cosine, LABELS), LABELS, smoothing=0.0)
    plain = smoothed_cross_entropy(arcface_logits(cosine, LABELS, beyond="plain"), LABELS, smoothing=0.0)
    assert monotone.item() == pytest.approx(ORACLE["arcface_monotone_ce"], rel=1e-7)
    assert plain.item() == pytest.approx(ORACLE["arc_s64_m05_ce"], rel=1e-7)


@given(
    st.sampled_from(sorted(FORMS)),
    st.integers(1, 5),
    st.integers(1, 4),
    st.floats(0, 1),
    st.floats(0.5, 64),
    st.integers(0, 999),
)
def test_equals_the_loop(form, count, classes, margin, scale, seed):
    generator = torch.Generator().manual_seed(seed)
    cosine = 2 * torch.rand(count, classes, generator=generator, dtype=torch.float64) - 1
    labels = torch.randint(classes, (count,), generator=generator)
    found = FORMS[form](cosine, labels, margin=margin, scale=scale)
    wanted = loss_oracles.margin_logits(cosine.tolist(), labels.tolist(), form=form, margin=margin, scale=scale)
    torch.testing.assert_close(found, torch.tensor(wanted, dtype=torch.float64), atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("form", ["arcface", "arcface plain", "cosface"])
def test_gradients_are_exact(form):
    x, weight = inputs()
    assert torch.autograd.gradcheck(lambda x, w: FORMS[form](cosines(x, w), LABELS, scale=4.0), (x, weight))


def test_no_gradient_flows_through_the_factors_of_the_circle():
    cosine = cosines(*inputs()).detach().requires_grad_()
    (found,) = torch.autograd.grad(circle_logits(cosine, LABELS, scale=3.0, margin=0.25).sum(), cosine)
    right = torch.nn.functional.one_hot(LABELS, cosine.shape[1]).bool()
    wanted = torch.where(right, 1.25 - cosine, cosine + 0.25).relu() * 3.0
    torch.testing.assert_close(found, wanted.detach())


def test_a_worse_angle_is_never_rewarded():
    cosine = torch.cos(torch.linspace(0, math.pi, 200, dtype=torch.float64))[:, None]
    labels = torch.zeros(200, dtype=torch.long)
    falls = {form: bool((make(cosine, labels).diff(dim=0) < 0).all()) for form, make in FORMS.items()}
    assert falls == {"arcface": True, "arcface plain": False, "cosface": True, "circle": True}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_parallel_vectors_have_a_finite_gradient(form, sign, dtype):
    cosine = torch.tensor([[sign, 0.5], [0.5, sign]], dtype=dtype, requires_grad=True)
    smoothed_cross_entropy(FORMS[form](cosine, torch.tensor([0, 1])), torch.tensor([0, 1])).backward()
    assert torch.isfinite(cosine.grad).all()


def test_half_precision_is_widened():
    assert cosines(torch.ones(2, 3, dtype=torch.bfloat16), torch.ones(4, 3)).dtype == torch.float32


@pytest.mark.parametrize("feature", ["before_neck", "after_neck"])
@pytest.mark.parametrize(
    ("settings", "logits"),
    [(ArcfaceSettings, arcface_logits), (CosfaceSettings, cosface_logits), (CircleSoftmaxSettings, circle_logits)],
)
def test_the_settings_reach_the_loss(feature, settings, logits):
    generator = torch.Generator().manual_seed(0)
    out = Output(*(torch.randn(6, 4, generator=generator) for _ in range(2)), map=torch.zeros(6, 4, 1, 1))
    labels = torch.tensor([0, 0, 1, 1, 2, 2])
    loss = settings(feature=feature, margin=0.2, scale=8.0, smoothing=0.25).make(dimension=4, classes=3)
    changed = logits(cosines(getattr(out, feature), loss.classifier.weight), labels, margin=0.2, scale=8.0)
    assert loss(out, labels) == smoothed_cross_entropy(changed, labels, smoothing=0.25)
    assert loss.classifier.bias is None
