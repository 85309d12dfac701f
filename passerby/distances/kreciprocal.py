"""k-reciprocal re-ranking in sparse rows, equal to the dense computation.

Two images belong together when each is among the nearest neighbours of the other, and when their neighbourhoods
overlap. Of every image only its neighbours are kept, so memory grows with N * k and not with N * N, and a re-ranked
distance is made when it is asked for, a block of queries at a time.

Reference: Zhong, Zheng, Cao, Li, "Re-ranking person re-identification with k-reciprocal encoding", CVPR 2017,
equations 3 to 12. The clustering variant is the one of Ge et al., "Self-paced contrastive learning", NeurIPS 2020.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch

from passerby.distances.jaccard import jaccard_block
from passerby.distances.nearest import NearestSoFar, smallest
from passerby.distances.pairwise import (
    SMALLEST_SQUARE,
    DistanceSource,
    Metric,
    PairwiseDistances,
    ScaledVectors,
    empty_block,
    pairwise,
    vectors_on,
)
from passerby.distances.reciprocal import Neighbours, Squares, encode, expand_queries
from passerby.distances.sparse import SparseRows
from passerby.errors import UserError
from passerby.types import Floats, Ints, Rerank

Variant = Literal["rerank", "cluster"]
"""`rerank`: k1 + 1 neighbours, distances divided by the largest of their row; `cluster`: k1 neighbours, as they are."""

NeighbourSearch = Callable[[PairwiseDistances, int], tuple[Ints, Floats, Floats]]
"""Maps the distances of a set to itself and K to rows and values (N, K) of the nearest, itself first, and the largest
value of each row (N,); values are those of a block."""

_SEARCH: ContextVar[NeighbourSearch | None] = ContextVar("neighbour search", default=None)


@dataclass(frozen=True, eq=False)
class RerankedDistances:
    """(1 - weight) * Jaccard distance + weight * original distance, in [0, 1]; made by `blended`.

    Attributes:
        original: distances from the queries to the gallery.
        metric: what the blocks of `original` hold.
        query_rows: (Q, Q + G) encoding of the queries.
        gallery_columns: (Q + G, G) encoding of the gallery, by column.
        largest: (Q,) what the squared distances of each query are divided by.
        weight: share of the original distance.

    """

    original: DistanceSource
    metric: Metric
    query_rows: SparseRows
    gallery_columns: SparseRows
    largest: Floats
    weight: float

    @property
    def shape(self) -> tuple[int, int]:
        """(Q, G)."""
        return self.original.shape

    @property
    def offset(self) -> float:
        """0: a block holds the distance itself."""
        return 0.0

    @property
    def bounds(self) -> tuple[float, float]:
        """(0, 1)."""
        return 0.0, 1.0

    def blocks(self) -> Iterator[tuple[int, torch.Tensor]]:
        """Yield (first row, (B, G) re-ranked distances)."""
        jaccard = torch.empty(0, self.shape[1])
        for start, block in self.original.blocks():
            if len(jaccard) < len(block):
                jaccard = empty_block(len(block), self.shape[1], device=torch.device("cpu"))
            rows = jaccard[: len(block)]
            jaccard_block(self.query_rows.slice(start, start + len(block)), self.gallery_columns, out=rows.numpy())
            largest = torch.from_numpy(self.largest[start : start + len(block), None]).to(block.device)
            squared_in_place(block, self.metric).mul_(self.weight / largest)
            yield start, block.add_(rows.to(block.device), alpha=1 - self.weight)


def rerank(
    query: Floats, gallery: Floats, *, parameters: Rerank, metric: Metric = "euclidean", device: str = "cpu"
) -> RerankedDistances:
    """Re-rank the gallery (G, D) for every query (Q, D).

    Query and gallery must come from one site: the neighbourhoods are those of their union.

    Args:
        query: float32 vectors.
        gallery: float32 vectors of the same length.
        parameters: k1, k2 and the weight of the original distance.
        metric: `euclidean` takes the vectors as they are, `cosine` as if they were normalised.
        device: where matrix products and nearest neighbours are computed; the sets are made on the CPU in any case.

    >>> source = rerank(np.eye(3, 2, dtype=np.float32), np.eye(4, 2, dtype=np.float32), parameters=Rerank(k1=2, k2=1))
    >>> source.shape
    (3, 4)

    Raises:
        UserError: the two differ in D, or the device is not there.

    """
    original = pairwise(query, gallery, metric=metric, device=device)
    sides, k1, k2 = (*original.left, *original.right), parameters.k1, parameters.k2
    neighbours = nearest_neighbours(sides, max(k1 + 1, k2), metric=metric)
    rows = encode_set(sides, neighbours, count=k1 + 1, count_half=round(k1 / 2) + 1, k2=k2, metric=metric)
    return blended(original, rows, metric=metric, largest=neighbours.largest, weight=parameters.weight)


def blended(
    original: DistanceSource, rows: SparseRows, *, metric: Metric, largest: Floats, weight: float
) -> RerankedDistances:
    """Return the distances of queries to a gallery, blended with the Jaccard distances of their encodings.

    Args:
        original: the distances (Q, G).
        rows: encoding (Q + G, Q + G) of the queries and of the gallery.
        metric: what the blocks of `original` hold.
        largest: (Q + G,) the largest squared distance of each.
        weight: share of the original distance.

    """
    count_query = original.shape[0]
    return RerankedDistances(
        original=original,
        metric=metric,
        query_rows=rows.slice(0, count_query),
        gallery_columns=rows.slice(count_query, len(rows)).transposed(),
        largest=largest[:count_query],
        weight=weight,
    )


def k_reciprocal_rows(
    vectors: Floats,
    *,
    k1: int = 30,
    k2: int = 6,
    variant: Variant = "cluster",
    metric: Metric = "cosine",
    device: str = "cpu",
) -> SparseRows:
    """Return the (N, N) k-reciprocal encoding of one set of `vectors` (N, D); `jaccard_graph` makes distances of it.

    Raises:
        UserError: k1 or k2 below 1, or the device is not there.

    """
    if k1 < 1 or k2 < 1:
        raise UserError(f"k1 and k2 must be at least 1, got k1={k1} and k2={k2}")
    side = vectors_on(vectors, metric=metric, device=device)
    count = k1 + 1 if variant == "rerank" else k1
    neighbours = nearest_neighbours((side,), max(count, k2), metric=metric)
    if variant == "cluster":
        neighbours = Neighbours(neighbours.row, neighbours.square, np.ones_like(neighbours.largest))
    return encode_set((side,), neighbours, count=count, count_half=round(k1 / 2) + 1, k2=k2, metric=metric)


def nearest_neighbours(sides: tuple[ScaledVectors, ...], count: int, *, metric: Metric) -> Neighbours:
    """Return the `count` nearest (fewer in a smaller set) of every image of the joined sides, itself first."""
    source = PairwiseDistances(sides, sides, metric)
    count = min(count, source.shape[0])
    search = _SEARCH.get() or (_by_halves if sides[0].rows.device.type == "cpu" else _by_rows)
    row, square, largest = search(source, count)
    assert row.min(initial=0) >= 0  # distances that are not finite would leave -1, and the kernels do not check bounds
    square, largest = (squared_in_place(torch.from_numpy(values), metric).numpy() for values in (square, largest))
    square[:, 0] = SMALLEST_SQUARE
    return Neighbours(row, square, largest)


@contextmanager
def searched_by(search: NeighbourSearch) -> Iterator[None]:
    """Find the neighbours of `nearest_neighbours` by another search within the block, for example on many machines."""
    token = _SEARCH.set(search)
    try:
        yield
    finally:
        _SEARCH.reset(token)


def _by_halves(source: PairwiseDistances, count: int) -> tuple[Ints, Floats, Floats]:
    """Return rows and values (N, K) of the nearest, and the largest value of every row (N,), as blocks hold them."""
    nearest = NearestSoFar(source.shape[0], count)
    largest = torch.full((source.shape[0],), -torch.inf)
    for start, block in source.upper_blocks():
        nearest.offer(block.numpy(), start)
        stop = start + len(block)
        largest[start:stop] = torch.maximum(largest[start:stop], block.amax(dim=1))
        if stop < len(largest):
            largest[stop:] = torch.maximum(largest[stop:], block[:, len(block) :].amax(dim=0))
    return nearest.row, nearest.value, largest.numpy()


def _by_rows(source: PairwiseDistances, count: int) -> tuple[Ints, Floats, Floats]:
    """Do what `_by_halves` does for twice the work, on whichever device the blocks are."""
    count_rows = source.shape[0]
    row, value = np.empty((count_rows, count), np.int64), np.empty((count_rows, count), np.float32)
    largest = np.empty(count_rows, np.float32)
    for start, block in source.blocks():
        lines = slice(start, start + len(block))
        row[lines], value[lines] = smallest(block, count, own=start)
        largest[lines] = block.amax(dim=1).cpu().numpy()
    return row, value, largest


def encode_set(
    sides: tuple[ScaledVectors, ...], neighbours: Neighbours, *, count: int, count_half: int, k2: int, metric: Metric
) -> SparseRows:
    """Return the encoding of the joined sides after local query expansion over k2 neighbours."""
    first, second = sides[0].rows.cpu().numpy(), sides[-1].rows.cpu().numpy()
    scale = torch.cat([side.scale for side in sides]).cpu().numpy()
    squares = Squares(first, second, scale, metric == "cosine")
    rows = encode(neighbours, squares, count=count, count_half=count_half)
    return rows if k2 == 1 else expand_queries(rows, neighbours.row[:, :k2])


def squared_in_place(values: torch.Tensor, metric: Metric) -> torch.Tensor:
    """Turn the values of a block into squared Euclidean distances: of unit vectors, 2 - 2 cos, where `cosine`."""
    return values.mul_(2).add_(2).clamp_min_(SMALLEST_SQUARE) if metric == "cosine" else values
