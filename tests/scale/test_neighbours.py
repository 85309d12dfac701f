"""Pairs of shards give the neighbours of the whole set; no cluster is started, tasks run in this process."""

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose

from passerby.distances import pairwise
from passerby.distances.kreciprocal import nearest_neighbours, rerank, searched_by
from passerby.distances.pairwise import vectors_on
from passerby.scale.neighbours import NearestLists, compare_shards, cut_shards, nearest_over_shards
from passerby.types import Rerank
from tests.scale.inline import InlineRay


def over(count_rows_of_shard):
    """Return a search over shards that runs here."""
    return lambda source, count: nearest_over_shards(InlineRay(), source, count, shard=count_rows_of_shard)


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
@pytest.mark.parametrize("shard", [5, 17, 100])
def test_neighbours_equal_those_of_one_process(metric, shard):
    generator = np.random.default_rng(shard)
    sides = tuple(
        vectors_on(generator.normal(size=(count, 16)).astype(np.float32), metric=metric, device="cpu")
        for count in (40, 23)
    )
    alone = nearest_neighbours(sides, 9, metric=metric)
    with searched_by(over(shard)):
        shared = nearest_neighbours(sides, 9, metric=metric)
    assert np.array_equal(alone.row, shared.row)
    assert_allclose(shared.square, alone.square, rtol=0, atol=1e-5)
    assert_allclose(shared.largest, alone.largest, rtol=1e-6)


@pytest.mark.parametrize("shard", [3, 5, 64])
def test_duplicates_are_ordered_by_row_after_the_image_itself(shard):
    """Small whole numbers have exact distances, so ties are ties in every order of the sums."""
    vectors = np.random.default_rng(0).integers(0, 2, (31, 4)).astype(np.float32)
    side = vectors_on(vectors, metric="euclidean", device="cpu")
    alone = nearest_neighbours((side,), 12, metric="euclidean")
    with searched_by(over(shard)):
        shared = nearest_neighbours((side,), 12, metric="euclidean")
    assert np.array_equal(alone.row, shared.row)
    assert np.array_equal(alone.square, shared.square)
    assert np.array_equal(shared.row[:, 0], np.arange(31))


def test_pairs_of_shards_in_several_blocks(monkeypatch):
    side = vectors_on(np.random.default_rng(4).normal(size=(40, 8)).astype(np.float32), metric="cosine", device="cpu")
    alone = nearest_neighbours((side,), 6, metric="cosine")
    monkeypatch.setattr(pairwise, "rows_per_block", lambda rows, columns: 3)
    with searched_by(over(16)):
        shared = nearest_neighbours((side,), 6, metric="cosine")
    assert np.array_equal(alone.row, shared.row)


def test_more_neighbours_than_rows_of_a_shard():
    side = vectors_on(np.random.default_rng(0).normal(size=(9, 4)).astype(np.float32), metric="cosine", device="cpu")
    alone = nearest_neighbours((side,), 20, metric="cosine")
    with searched_by(over(2)):
        shared = nearest_neighbours((side,), 20, metric="cosine")
    assert np.array_equal(alone.row, shared.row)
    assert shared.row.shape == (9, 9)


def test_reranked_distances_equal_those_of_one_process():
    generator = np.random.default_rng(1)
    query, gallery = (generator.normal(size=(count, 8)).astype(np.float32) for count in (12, 50))
    parameters = Rerank(k1=8, k2=3)
    alone = torch.cat([block.clone() for _, block in rerank(query, gallery, parameters=parameters).blocks()])
    with searched_by(over(16)):
        shared = torch.cat([block.clone() for _, block in rerank(query, gallery, parameters=parameters).blocks()])
    assert_allclose(shared.numpy(), alone.numpy(), rtol=0, atol=1e-6)


def test_the_search_of_a_block_ends_with_it():
    side = vectors_on(np.eye(4, dtype=np.float32), metric="cosine", device="cpu")
    with pytest.raises(RuntimeError, match="no cluster"), searched_by(_fails):
        nearest_neighbours((side,), 2, metric="cosine")
    assert nearest_neighbours((side,), 2, metric="cosine").row.shape == (4, 2)


def _fails(source, count):
    raise RuntimeError("no cluster")


def test_merged_lists_do_not_depend_on_their_order():
    generator = np.random.default_rng(2)
    side = vectors_on(generator.integers(0, 3, (20, 3)).astype(np.float32), metric="euclidean", device="cpu")
    first, *others = cut_shards((side,), 5)
    lists = [compare_shards(first, other, count=4, metric="euclidean")[0] for other in others]
    forward, backward = lists[0], lists[-1]
    for each in lists[1:]:
        forward = forward.merged(each, 4)
    for each in reversed(lists[:-1]):
        backward = backward.merged(each, 4)
    assert isinstance(forward, NearestLists)
    for name in ("row", "value", "largest"):
        assert np.array_equal(getattr(forward, name), getattr(backward, name))


def test_read_only_rows_as_workers_receive_them():
    side = vectors_on(np.random.default_rng(3).normal(size=(6, 4)).astype(np.float32), metric="cosine", device="cpu")
    (shard,) = cut_shards((side,), 6)
    expected = compare_shards(shard, shard, count=3, metric="cosine")[0]
    shard.rows.setflags(write=False)
    shard.scale.setflags(write=False)
    lists, reverse = compare_shards(shard, shard, count=3, metric="cosine")
    assert np.array_equal(lists.row, expected.row)
    assert reverse is None
