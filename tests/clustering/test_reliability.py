"""Reliability of clusters against SpCL's own lines, and overlaps against a loop."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from passerby.clustering.reliability import agreement_iou, alone_apart, compactness, independence, keep_reliable
from tests.clustering.test_graph import DATA

SPCL = json.loads((DATA / "spcl_reliability.json").read_text())
LABELS, TIGHT, LOOSE = (np.array(SPCL[f"dbscan_{name}"]) for name in ("labels", "tight", "loose"))


def without_singles(labels):
    labels = np.array(labels)
    return np.where(np.bincount(labels)[labels] > 1, labels, -1)


def test_overlaps_equal_the_oracle():
    np.testing.assert_allclose(1 - compactness(LABELS, TIGHT), SPCL["R_comp"], atol=1e-6)
    np.testing.assert_allclose(1 - independence(LABELS, LOOSE), SPCL["R_indep"], atol=1e-6)


def test_what_is_kept_equals_the_oracle():
    found = keep_reliable(LABELS, TIGHT, LOOSE)
    assert 1 - found.threshold == pytest.approx(SPCL["indep_thres_first_epoch"], abs=1e-6)
    np.testing.assert_array_equal(alone_apart(found.labels), alone_apart(without_singles(SPCL["final_labels"])))


def test_a_threshold_that_was_kept_is_used():
    found = keep_reliable(LABELS, TIGHT, LOOSE, threshold=0.7)
    assert found.threshold == 0.7
    expected = without_singles(SPCL["final_labels_if_thres_0_3"])
    np.testing.assert_array_equal(alone_apart(found.labels), alone_apart(expected))


def test_only_the_most_compact_images_stay():
    found = keep_reliable(np.array([0, 0, 0, 1, 1]), np.array([0, 1, 1, 2, 2]), np.array([0, 0, 0, 1, 1]))
    assert found.labels.tolist() == [-1, 0, 0, 1, 1]


def test_the_only_one_left_is_left_out():
    """The first image is the most compact of its cluster: the others are each with a stranger at the small radius."""
    found = keep_reliable(np.array([0, 0, 0, 1, 1]), np.array([2, 3, 4, 3, 4]), np.array([0, 0, 0, 1, 1]))
    assert found.labels.tolist() == [-1, -1, -1, 0, 0]


def test_noise_alone_is_nothing_to_keep():
    nothing = np.full(4, -1)
    found = keep_reliable(nothing, nothing, np.zeros(4, np.int64))
    assert found.labels.tolist() == [-1] * 4


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.integers(-1, 3), st.integers(-1, 3)), min_size=1, max_size=12))
def test_overlaps_equal_the_loop(pairs):
    a, b = np.array(pairs).T
    found = agreement_iou(a, b)
    for i in range(len(a)):
        mine, other = ({i} if side[i] == -1 else set(np.flatnonzero(side == side[i])) for side in (a, b))
        assert found[i] == pytest.approx(len(mine & other) / len(mine | other))
