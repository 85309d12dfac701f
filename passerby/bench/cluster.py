"""Speed of clustering on the sparse graph, compared with the usual dense computation in Python.

The dense computation holds (N, N) matrices: all distances, their order, the encoding, its expansion and the Jaccard
distances, and clusters on the last. The steps after the neighbour search are also timed separately, because the matrix
product before them is common to both.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np

from passerby.bench.measure import BenchTable, Contender, contest
from passerby.bench.ranking import TINY
from passerby.bench.rerank import dense_jaccard, expanded
from passerby.bench.sites import Size, SizeName, make_features
from passerby.clustering.algorithms import DbscanSettings
from passerby.clustering.clusters import Clusters
from passerby.distances.jaccard import jaccard_graph
from passerby.distances.kreciprocal import encode_set, nearest_neighbours
from passerby.distances.pairwise import ScaledVectors, vectors_on
from passerby.distances.reciprocal import Neighbours
from passerby.types import Floats, Ints

NEIGHBOURS = "matrix product and nearest neighbours"
SPARSE = "sparse graph and DBSCAN, whole"
SPARSE_AFTER = "sparse graph and DBSCAN, after the neighbours"
DENSE = "dense Python and DBSCAN, whole"
DENSE_AFTER = "dense Python and DBSCAN, after the neighbours"

TRAIN_SIZES: dict[SizeName, Size] = {
    "market1501": Size(0, 12936, 751, 6, distractors=0.0),
    "msmt17": Size(0, 32621, 1041, 15, distractors=0.0),
}
EPS = 0.6
SETTINGS = DbscanSettings(eps=EPS)
COUNT_HALF = round(SETTINGS.k1 / 2) + 1


@dataclass(frozen=True, eq=False)
class ClusterInput:
    """Vectors (N, D), and the inputs of the timed stages, computed on first use."""

    vectors: Floats

    @cached_property
    def side(self) -> ScaledVectors:
        """The vectors with their lengths."""
        return vectors_on(self.vectors, metric="cosine", device="cpu")

    @cached_property
    def neighbours(self) -> Neighbours:
        """The k1 nearest of every image, distances as they are."""
        nearest = nearest_neighbours((self.side,), SETTINGS.k1, metric="cosine")
        return Neighbours(nearest.row, nearest.square, np.ones_like(nearest.largest))

    @cached_property
    def unit(self) -> Floats:
        """(N, D) at length 1."""
        unit: Floats = self.vectors / np.linalg.norm(self.vectors, axis=1, keepdims=True)
        return unit


def bench_cluster(*, quick: bool = False, site: SizeName = "market1501") -> BenchTable:
    """Measure at the size of a training set (`quick`: an eighth of it in every direction).

    The dense peer needs minutes and gigabytes at the size of Market-1501, and is left out at that of MSMT17.
    """
    size = TRAIN_SIZES[site].smaller(8) if quick else TRAIN_SIZES[site]
    if site == "market1501":
        contenders = [
            Contender(NEIGHBOURS, _neighbours),
            Contender(SPARSE, _sparse, measure_peak=True),
            Contender(DENSE, _dense, 1, against=SPARSE, measure_peak=True),
            Contender(SPARSE_AFTER, _sparse_after),
            Contender(DENSE_AFTER, _dense_after, 1, against=SPARSE_AFTER),
        ]
    else:
        contenders = [Contender(NEIGHBOURS, _neighbours, 1), Contender(SPARSE, _sparse, 1, measure_peak=True)]
    title = (
        f"clustering at {site} size, {size.count_gallery:,} x {size.dims:,}, "
        f"k1={SETTINGS.k1} k2={SETTINGS.k2} eps={SETTINGS.eps} min_samples={SETTINGS.min_samples}"
    )
    return contest(title, tuple(contenders), make=partial(_prepare, size), warm=_warm)


def _prepare(size: Size) -> ClusterInput:
    return ClusterInput(make_features(size).vectors)


def _warm() -> None:
    prepared = _prepare(TINY)
    _sparse(prepared)
    _dense(prepared)


def _neighbours(prepared: ClusterInput) -> Neighbours:
    return nearest_neighbours((prepared.side,), SETTINGS.k1, metric="cosine")


def _sparse(prepared: ClusterInput) -> Clusters:
    return SETTINGS.fit(prepared.vectors)


def _sparse_after(prepared: ClusterInput) -> Clusters:
    rows = encode_set(
        (prepared.side,), prepared.neighbours, count=SETTINGS.k1, count_half=COUNT_HALF, k2=SETTINGS.k2, metric="cosine"
    )
    return SETTINGS.fit(prepared.vectors, jaccard_graph(rows, at_most=EPS))


def _dense(prepared: ClusterInput) -> Clusters:
    squares = 2 - 2 * (prepared.unit @ prepared.unit.T)
    return _dense_clusters(dense_distances(prepared.unit, np.argsort(squares, axis=1)))


def _dense_after(prepared: ClusterInput) -> Clusters:
    return _dense_clusters(dense_distances(prepared.unit, prepared.neighbours.row))


def _dense_clusters(distances: Floats) -> Clusters:
    from sklearn.cluster import DBSCAN

    dbscan = DBSCAN(eps=EPS, min_samples=SETTINGS.min_samples, metric="precomputed").fit(distances)
    return Clusters(dbscan.labels_)


def dense_distances(unit: Floats, order: Ints) -> Floats:
    """Return (N, N) k-reciprocal Jaccard distances in the clustering form: Python loops over whole rows.

    Args:
        unit: (N, D) at length 1.
        order: (N, k1 or more) neighbours by ascending distance.

    """
    encoding = np.zeros((len(unit), len(unit)), np.float32)
    for i in range(len(unit)):
        members = expanded(order, i, count=SETTINGS.k1, count_half=COUNT_HALF)
        weights = np.exp(2 * (unit[members] @ unit[i]) - 2)
        encoding[i, members] = weights / weights.sum()
    distances = dense_jaccard(encoding, order[:, : SETTINGS.k2], len(unit))
    return np.maximum(distances, 0, out=distances)
