"""Average linkage on the neighbour graph equals that of the whole matrix, and keeps apart what must not be joined."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import pdist
from sklearn.metrics import silhouette_score

from passerby.clustering.clusters import numbered
from passerby.clustering.impostors import (
    automatic_threshold,
    highest_threshold,
    impostor_threshold,
    silhouette_threshold,
    universal_threshold,
)
from passerby.clustering.linkage import average_linkage, near_pairs
from passerby.clustering.quality import against_truth
from tests.clustering.test_radius import noisy_people


def joined(pairs, threshold, constraints=None):
    return average_linkage(pairs, threshold, constraints).labels(threshold)


def automatic(pairs):
    return automatic_threshold(pairs, average_linkage(pairs, highest_threshold(pairs)))


class CannotLink:
    """Pairs that must not be joined, by brute force over all members."""

    def __init__(self, pairs):
        self.pairs, self.members, self.asked = pairs, {}, 0

    def of(self, cluster):
        return self.members.get(cluster, {cluster})

    def conflicts(self, a, b):
        self.asked += 1
        return any((x, y) in self.pairs or (y, x) in self.pairs for x in self.of(a) for y in self.of(b))

    def merge(self, a, b):
        self.members[a] = self.of(a) | self.of(b)


def dense_with_constraints(vectors, threshold, pairs):
    """Join the nearest clusters that may be joined, one after the other, by all mean distances."""
    units = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    clusters = [[row] for row in range(len(units))]
    while True:
        best = (threshold, None)
        for i, first in enumerate(clusters):
            for j in range(i):
                apart = any((a, b) in pairs or (b, a) in pairs for a in first for b in clusters[j])
                distance = 1 - (units[first] @ units[clusters[j]].T).mean()
                if not apart and distance <= best[0]:
                    best = (distance, (j, i))
        if best[1] is None:
            break
        kept, gone = best[1]
        clusters[kept] += clusters.pop(gone)
    labels = np.empty(len(units), np.int64)
    for members in clusters:
        labels[members] = min(members)
    return labels


@given(st.integers(0, 10**6), st.integers(2, 40), st.floats(0.05, 1.2))
@settings(deadline=None, max_examples=40)
def test_it_equals_scipy_on_the_whole_matrix(seed, count, threshold):
    vectors = np.random.default_rng(seed).normal(size=(count, 5)) + 0.7
    expected = fcluster(linkage(pdist(vectors.astype(np.float32), "cosine"), "average"), threshold, "distance")
    labels = joined(near_pairs(vectors.astype(np.float32), neighbours=count), threshold)
    np.testing.assert_array_equal(numbered(labels), numbered(expected))
    names, first = np.unique(labels, return_index=True)
    np.testing.assert_array_equal(names, first)


def test_few_neighbours_are_enough():
    vectors, _ = noisy_people(spread=0.5, count=60)
    expected = fcluster(linkage(pdist(vectors, "cosine"), "average"), 0.4, "distance")
    labels = joined(near_pairs(vectors, neighbours=8), 0.4)
    np.testing.assert_array_equal(numbered(labels), numbered(expected))


@pytest.mark.parametrize("seed", range(5))
def test_pairs_that_must_stay_apart_do(seed):
    vectors, _ = noisy_people(spread=0.6, count=4, images=6, seed=seed)
    generator = np.random.default_rng(seed)
    pairs = {tuple(generator.choice(24, 2, replace=False).tolist()) for _ in range(25)}
    constraints = CannotLink(pairs)
    labels = joined(near_pairs(vectors, neighbours=23), 0.6, constraints)
    assert all(labels[a] != labels[b] for a, b in pairs)
    np.testing.assert_array_equal(labels, dense_with_constraints(vectors, 0.6, pairs))
    free = joined(near_pairs(vectors, neighbours=23), 0.6)
    assert any(free[a] == free[b] for a, b in pairs), "else nothing was held apart"
    assert constraints.asked > 0


def test_duplicates_zeros_and_tiny_sets():
    vectors = np.repeat(np.eye(3, dtype=np.float32), [2, 3, 1], axis=0)
    vectors = np.concatenate([vectors, np.zeros((2, 3), np.float32)])
    assert joined(near_pairs(vectors, neighbours=7), 0.5).tolist() == [0, 0, 2, 2, 2, 5, 6, 7]
    for count in (0, 1, 2):
        pairs = near_pairs(vectors[:count], neighbours=5)
        assert len(joined(pairs, 0.5)) == count
        assert 0 < automatic(pairs) < 1e-3


def test_the_universal_threshold_is_its_formula():
    distances = np.random.default_rng(0).normal(1, 0.1, 100_001)
    assert universal_threshold(distances, 1000) == pytest.approx(1 - 0.1 * np.sqrt(2 * np.log(1000)), abs=2e-3)
    genuine = np.full(20_000, 0.1)
    mixed = universal_threshold(np.concatenate([distances, genuine]), 1000)
    assert mixed == pytest.approx(1 - 0.1 * np.sqrt(2 * np.log(1000)), abs=0.08), "pairs of one person matter little"
    assert universal_threshold(np.ones(3), 10) == 1


def people_in_many_directions(*, spread, count, images=9, dims=128):
    """Return vectors (N, 128) of people in directions of their own, and the identity of each."""
    generator = np.random.default_rng(0)
    centres = np.repeat(generator.normal(size=(count, dims)), images, axis=0)
    vectors = centres + spread * generator.normal(size=centres.shape)
    return vectors.astype(np.float32), np.repeat(np.arange(count), images)


@pytest.mark.parametrize("count", [6, 20, 60])
@pytest.mark.parametrize("spread", [0.3, 0.6, 0.9])
def test_the_threshold_is_found_without_labels(spread, count):
    vectors, pids = people_in_many_directions(spread=spread, count=count)
    pairs = near_pairs(vectors, neighbours=30)
    threshold = automatic(pairs)
    assert against_truth(joined(pairs, threshold), pids).f > 0.9
    assert automatic(near_pairs(vectors, neighbours=30)) == threshold


@pytest.mark.parametrize("count", [20, 60])
def test_the_silhouette_decides_where_people_are_in_few_directions(count):
    vectors, pids = noisy_people(spread=0.4, count=count)
    pairs = near_pairs(vectors, neighbours=30)
    merges = average_linkage(pairs, highest_threshold(pairs))
    assert impostor_threshold(pairs, merges) < silhouette_threshold(pairs, merges) == automatic(pairs)
    assert against_truth(merges.labels(automatic(pairs)), pids).f > 0.9


def test_the_silhouette_is_that_of_scikit_learn():
    vectors, pids = noisy_people(spread=0.8, count=6)
    pairs = near_pairs(vectors, neighbours=53)
    merges = average_linkage(pairs, highest_threshold(pairs))
    thresholds = highest_threshold(pairs) * np.arange(1, 41) / 40
    scores = [
        silhouette_score(vectors, labels, metric="cosine") if 1 < len(np.unique(labels)) < len(pids) else -2
        for labels in map(merges.labels, thresholds)
    ]
    assert silhouette_threshold(pairs, merges) == thresholds[int(np.argmax(np.round(scores, 5)))]


def test_merges_can_be_cut_anywhere():
    vectors, _ = noisy_people(spread=0.5)
    pairs = near_pairs(vectors, neighbours=30)
    merges = average_linkage(pairs, 0.8)
    for threshold in (0.1, 0.3, 0.5, 0.8):
        np.testing.assert_array_equal(merges.labels(threshold), joined(pairs, threshold))


def test_a_sample_of_pairs_gives_nearly_the_same_threshold(monkeypatch):
    vectors, _ = people_in_many_directions(spread=0.6, count=60)
    pairs = near_pairs(vectors, neighbours=30)
    whole = automatic(pairs)
    monkeypatch.setattr("passerby.clustering.impostors.SAMPLE", 200)
    monkeypatch.setattr("passerby.clustering.impostors.SILHOUETTE_ROWS", 100)
    assert automatic(pairs) == pytest.approx(whole, abs=0.05)
