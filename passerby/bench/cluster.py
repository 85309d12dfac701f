"""How fast a site without labels is clustered on the sparse graph, against the usual dense computation in Python.

Both find the nearest neighbours by the same code, which is the part of the time that they share; the peer then holds
(N, N) matrices: the encoding, its expansion and the Jaccard distances, and clusters on the last.
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
from passerby.types import Floats

NEIGHBOURS = "matrix product and nearest neighbours"
SPARSE = "sparse graph and DBSCAN, whole"
DENSE = "dense Python and DBSCAN, whole"

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
    from sklearn.cluster import DBSCAN

    found = DBSCAN(eps=CHOSEN.eps, min_samples=CHOSEN.min_samples, metric="precomputed")
    return Clusters(found.fit(dense_distances(features)).labels_)


def dense_distances(features: Features) -> Floats:
    """Return (N, N) k-reciprocal Jaccard distances in the clustering form: Python loops over whole rows."""
    order = _neighbours(features).row
    unit = features.vectors / np.linalg.norm(features.vectors, axis=1, keepdims=True)
    encoding = np.zeros((len(unit), len(unit)), np.float32)
    for i in range(len(unit)):
        members = expanded(order, i, count=CHOSEN.k1, count_half=round(CHOSEN.k1 / 2) + 1)
        weights = np.exp(2 * (unit[members] @ unit[i]) - 2)
        encoding[i, members] = weights / weights.sum()
    distances = dense_jaccard(encoding, order[:, : CHOSEN.k2], len(unit))
    return np.maximum(distances, 0, out=distances)
