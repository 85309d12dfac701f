"""The graph of one set against the published matrix, and the radius that is read off it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from passerby.clustering.graph import (
    SMALLEST,
    jaccard_neighbours,
    missing_at_1,
    mixed_with_source,
    smallest_share_mean,
    within,
)
from passerby.distances.sparse import SparseRows
from passerby.errors import UserError
from tests.oracles import jaccard, k_reciprocal_encoding, squared_euclidean

DATA = Path(__file__).parents[1] / "oracles_data"
JACCARD = json.loads((DATA / "jaccard_cluster.json").read_text())
FEATURES = np.array(JACCARD["features"], np.float32)
SSG = json.loads((DATA / "ssg_eps.json").read_text())


def stored(whole, *, below=1.0):
    """What is below 1, as the graph stores it."""
    row, column = np.nonzero(whole < below)
    start = np.searchsorted(row, np.arange(len(whole) + 1))
    return SparseRows(start, column, np.maximum(whole[row, column], SMALLEST).astype(np.float32), len(whole))


def test_the_clustering_form_equals_the_oracle():
    found = missing_at_1(jaccard_neighbours(FEATURES, k1=20, k2=6))
    np.testing.assert_allclose(found, JACCARD["expected"], atol=2e-5)
    assert found.sum() == pytest.approx(JACCARD["total"], abs=0.01)
    assert abs(found.sum() - JACCARD["with_k1_plus_1_neighbours"]["total"]) > 1


def test_the_form_of_reranking_equals_the_dense_loop():
    unit = FEATURES / np.linalg.norm(FEATURES, axis=1, keepdims=True)
    rows = k_reciprocal_encoding(np.maximum(squared_euclidean(unit, unit), 1e-12), k1=20, k2=6)
    found = missing_at_1(jaccard_neighbours(7 * FEATURES, k1=20, k2=6, form="reranking"))
    np.testing.assert_allclose(found, jaccard(rows, rows) * (1 - np.eye(len(rows))), atol=1e-4)


def test_exact_duplicates_stay_in_the_graph():
    vectors = FEATURES.copy()
    vectors[5] = vectors[31]
    graph = jaccard_neighbours(vectors, k1=8, k2=1).scipy()
    assert graph.data.min() >= np.float32(SMALLEST)
    assert 0 < graph[5, 31] < 1e-5


@pytest.mark.parametrize("count", [1, 20])
def test_fewer_images_than_k1_are_refused(count):
    with pytest.raises(UserError, match=f"fewer images than k1: {count} images with k1=20"):
        jaccard_neighbours(FEATURES[:count], k1=20)
    jaccard_neighbours(FEATURES[:21], k1=20)


@pytest.mark.parametrize("share", ["0.0016", "0.01", "0.05", "0.1"])
def test_the_radius_equals_that_of_ssg(share):
    graph = stored(np.array(SSG["dist"]))
    assert smallest_share_mean(graph, float(share)) == pytest.approx(SSG["by_rho"][share]["eps"], rel=1e-5)


def test_pairs_that_are_missing_count_at_1():
    rng = np.random.default_rng(0)
    half = np.triu(rng.uniform(0.2, 1, (12, 12)), 1)
    whole = half + half.T
    whole[whole > 0.5] = 1
    np.fill_diagonal(whole, 0)
    pairs = np.sort(whole[np.triu_indices(12, 1)])
    for count in (1, 20, 66):
        expected = pairs[:count].mean()
        assert smallest_share_mean(stored(whole), count / 66) == pytest.approx(expected, rel=1e-5)
    assert pairs[19] < 1 == pairs[40]


def test_a_share_of_nothing_is_refused():
    with pytest.raises(UserError, match=r"share must be in \(0, 1\], got 0"):
        smallest_share_mean(stored(np.zeros((2, 2))), 0)


def test_only_near_pairs_are_kept():
    graph = jaccard_neighbours(FEATURES, k1=20)
    near, whole = within(graph, 0.4).scipy(), graph.scipy().toarray()
    np.testing.assert_array_equal(near.toarray(), np.where(whole <= np.float32(0.4), whole, 0))
    assert 0 < near.nnz < (whole > 0).sum()
    at_once = jaccard_neighbours(FEATURES, k1=20, at_most=0.4).scipy()
    np.testing.assert_array_equal(at_once.toarray(), near.toarray())
    assert at_once.nnz == near.nnz


def test_images_far_from_the_source_move_apart():
    graph = jaccard_neighbours(FEATURES, k1=20)
    away = np.linspace(0, 1, len(FEATURES), dtype=np.float32)
    mixed, plain = mixed_with_source(graph, away, share=0.25).scipy().toarray(), graph.scipy().toarray()
    expected = 0.75 * plain + 0.25 * (away[:, None] + away)
    np.testing.assert_allclose(mixed, np.where(plain > 0, expected, 0), atol=1e-6)
