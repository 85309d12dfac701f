"""Sparse re-ranking against the published numbers and the dense loop."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from passerby.distances import kreciprocal as module
from passerby.distances import pairwise
from passerby.distances.jaccard import jaccard_graph
from passerby.distances.kreciprocal import k_reciprocal_rows, rerank
from passerby.distances.nearest import smallest_by_torch
from passerby.errors import UserError
from passerby.types import Rerank
from tests.oracles import jaccard, k_reciprocal_encoding, reranked, squared_euclidean

DATA = Path(__file__).parents[1] / "oracles_data"


def full(source):
    out = np.full(source.shape, np.nan, np.float32)
    for start, block in source.blocks():
        out[start : start + len(block)] = block
    return out


def oracle(name):
    record = json.loads((DATA / f"{name}.json").read_text())
    return record, np.array(record["query"], np.float32), np.array(record["gallery"], np.float32)


@pytest.fixture(params=["compiled", "torch"])
def _path(request, monkeypatch):
    if request.param == "torch":
        monkeypatch.setattr(module, "_by_halves", module._by_rows)
        monkeypatch.setattr(module, "smallest", smallest_by_torch)


@pytest.mark.usefixtures("_path")
@pytest.mark.parametrize(
    ("key", "options"), [("expected", {}), ("jaccard_only_lambda0", {"weight": 0.0}), ("k2_1", {"k2": 1})]
)
def test_equals_the_small_oracle(key, options):
    record, query, gallery = oracle("kreciprocal_12x30")
    np.testing.assert_allclose(full(rerank(query, gallery, parameters=Rerank(**options))), record[key], atol=1e-5)


def test_equals_the_larger_oracle():
    record, query, gallery = oracle("kreciprocal_100x400")
    found = full(rerank(query, gallery, parameters=Rerank()))
    tolerance = record["tolerance"]
    np.testing.assert_allclose(found[:5], record["expected_rows_0_to_4"], atol=1e-5)
    np.testing.assert_allclose(found.sum(axis=1), record["row_sum"], atol=tolerance["sums_atol"])
    np.testing.assert_allclose(found.sum(axis=0), record["col_sum"], atol=tolerance["sums_atol"])
    np.testing.assert_array_equal(np.argsort(found, axis=1, kind="stable")[:, :10], record["argsort_top10"])
    for key, options in (("k2_1_total", {"k2": 1}), ("lambda0_total", {"weight": 0.0})):
        total = full(rerank(query, gallery, parameters=Rerank(**options))).sum(dtype=np.float64)
        assert total == pytest.approx(record[key], abs=0.02)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    count_query=st.integers(1, 5),
    count_gallery=st.integers(1, 25),
    spread=st.sampled_from([0, 1, 3, 20]),
    k1=st.integers(1, 12),
    k2=st.integers(1, 5),
)
def test_equals_the_dense_loop_with_ties_and_duplicates(seed, count_query, count_gallery, spread, k1, k2):
    """Whole numbers, so that squared distances are exact and ties are ties in both."""
    rng = np.random.default_rng(seed)
    query, gallery = (
        rng.integers(-spread, spread + 1, (n, 3)).astype(np.float32) for n in (count_query, count_gallery)
    )
    found = full(rerank(query, gallery, parameters=Rerank(k1=k1, k2=k2, weight=0.3)))
    np.testing.assert_allclose(found, reranked(query, gallery, k1=k1, k2=k2, weight=0.3), atol=1e-5)


def test_cosine_is_euclidean_on_normalised_vectors():
    _, query, gallery = oracle("kreciprocal_100x400")
    scaled = gallery * np.linspace(0.1, 10, len(gallery), dtype=np.float32)[:, None]
    by_cosine = full(rerank(query, scaled, parameters=Rerank(), metric="cosine"))
    unit = [side / np.linalg.norm(side, axis=1, keepdims=True) for side in (query, gallery)]
    np.testing.assert_allclose(by_cosine, full(rerank(*unit, parameters=Rerank())), atol=1e-5)


def test_blocks_of_another_height_change_nothing():
    """The source of the original distances decides how many rows come at once."""

    class AtOnce:
        offset, bounds = 0.0, (0.0, 1.0)

        def __init__(self, values):
            self.values, self.shape = values, values.shape

        def blocks(self):
            for start, stop in ((0, 3), (3, len(self.values))):
                yield start, torch.from_numpy(self.values[start:stop].copy())

    _, query, gallery = oracle("kreciprocal_100x400")
    source = rerank(query, gallery, parameters=Rerank())
    other = replace(source, original=AtOnce(full(source.original)))
    np.testing.assert_allclose(full(other), full(source), atol=1e-6)


def test_small_blocks_change_nothing(monkeypatch):
    _, query, gallery = oracle("kreciprocal_12x30")
    at_once = full(rerank(query, gallery, parameters=Rerank()))
    monkeypatch.setattr(pairwise, "_COMFORTABLE_BYTES", 700)
    monkeypatch.setattr(pairwise, "_LARGEST_BYTES", 700)
    source = rerank(query, gallery, parameters=Rerank())
    assert len(list(source.blocks())) > 2
    np.testing.assert_allclose(full(source), at_once, atol=1e-6)


@pytest.mark.parametrize("variant", ["rerank", "cluster"])
def test_rows_and_graph_of_one_set_equal_the_dense_loop(variant):
    rng = np.random.default_rng(3)
    vectors = rng.integers(-4, 5, (60, 3)).astype(np.float32)
    vectors[10] = vectors[20]
    rows = k_reciprocal_rows(vectors, k1=8, k2=3, variant=variant, metric="euclidean")
    np.testing.assert_allclose(rows.scipy().sum(axis=1), 1, atol=1e-6)
    squares = np.maximum(squared_euclidean(vectors, vectors), 1e-12)
    options = {} if variant == "rerank" else {"count": 8, "normalise": False}
    expected = k_reciprocal_encoding(squares, k1=8, k2=3, **options)
    np.testing.assert_allclose(rows.scipy().toarray(), expected, atol=1e-5)
    graph = jaccard_graph(rows).scipy()
    assert graph.data.min() == pytest.approx(1e-6, abs=1e-7)
    dense = np.ones(graph.shape)
    coordinates = graph.tocoo()
    dense[coordinates.row, coordinates.col] = coordinates.data
    np.testing.assert_allclose(dense, jaccard(expected, expected), atol=1e-5)


def test_what_cannot_be_is_refused():
    vectors = np.ones((4, 2), np.float32)
    with pytest.raises(UserError, match="k1=0"):
        k_reciprocal_rows(vectors, k1=0)
    with pytest.raises(UserError, match="2 dims, gallery vectors 3"):
        rerank(vectors, np.ones((4, 3), np.float32), parameters=Rerank())
