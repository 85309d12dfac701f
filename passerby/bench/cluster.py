"""How fast a site without labels is clustered on the sparse graph, against the usual dense computation in Python.

The peer holds (N, N) matrices: distances, which it sorts, the encoding, its expansion and the Jaccard distances, and
clusters on the last. It is measured again with the neighbours that the sparse graph is made from, which are most of the
graph's time, so that it can be seen what of the difference is due to them.
"""

from __future__ import annotations

from functools import partial

import numpy as np

from passerby.bench.measure import BenchTable, Contender, contest
from passerby.bench.ranking import TINY
from passerby.bench.rerank import dense_jaccard, expanded
from passerby.bench.sites import Features, Site, Size, make_features
from passerby.cluster.clustering import Clusters, DbscanSettings
from passerby.distances.kreciprocal import nearest_neighbours
from passerby.distances.pairwise import vectors_on
from passerby.distances.reciprocal import Neighbours
from passerby.types import Floats, Ints

NEIGHBOURS = "matrix product and nearest neighbours"
SPARSE = "sparse graph and DBSCAN, whole"
DENSE = "dense Python and DBSCAN, whole"
HALF = "the same, given our neighbours"

TRAIN_SIZES: dict[Site, Size] = {
    "market1501": Size(0, 12936, 751, 6, distractors=0.0),
    "msmt17": Size(0, 32621, 1041, 15, distractors=0.0),
}
CHOSEN = DbscanSettings()


def bench_cluster(*, quick: bool = False, site: Site = "market1501") -> BenchTable:
    """Measure at the size of a training set (`quick`: an eighth of it in every direction).

    The dense peer needs minutes and gigabytes at the size of Market-1501, and is left out at that of MSMT17.
    """
    size = TRAIN_SIZES[site].smaller(8) if quick else TRAIN_SIZES[site]
    contenders = [Contender(NEIGHBOURS, _neighbours, 1), Contender(SPARSE, _sparse, 1, measure_peak=True)]
    if site == "market1501":
        contenders = [
            Contender(NEIGHBOURS, _neighbours),
            Contender(SPARSE, _sparse, measure_peak=True),
            Contender(DENSE, _dense, 1, against=SPARSE, measure_peak=True),
            Contender(HALF, _half_dense, 1, against=SPARSE),
        ]
    title = (
        f"clustering at {site} size, {size.count_gallery:,} x {size.dims:,}, "
        f"k1={CHOSEN.k1} k2={CHOSEN.k2} eps={CHOSEN.eps} min_samples={CHOSEN.min_samples}"
    )
    return contest(title, tuple(contenders), make=partial(make_features, size), warm=_warm)


def _warm() -> None:
    features = make_features(TINY)
    _sparse(features)
    _dense(features)


def _neighbours(features: Features) -> Neighbours:
    side = vectors_on(features.vectors, metric="cosine", device="cpu")
    return nearest_neighbours((side,), CHOSEN.k1, metric="cosine")


def _sparse(features: Features) -> Clusters:
    return CHOSEN.fit(features.vectors)


def _dense(features: Features) -> Clusters:
    return _on_the_whole(dense_distances(features, sorted_rows(features)))


def _half_dense(features: Features) -> Clusters:
    return _on_the_whole(dense_distances(features, _neighbours(features).row))


def _on_the_whole(distances: Floats) -> Clusters:
    from sklearn.cluster import DBSCAN

    found = DBSCAN(eps=CHOSEN.eps, min_samples=CHOSEN.min_samples, metric="precomputed")
    return Clusters(found.fit(distances).labels_)


def sorted_rows(features: Features) -> Ints:
    """Return (N, k1) nearest neighbours, each image its own first, by sorting all distances of all images."""
    unit = _unit(features)
    distances = 2 - 2 * unit @ unit.T
    np.fill_diagonal(distances, -1)
    return np.argsort(distances, axis=1)[:, : CHOSEN.k1]


def dense_distances(features: Features, order: Ints) -> Floats:
    """Return (N, N) k-reciprocal Jaccard distances in the clustering form: Python loops over whole rows."""
    unit = _unit(features)
    encoding = np.zeros((len(unit), len(unit)), np.float32)
    for i in range(len(unit)):
        members = expanded(order, i, count=CHOSEN.k1, count_half=round(CHOSEN.k1 / 2) + 1)
        weights = np.exp(2 * (unit[members] @ unit[i]) - 2)
        encoding[i, members] = weights / weights.sum()
    distances = dense_jaccard(encoding, order[:, : CHOSEN.k2], len(unit))
    return np.maximum(distances, 0, out=distances)


def _unit(features: Features) -> Floats:
    scaled: Floats = features.vectors / np.linalg.norm(features.vectors, axis=1, keepdims=True)
    return scaled
