"""Batch-hard triplets against the published values, against loops, and at the edges."""

import json
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from passerby.losses.triplet import TripletSettings, batch_hard_triplet, hardest, pair_distances
from passerby.types import Output
from tests import loss_oracles

ORACLE = json.loads((Path(__file__).parents[1] / "oracles_data" / "triplet_batch_hard.json").read_text())
NAMES = {
    "euclidean": "euclidean",
    "euclidean_norm": "bot_normalised_euclidean",
    "cosine_sq": "fastreid_norm_feat_2minus2cos",
}
CASES = [(case, kind) for case in ("even", "uneven_single") for kind in NAMES]


@pytest.mark.parametrize(("case", "kind"), CASES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_equals_the_published_values_and_gradients(case, kind, dtype):
    given, wanted = ORACLE[case], ORACLE[case][NAMES[kind]]
    x = torch.tensor(given["x"], dtype=dtype, requires_grad=True)
    labels = torch.tensor(given["labels"])
    positive, negative, _ = hardest(pair_distances(x, distance=kind), labels)
    # a lone image is its own positive, at a distance that rounding leaves: 1e-6 and not 0
    torch.testing.assert_close(positive, torch.tensor(wanted["dist_ap"], dtype=dtype), atol=1e-3, rtol=1e-5)
    torch.testing.assert_close(negative, torch.tensor(wanted["dist_an"], dtype=dtype), atol=1e-5, rtol=1e-5)
    loss = batch_hard_triplet(x, labels, margin=given["margin"], distance=kind, anchors="all")
    assert loss.item() == pytest.approx(wanted["loss"], abs=1e-5)
    if "grad" in wanted:
        loss.backward()
        torch.testing.assert_close(x.grad, torch.tensor(wanted["grad"], dtype=dtype), atol=2e-6, rtol=1e-4)


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


@given(batches(), KINDS, ANCHORS, st.floats(0, 2))
def test_equals_the_loop(batch, kind, anchors, margin):
    x, labels = batch
    found = batch_hard_triplet(x, torch.tensor(labels), margin=margin, distance=kind, anchors=anchors)
    wanted = loss_oracles.batch_hard_triplet(x.tolist(), labels, margin=margin, kind=kind, anchors=anchors)
    assert found.item() == pytest.approx(wanted, abs=1e-5)


@pytest.mark.parametrize("labels", [[0, 0, 0, 0], [0, 1, 2, 3], [0]])
@pytest.mark.parametrize("anchors", ["valid", "all"])
@pytest.mark.parametrize("kind", NAMES)
def test_without_a_triplet_the_gradient_is_finite(labels, anchors, kind):
    x = torch.randn(len(labels), 3, requires_grad=True)
    loss = batch_hard_triplet(x, torch.tensor(labels), distance=kind, anchors=anchors)
    loss.backward()
    assert torch.isfinite(x.grad).all()
    if anchors == "valid":
        assert loss.item() == 0
        assert not x.grad.any()


@pytest.mark.parametrize("kind", NAMES)
def test_equal_vectors_have_a_finite_gradient(kind):
    x = torch.ones(4, 3, requires_grad=True)
    batch_hard_triplet(x, torch.tensor([0, 0, 1, 1]), distance=kind).backward()
    assert torch.isfinite(x.grad).all()


def test_half_precision_is_widened():
    assert pair_distances(torch.ones(2, 3, dtype=torch.bfloat16)).dtype == torch.float32
    assert pair_distances(torch.ones(2, 3, dtype=torch.float64)).dtype == torch.float64


@pytest.mark.parametrize("feature", ["feature", "embedding"])
def test_the_settings_choose_the_vector(feature):
    generator = torch.Generator().manual_seed(0)
    out = Output(*(torch.randn(6, 4, generator=generator) for _ in range(2)), map=torch.zeros(6, 4, 1, 1))
    labels = torch.tensor([0, 0, 1, 1, 2, 2])
    loss = TripletSettings(feature=feature, margin=0.7).make(dimension=4, classes=3)
    assert loss(out, labels) == batch_hard_triplet(getattr(out, feature), labels, margin=0.7)
