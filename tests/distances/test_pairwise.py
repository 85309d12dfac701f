"""Blocks of distances against float64."""

from __future__ import annotations

import numpy as np
import pytest

from passerby.distances import pairwise as module
from passerby.distances.pairwise import PairwiseDistances, pairwise, rows_per_block, vectors_on
from passerby.errors import UserError
from tests.oracles import squared_euclidean


def full(source):
    out = np.full(source.shape, np.nan, np.float32)
    for start, block in source.blocks():
        out[start : start + len(block)] = block
    return out


@pytest.fixture
def _small_blocks(monkeypatch):
    monkeypatch.setattr(module, "_COMFORTABLE_BYTES", 400)
    monkeypatch.setattr(module, "_LARGEST_BYTES", 400)


@pytest.mark.usefixtures("_small_blocks")
@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_blocks_equal_the_definition(metric):
    rng = np.random.default_rng(0)
    query, gallery = (rng.standard_normal((n, 8)).astype(np.float32) for n in (11, 23))
    query[0] = gallery[3]
    gallery[5] = 0
    source = pairwise(query, gallery, metric=metric)
    assert len(list(source.blocks())) > 1
    values = full(source) + source.offset
    if metric == "euclidean":
        np.testing.assert_allclose(values, squared_euclidean(query, gallery), rtol=1e-4, atol=1e-5)
        assert values.min() >= 1e-12
    else:
        norms = np.linalg.norm(query, axis=1)[:, None] * np.maximum(np.linalg.norm(gallery, axis=1), 1e-12)
        np.testing.assert_allclose(values, 1 - query @ gallery.T / norms, atol=1e-5)
        np.testing.assert_array_equal(values[:, 5], 1)
    low, high = source.bounds
    assert low - 1e-5 <= full(source).min()
    assert full(source).max() <= high + 1e-5


@pytest.mark.usefixtures("_small_blocks")
@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_parts_side_by_side_equal_one_part(metric):
    rng = np.random.default_rng(1)
    query, gallery = (rng.integers(-3, 4, (n, 4)).astype(np.float32) for n in (7, 9))
    sides = tuple(vectors_on(side, metric=metric, device="cpu") for side in (query, gallery))
    joined = np.concatenate([query, gallery])
    parts = full(PairwiseDistances(sides, sides, metric))
    np.testing.assert_allclose(parts, full(pairwise(joined, joined, metric=metric)), atol=1e-6)


@pytest.mark.usefixtures("_small_blocks")
@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
@pytest.mark.parametrize("counts", [(16,), (7, 9), (1, 2, 13)])
def test_upper_blocks_are_the_blocks_from_the_diagonal_on(metric, counts):
    rng = np.random.default_rng(2)
    sides = tuple(
        vectors_on(rng.integers(-3, 4, (n, 4)).astype(np.float32), metric=metric, device="cpu") for n in counts
    )
    source = PairwiseDistances(sides, sides, metric)
    whole, seen = full(source), 0
    for start, block in source.upper_blocks():
        assert start == seen
        np.testing.assert_allclose(block, whole[start : start + len(block), start:], atol=1e-6)
        seen += len(block)
    assert seen == 16


def test_vectors_are_not_copied_and_read_only_ones_are_accepted():
    vectors = np.ones((3, 2), np.float32)
    assert pairwise(vectors, vectors).right[0].rows.data_ptr() == vectors.ctypes.data
    vectors.flags.writeable = False
    assert full(pairwise(vectors, vectors)).shape == (3, 3)


def test_blocks_are_small_yet_never_empty():
    assert rows_per_block(3368, 15913) * 15913 * 4 <= 72 << 20
    assert rows_per_block(11659, 82161) * 82161 * 4 <= 192 << 20
    assert rows_per_block(1, 10**9) == 1
    assert rows_per_block(0, 5) == 1


def test_unequal_dims_and_unknown_devices_are_refused():
    vectors = np.ones((3, 2), np.float32)
    with pytest.raises(UserError, match="2 dims, gallery vectors 3"):
        pairwise(vectors, np.ones((3, 3), np.float32))
    for device in ("cuda:99", "gpu"):
        with pytest.raises(UserError, match=f"device '{device}' cannot be used"):
            pairwise(vectors, vectors, device=device)


@pytest.mark.parametrize("power", [-120, -60, 60, 110])
def test_cosine_does_not_depend_on_the_scale_of_the_vectors(power):
    rng = np.random.default_rng(3)
    query, gallery = (rng.standard_normal((n, 8)).astype(np.float32) for n in (6, 9))
    scaled = np.ldexp(gallery, power)
    assert np.isfinite(scaled).all()
    np.testing.assert_array_equal(full(pairwise(query, scaled)), full(pairwise(query, gallery)))
    np.testing.assert_array_equal(full(pairwise(np.ldexp(query, power), scaled)), full(pairwise(query, gallery)))


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_every_distance_of_finite_vectors_is_finite(metric):
    rng = np.random.default_rng(4)
    vectors = rng.standard_normal((6, 8)).astype(np.float32)
    vectors[:3] = [[3e38] * 8, [1e-45] * 8, [0] * 8]
    if metric == "euclidean":
        with pytest.raises(UserError, match="too long for squared Euclidean distances"):
            pairwise(vectors, vectors, metric=metric)
        with pytest.raises(UserError, match=r"norm 8\.5e-21, too short"):
            pairwise(np.full((2, 8), 3e-21, np.float32), vectors[3:], metric=metric)
        return
    values = full(pairwise(vectors, vectors, metric=metric))
    assert np.isfinite(values).all()
    np.testing.assert_allclose(np.diag(values), [-1, -1, 0, -1, -1, -1], atol=1e-6)


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_vectors_that_are_not_finite_are_refused(metric, value):
    vectors = np.ones((3, 2), np.float32)
    vectors[1, 0] = value
    with pytest.raises(UserError, match="NaN or infinity"):
        pairwise(vectors, vectors, metric=metric)
