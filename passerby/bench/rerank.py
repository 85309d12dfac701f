"""Speed of sparse k-reciprocal re-ranking, compared with the usual dense computation in Python.

The matrix products and the order of the neighbours, common to both, are computed beforehand and not timed; the peak
memory is that of the whole computation above the vectors.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np
import torch

from passerby.bench.measure import BenchTable, Contender, contest
from passerby.bench.ranking import TINY
from passerby.bench.sites import SIZES, Features, Size, SizeName, make_features
from passerby.distances.camera_jaccard import camera_rerank
from passerby.distances.kreciprocal import RerankedDistances, blended, encode_set, nearest_neighbours, rerank
from passerby.distances.pairwise import PairwiseDistances, ScaledVectors, empty_block, pairwise, vectors_on
from passerby.distances.reciprocal import Neighbours
from passerby.types import CameraRerank, Floats, Ints, Rerank

PRODUCTS = "matrix products and nearest neighbours"
WHOLE = "sparse re-ranking, whole"
CAMERAS = "camera-aware re-ranking, whole"
SPARSE = "sparse re-ranking, after the neighbours"
DENSE = "dense Python, after the neighbours"

K1, K2, WEIGHT = 20, 6, 0.3


@dataclass(frozen=True, eq=False)
class RerankInput:
    """Vectors, and the inputs of the timed stages, computed on first use."""

    features: Features

    @cached_property
    def sides(self) -> tuple[ScaledVectors, ScaledVectors]:
        """Queries and gallery."""
        query, gallery = (
            vectors_on(side, metric="euclidean", device="cpu") for side in (self.features.query, self.features.gallery)
        )
        return query, gallery

    @cached_property
    def neighbours(self) -> Neighbours:
        """The k1 + 1 nearest of every image."""
        return nearest_neighbours(self.sides, K1 + 1, metric="euclidean")

    @cached_property
    def squares(self) -> Floats:
        """(Q, G) squared distances."""
        source = pairwise(self.features.query, self.features.gallery, metric="euclidean")
        return np.concatenate([block.numpy().copy() for _, block in source.blocks()])

    @cached_property
    def all_squares(self) -> Floats:
        """(N, N) squared distances, as the dense computation holds them."""
        source = PairwiseDistances(self.sides, self.sides, "euclidean")
        squares = np.empty(source.shape, np.float32)
        for start, block in source.blocks():
            squares[start : start + len(block)] = block.numpy()
        return squares

    @cached_property
    def order(self) -> Ints:
        """(N, N) all rows by ascending distance."""
        return np.argsort(self.all_squares, axis=1)


@dataclass(frozen=True, eq=False)
class CopiedSquares:
    """A distance source that copies its blocks from a matrix, in place of computing them."""

    squares: Floats
    offset: float = 0.0
    bounds: tuple[float, float] = (0.0, 1.0)

    @property
    def shape(self) -> tuple[int, int]:
        """(Q, G)."""
        return self.squares.shape[0], self.squares.shape[1]

    def blocks(self) -> Iterator[tuple[int, torch.Tensor]]:
        """Yield blocks of 1,024 rows that may be overwritten."""
        buffer = empty_block(min(1024, len(self.squares)), self.shape[1], device=torch.device("cpu"))
        for start in range(0, len(self.squares), 1024):
            rows = torch.from_numpy(self.squares[start : start + 1024])
            yield start, buffer[: len(rows)].copy_(rows)


def bench_rerank(*, quick: bool = False, site: SizeName = "market1501") -> BenchTable:
    """Measure re-ranking at the size of a test set (`quick`: an eighth of it in every direction).

    The dense peer needs about 10 GB and two minutes at the size of Market-1501, and is left out at that of MSMT17.
    """
    size = SIZES[site].smaller(8) if quick else SIZES[site]
    rounds = 3 if site == "market1501" else 1
    contenders = [
        Contender(WHOLE, _whole, 1, measure_peak=True),
        Contender(CAMERAS, _by_camera, 1, against=WHOLE, measure_peak=True),
    ]
    if site == "market1501":
        contenders += [
            Contender(PRODUCTS, _products),
            Contender(SPARSE, _sparse, rounds),
            Contender(DENSE, _dense, 1, against=SPARSE, measure_peak=True),
        ]
    title = f"re-ranking at {site} size, {size}, k1={K1} k2={K2}"
    return contest(title, tuple(contenders), make=partial(_prepare, size), warm=_warm)


def _prepare(size: Size) -> RerankInput:
    return RerankInput(make_features(size))


def _warm() -> None:
    prepared = RerankInput(make_features(TINY))
    _whole(prepared)
    _by_camera(prepared)
    _sparse(prepared)


def _consume(source: RerankedDistances) -> float:
    return float(sum(block[0, 0] for _, block in source.blocks()))


def _whole(prepared: RerankInput) -> float:
    features = prepared.features
    return _consume(rerank(features.query, features.gallery, parameters=Rerank(K1, K2, WEIGHT)))


def _by_camera(prepared: RerankInput) -> float:
    features = prepared.features
    cam = features.cam[: features.count_query], features.cam[features.count_query :]
    return _consume(camera_rerank(features.query, features.gallery, cam, parameters=CameraRerank()))


def _products(prepared: RerankInput) -> Neighbours:
    for _ in pairwise(prepared.features.query, prepared.features.gallery, metric="euclidean").blocks():
        pass
    return nearest_neighbours(prepared.sides, K1 + 1, metric="euclidean")


def _sparse(prepared: RerankInput) -> float:
    neighbours, half = prepared.neighbours, round(K1 / 2) + 1
    rows = encode_set(prepared.sides, neighbours, count=K1 + 1, count_half=half, k2=K2, metric="euclidean")
    squares = CopiedSquares(prepared.squares)
    return _consume(blended(squares, rows, metric="euclidean", largest=neighbours.largest, weight=WEIGHT))


def _dense(prepared: RerankInput) -> Floats:
    return dense_reranked(prepared.all_squares, prepared.order, prepared.features.count_query)


def dense_reranked(squares: Floats, order: Ints, count_query: int) -> Floats:
    """Return (Q, G) re-ranked distances by the usual dense computation: Python loops over whole rows.

    Args:
        squares: (N, N) squared distances, queries first.
        order: (N, N) all rows by ascending distance.
        count_query: Q.

    """
    count = len(squares)
    distances = squares / squares.max(axis=1, keepdims=True)
    encoding = np.zeros((count, count), np.float32)
    for i in range(count):
        members = expanded(order, i, count=K1 + 1, count_half=round(K1 / 2) + 1)
        weights = np.exp(-distances[i, members])
        encoding[i, members] = weights / weights.sum()
    jaccard = dense_jaccard(encoding, order[:, :K2], count_query)
    result = (1 - WEIGHT) * jaccard + WEIGHT * distances[:count_query]
    return np.asarray(result[:, count_query:], np.float32)


def dense_jaccard(encoding: Floats, nearest: Ints, count_rows: int) -> Floats:
    """Return the first rows of the (N, N) Jaccard distances after query expansion, row by row over whole rows.

    Args:
        encoding: (N, N) rows that each sum to 1.
        nearest: (N, k2) neighbours whose rows are averaged.
        count_rows: how many rows to return.

    """
    count = len(encoding)
    mean = np.empty_like(encoding)
    for i in range(count):
        mean[i] = encoding[nearest[i]].mean(axis=0)
    users = [np.flatnonzero(mean[:, column]) for column in range(count)]
    jaccard = np.empty((count_rows, count), np.float32)
    for i in range(count_rows):
        overlap = np.zeros(count, np.float32)
        for column in np.flatnonzero(mean[i]):
            overlap[users[column]] += np.minimum(mean[i, column], mean[users[column], column])
        jaccard[i] = 1 - overlap / (2 - overlap)
    return jaccard


def expanded(order: Ints, i: int, *, count: int, count_half: int) -> Ints:
    """Return the expanded reciprocal set of image i, from (N, K) neighbours by ascending distance."""
    original = _reciprocal(order, i, count)
    members = [original]
    for candidate in original:
        smaller = _reciprocal(order, int(candidate), count_half)
        if len(np.intersect1d(smaller, original)) > 2 / 3 * len(smaller):
            members.append(smaller)
    return np.unique(np.concatenate(members))


def _reciprocal(order: Ints, i: int, count: int) -> Ints:
    forward = order[i, :count]
    mutual: Ints = forward[(order[forward, :count] == i).any(axis=1)]
    return mutual
