"""The nearest neighbours of a set over the workers of a Ray cluster: pairs of shards, merged lists.

A task compares two shards of rows and returns the nearest of each among the other, so each distance is computed once.
Of S shards there are S (S + 1) / 2 tasks; the lists of a shard are merged as they come. Lists are ordered by value,
then by row, so the result does not depend on the order in which tasks end.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch

from passerby.distances.kreciprocal import searched_by
from passerby.distances.nearest import smallest
from passerby.distances.pairwise import Metric, PairwiseDistances, ScaledVectors
from passerby.types import Floats, Ints

SHARD = 8192
"""Fewest rows of a shard: 64 million distances, about a second of a core in 512 dimensions."""
MOST_SHARDS = 256
RETRIES = 3
"""How often a task is given out again after its worker ended."""
AHEAD = 4
"""Tasks that are given out per core before one has ended."""


@dataclass(frozen=True, eq=False)
class RowShard:
    """Consecutive rows of a set.

    Attributes:
        start: the first row.
        rows, scale: (B, D) and (B,) as in `ScaledVectors`.

    """

    start: int
    rows: Floats
    scale: Floats

    def scaled(self) -> ScaledVectors:
        """Return the rows for the kernels, which only read them."""
        return ScaledVectors(_tensor(self.rows), _tensor(self.scale))


@dataclass(frozen=True, eq=False)
class NearestLists:
    """The nearest of each row of a shard among some of the set.

    Attributes:
        row: (B, K) rows of the set, by ascending value, ties by row.
        value: (B, K) as a block holds them; -inf for the row itself.
        largest: (B,) largest value to all that were compared.

    """

    row: Ints
    value: Floats
    largest: Floats

    def merged(self, other: NearestLists, count: int) -> NearestLists:
        """Return the `count` nearest of both."""
        row = np.concatenate([self.row, other.row], axis=1)
        value = np.concatenate([self.value, other.value], axis=1)
        order = np.lexsort((row, value), axis=1)[:, :count]
        return NearestLists(
            np.take_along_axis(row, order, axis=1),
            np.take_along_axis(value, order, axis=1),
            np.maximum(self.largest, other.largest),
        )


def compare_shards(
    first: RowShard, second: RowShard, *, count: int, metric: Metric
) -> tuple[NearestLists, NearestLists | None]:
    """Return the nearest of the rows of `first` among `second`, and the reverse, None where the two are the same.

    Args:
        first, second: shards of one set.
        count: length of the lists, cut to the rows that are compared.
        metric: of the blocks.

    """
    same = first.start == second.start
    source = PairwiseDistances((first.scaled(),), (second.scaled(),), metric)
    lines = list[NearestLists]()
    columns: NearestLists | None = None
    for start, block in source.blocks():
        lines.append(_nearest(block, count, second.start, own=start if same else None))
        if not same:
            part = _nearest(block.T.contiguous(), count, first.start + start)
            columns = part if columns is None else columns.merged(part, count)
    joined = NearestLists(
        *(np.concatenate([getattr(part, name) for part in lines]) for name in ("row", "value", "largest"))
    )
    return joined, columns


def _nearest(block: torch.Tensor, count: int, first: int, *, own: int | None = None) -> NearestLists:
    """Return the nearest columns of a block whose first column is row `first` of the set."""
    column, value = smallest(block, min(count, block.shape[1]), own=own)
    if own is not None:
        value[:, 0] = -np.inf
    return NearestLists(column + first, value, block.amax(dim=1).numpy())


def _tensor(values: Floats) -> torch.Tensor:
    """Return an array as a tensor; one in shared memory is read-only, which torch takes by a copy only."""
    return torch.from_numpy(values if values.flags.writeable else values.copy())


# ---- over a cluster


def nearest_over_shards(
    ray: Any, source: PairwiseDistances, count: int, *, shard: int | None = None
) -> tuple[Ints, Floats, Floats]:
    """Return rows and values (N, K) of the nearest of a set, itself first, and the largest value of each row (N,).

    Args:
        ray: the module, connected to a cluster.
        source: the distances of the set to itself.
        count: K, at most N.
        shard: rows of a shard; None = 8,192, or N / 256 where that is more.

    """
    total = source.shape[0]
    shards = list(cut_shards(source.left, shard or max(SHARD, -(-total // MOST_SHARDS))))
    lists = _submit(ray, shards, count, source.metric)
    row, value = np.empty((total, count), np.int64), np.empty((total, count), np.float32)
    largest = np.empty(total, np.float32)
    for part in shards:
        result: NearestLists = ray.get(lists.pop(part.start))
        lines = slice(part.start, part.start + len(part.rows))
        row[lines], value[lines], largest[lines] = result.row, result.value, result.largest
    return row, value, largest


def cut_shards(parts: tuple[ScaledVectors, ...], size: int) -> Iterator[RowShard]:
    """Yield the rows of the parts of a set in shards of at most `size`."""
    first = 0
    for part in parts:
        rows, scale = part.rows.cpu().numpy(), part.scale.cpu().numpy()
        for start in range(0, len(rows), size):
            yield RowShard(first + start, rows[start : start + size], scale[start : start + size])
        first += len(rows)


def _submit(ray: Any, shards: list[RowShard], count: int, metric: Metric) -> dict[int, Any]:
    """Give out all pairs of shards; return the reference of the merged lists of each, by its first row."""
    options = {"num_cpus": 1, "max_retries": RETRIES}
    compare = ray.remote(num_returns=2, **options)(compare_shards)
    merge = ray.remote(**options)(NearestLists.merged)
    stored = [(part.start, ray.put(part)) for part in shards]
    most = AHEAD * max(1, int(ray.cluster_resources().get("CPU", 1)))
    lists: dict[int, Any] = {}
    running: list[Any] = []
    for number, (first, left) in enumerate(stored):
        for second, right in stored[number:]:
            lines, columns = compare.remote(left, right, count=count, metric=metric)
            running.append(lines)
            for owner, result in [(first, lines), (second, columns)][: 1 if first == second else 2]:
                lists[owner] = merge.remote(lists[owner], result, count) if owner in lists else result
            if len(running) >= most:
                _, running = ray.wait(running, num_returns=1)
    return lists


@contextlib.contextmanager
def neighbours_over(ray: Any) -> Iterator[None]:
    """Search the nearest neighbours of clustering and re-ranking over a cluster within the block."""
    with searched_by(partial(nearest_over_shards, ray)):
        yield
