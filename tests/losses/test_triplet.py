"""Triplets against the published values, against loops, and at the edges."""

import json
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from passerby.errors import UserError
from passerby.losses.mining import hardest, pair_distances, softly_hardest
from passerby.losses.triplet import TripletSettings, triplet_loss
from passerby.settings import build
from passerby.types import Output
from tests import loss_oracles


def oracle(name):
    return json.loads((Path(__file__).parents[1] / "oracles_data" / f"{name}.json").read_text())


ORACLE = oracle("triplet_batch_hard")
NAMES = {
    "euclidean": "euclidean",
    "euclidean_norm": "bot_normalised_euclidean",
    "cosine_sq": "fastreid_norm_feat_2minus2cos",
}
FORMS = ("hard", "soft", "weighted", "pull")
CASES = [(case, kind) for case in ("even", "uneven_single") for kind in NAMES]


@pytest.mark.parametrize(("case", "kind"), CASES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_equals_the_published_values_and_gradients(case, kind, dtype):
    given, wanted = ORACLE[case], ORACLE[case][NAMES[kind]]
    x = torch.tensor(given["x"], dtype=dtype, requires_grad=True)
    labels = torch.tensor(given["labels"])
    positive, negative = hardest(pair_distances(x, distance=kind), labels)
    # a lone image is its own positive, at a distance that rounding leaves: 1e-6 and not 0
    torch.testing.assert_close(positive, torch.tensor(wanted["dist_ap"], dtype=dtype), atol=1e-3, rtol=1e-5)
    torch.testing.assert_close(negative, torch.tensor(wanted["dist_an"], dtype=dtype), atol=1e-5, rtol=1e-5)
    loss = triplet_loss(x, labels, margin=given["margin"], distance=kind, anchors="all")
    assert loss.item() == pytest.approx(wanted["loss"], abs=1e-5)
    if "grad" in wanted:
        loss.backward()
        torch.testing.assert_close(x.grad, torch.tensor(wanted["grad"], dtype=dtype), atol=2e-6, rtol=1e-4)


@pytest.mark.parametrize("case", ["even", "uneven_single"])
@pytest.mark.parametrize(
    ("name", "form", "kind", "place"),
    [
        ("triplet_soft_margin", "soft", "euclidean", None),
        ("triplet_ap_variant", "pull", "euclidean", "raw"),
        ("triplet_ap_variant", "pull", "euclidean_norm", "normalised"),
    ],
)
def test_the_other_forms_equal_their_values_and_gradients(case, name, form, kind, place):
    given = oracle(name)[case]
    wanted = given[place] if place else given
    x = torch.tensor(given["x"], dtype=torch.float64, requires_grad=True)
    loss = triplet_loss(x, torch.tensor(given["labels"]), form=form, margin=0.3, distance=kind, anchors="all")
    assert loss.item() == pytest.approx(wanted["loss"], abs=1e-6)
    loss.backward()
    torch.testing.assert_close(x.grad, torch.tensor(wanted["grad"], dtype=torch.float64), atol=1e-7, rtol=1e-5)


@pytest.mark.parametrize("case", ["even", "large_scale_x12"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_soft_weights_sum_to_one_at_any_scale(case, dtype):
    given = oracle("triplet_weighted")[case]
    x, labels, wanted = torch.tensor(given["x"], dtype=dtype), torch.tensor(given["labels"]), given["exact"]
    near = {"atol": 1e-5, "rtol": 1e-4} if dtype == torch.float32 else {"atol": 1e-7, "rtol": 1e-7}
    positive, negative = softly_hardest(pair_distances(x), labels)
    torch.testing.assert_close(positive, torch.tensor(wanted["dist_ap"], dtype=dtype), **near)
    torch.testing.assert_close(negative, torch.tensor(wanted["dist_an"], dtype=dtype), **near)
    loss = triplet_loss(x, labels, form="weighted").item()
    assert loss == pytest.approx(wanted["loss"], rel=near["rtol"])
    if dtype == torch.float64 or case != "even":
        assert loss != pytest.approx(given["fastreid"]["loss"], rel=1e-6)  # weights that do not sum to 1


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", NAMES)
def test_gradients_of_every_form_are_exact(form, kind):
    x = torch.randn(7, 3, generator=torch.Generator().manual_seed(2), dtype=torch.float64, requires_grad=True)
    labels = torch.tensor([0, 0, 1, 1, 1, 2, 2])
    assert torch.autograd.gradcheck(lambda v: triplet_loss(v, labels, form=form, distance=kind), x)


@st.composite
def batches(draw):
    count = draw(st.integers(1, 8))
    labels = draw(st.lists(st.integers(0, 3), min_size=count, max_size=count))
    x = torch.randn(count, 3, generator=torch.Generator().manual_seed(draw(st.integers(0, 999))), dtype=torch.float64)
    if draw(st.booleans()):
        x = x.round() + 0.25  # ties
    return x, labels


KINDS = st.sampled_from(sorted(NAMES))
ANCHORS = st.sampled_from(["valid", "all"])


@given(batches(), KINDS, ANCHORS, st.floats(0, 2), st.sampled_from(FORMS))
def test_equals_the_loop(batch, kind, anchors, margin, form):
    x, labels = batch
    found = triplet_loss(x, torch.tensor(labels), form=form, margin=margin, distance=kind, anchors=anchors)
    wanted = loss_oracles.triplet(x.tolist(), labels, form=form, margin=margin, kind=kind, anchors=anchors)
    assert found.item() == pytest.approx(wanted, abs=1e-5)


@pytest.mark.parametrize("labels", [[0, 0, 0, 0], [0, 1, 2, 3], [0]])
@pytest.mark.parametrize("anchors", ["valid", "all"])
@pytest.mark.parametrize("kind", NAMES)
def test_without_a_triplet_the_gradient_is_finite(labels, anchors, kind):
    x = torch.randn(len(labels), 3, requires_grad=True)
    loss = triplet_loss(x, torch.tensor(labels), distance=kind, anchors=anchors)
    loss.backward()
    assert torch.isfinite(x.grad).all()
    if anchors == "valid":
        assert loss.item() == 0
        assert not x.grad.any()


@pytest.mark.parametrize("kind", NAMES)
@pytest.mark.parametrize("form", FORMS)
def test_equal_vectors_have_a_finite_gradient(kind, form):
    x = torch.ones(4, 3, requires_grad=True)
    triplet_loss(x, torch.tensor([0, 0, 1, 1]), form=form, distance=kind).backward()
    assert torch.isfinite(x.grad).all()


def test_half_precision_is_widened():
    assert pair_distances(torch.ones(2, 3, dtype=torch.bfloat16)).dtype == torch.float32
    assert pair_distances(torch.ones(2, 3, dtype=torch.float64)).dtype == torch.float64


@pytest.mark.parametrize("feature", ["before_neck", "after_neck"])
def test_the_settings_choose_the_vector(feature):
    generator = torch.Generator().manual_seed(0)
    out = Output(*(torch.randn(6, 4, generator=generator) for _ in range(2)), map=torch.zeros(6, 4, 1, 1))
    labels = torch.tensor([0, 0, 1, 1, 2, 2])
    loss = TripletSettings(feature=feature, margin=0.7).make(dimension=4, classes=3)
    assert loss(out, labels) == triplet_loss(getattr(out, feature), labels, margin=0.7)


@pytest.mark.parametrize("form", FORMS)
def test_the_settings_choose_the_form(form):
    x = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([0, 0, 1, 1, 2, 2])
    loss = TripletSettings(form=form).make(dimension=4, classes=3)
    assert loss(Output(x, x, torch.zeros(6, 4, 1, 1)), labels) == triplet_loss(x, labels, form=form)


@pytest.mark.parametrize("form", ["soft", "weighted"])
def test_a_margin_without_effect_is_refused(form):
    with pytest.raises(UserError, match=f"margin has no effect with form: {form}"):
        build(TripletSettings, {"form": form, "margin": 0.5}, source="test")
    assert build(TripletSettings, {"form": form, "margin": 0.3}, source="a resolved recipe").form == form
