"""Figures of quality against scikit-learn on whole matrices, and against loops over pairs."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import silhouette_samples

from passerby.clustering import quality
from passerby.clustering.algorithms import DbscanSettings
from passerby.clustering.graph import missing_at_1
from passerby.clustering.quality import against_truth, agreement, silhouette, silhouettes
from tests.clustering.test_algorithms import people


@pytest.fixture(scope="module")
def graph():
    return DbscanSettings(k1=7, k2=2).neighbours(people(noise=0.2)[0])


@pytest.mark.parametrize("seed", [0, 1])
def test_silhouettes_equal_those_of_the_whole_matrix(graph, seed, monkeypatch):
    monkeypatch.setattr(quality, "_ROWS_AT_ONCE", 9)
    labels = np.random.default_rng(seed).integers(-1, 6, len(graph))
    labels[:3] = [77, 8, 8]  # the only one of its cluster, and far numbers
    chosen = labels >= 0
    whole = missing_at_1(graph)[np.ix_(chosen, chosen)]
    found = silhouettes(graph, labels)
    assert np.isnan(found[~chosen]).all()
    np.testing.assert_allclose(
        found[chosen], silhouette_samples(whole, labels[chosen], metric="precomputed"), atol=1e-5
    )
    assert silhouette(graph, labels) == pytest.approx(found[chosen].mean())


def test_people_have_better_silhouettes_than_chance(graph):
    _, pids = people(noise=0.2)
    assert silhouette(graph, pids) > 0.5 > 0.1 > silhouette(graph, np.roll(pids, 1))


@pytest.mark.parametrize("label", [0, -1])
def test_one_cluster_has_no_silhouette(graph, label):
    assert np.isnan(silhouette(graph, np.full(len(graph), label)))


def test_agreement_sees_an_image_that_leaves():
    before = np.array([0, 0, 0, 1, 1, 1])
    same = agreement(before, before[::-1])
    assert (same.rand, same.iou) == (1, 1)
    left = agreement(before, np.array([0, 0, -1, 1, 1, 1]))
    assert 0 < left.rand < 1
    assert left.iou == pytest.approx((2 / 3 + 2 / 3 + 1 / 3 + 3) / 6)
    assert agreement(np.full(6, -1), np.full(6, -1)).iou == 1


def test_the_right_clusters_score_1():
    _, pids = people()
    found = against_truth(pids, np.where(pids < 0, -1, 10 * pids + 4))
    assert (found.images, found.identities) == (40, 5)
    figures = (found.rand, found.nmi, found.purity, found.precision, found.recall, found.f)
    assert figures == pytest.approx((1,) * 6)


def test_without_identities_there_is_no_score():
    assert against_truth(np.array([0, 0, 1]), np.full(3, -1)) is None


def test_only_noise_has_neither_purity_nor_precision():
    found = against_truth(np.full(4, -1), np.array([1, 1, 2, 2]))
    assert np.isnan([found.purity, found.precision]).all()
    assert (found.recall, found.f) == (0, 0)
    assert found.rand == pytest.approx(0)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.integers(-1, 3), st.integers(-1, 3)), min_size=1, max_size=12))
def test_pairs_equal_the_loop(columns):
    labels, pids = np.array(columns).T
    found = against_truth(labels, pids)
    known = [(label, pid) for label, pid in columns if pid >= 0]
    assert (found is None) == (not known)
    if found is None:
        return
    together = [(a, b) for a, b in combinations(known, 2) if a[0] == b[0] != -1]
    same = [(a, b) for a, b in combinations(known, 2) if a[1] == b[1]]
    met = sum(a[1] == b[1] for a, b in together)
    assert found.precision == pytest.approx(met / len(together) if together else np.nan, nan_ok=True)
    assert found.recall == pytest.approx(met / len(same) if same else np.nan, nan_ok=True)
    most = [max(group.count(p) for p in group) for group in _groups(known)]
    assert found.purity == pytest.approx(sum(most) / sum(map(len, _groups(known))) if most else np.nan, nan_ok=True)


def _groups(known):
    clusters = {label for label, _ in known if label >= 0}
    return [[pid for label, pid in known if label == cluster] for cluster in sorted(clusters)]
