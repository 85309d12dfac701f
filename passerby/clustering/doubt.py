"""Signs that clusters are not people: one that is far too large, and those that do not hold together."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from passerby.clustering.algorithms import DbscanSettings
from passerby.clustering.clusters import Clusters
from passerby.clustering.quality import silhouettes
from passerby.clustering.reliability import compactness, independence
from passerby.distances.sparse import SparseRows
from passerby.types import Bools, Doubles, Floats, Ints

GIANT_SHARE, GIANT_TIMES = 0.05, 5
"""A cluster that holds so large a share of all images, and so many times as many as the median of the others, is taken
for a chain of several people."""

NUDGES = (0.9, 0.95, 1.05, 1.1)
"""Multiples of the radius at which clusters are compared."""
LEAST_OVERLAP, LEAST_SILHOUETTE = 0.5, 0.25
"""Below one of them a cluster is doubtful: less than half of it is the same at a radius a tenth smaller or larger, or
its images are hardly nearer to each other than to another cluster (Kaufman, Rousseeuw, "Finding Groups in Data", 1990:
"no substantial structure")."""


def giant_sentence(clusters: Clusters) -> str:
    """Return a warning where one cluster is far larger than all others, else nothing.

    >>> giant_sentence(Clusters(np.repeat([0, 1, 2, 3], [5, 60, 6, 5])))[:52]
    'the largest cluster holds 60 of 76 images (78.9 %), '
    """
    sizes = np.sort(clusters.sizes)
    if len(sizes) < 2:
        return ""
    largest, median = int(sizes[-1]), float(np.median(sizes[:-1]))
    if largest < GIANT_SHARE * len(clusters) or largest < GIANT_TIMES * median:
        return ""
    return (
        f"the largest cluster holds {largest:,} of {len(clusters):,} images ({100 * largest / len(clusters):.1f} %), "
        f"{largest / median:.0f} times the median of the others: it is a chain of several people; use a smaller eps or "
        "k1, or a larger min_samples"
    )


@dataclass(frozen=True)
class Doubt:
    """Reliability of the number of clusters.

    Attributes:
        fewest, most: clusters at radii up to a tenth smaller and larger, that of the clusters included.
        doubtful: clusters that do not hold together, see `doubtful_clusters`.

    """

    fewest: int
    most: int
    doubtful: int


def measure_doubt(settings: DbscanSettings, vectors: Floats, graph: SparseRows, clusters: Clusters) -> Doubt:
    """Cluster again at radii up to a tenth smaller and larger, and compare.

    Args:
        settings: that the clusters are of.
        vectors: (N, D) images.
        graph: (N, N) that they were clustered on.
        clusters: at a radius of their own.

    """
    assert clusters.eps is not None
    radii = [min(clusters.eps * nudge, 0.999) for nudge in NUDGES]
    again = [settings.fit(vectors, graph, eps=radius) for radius in radii]
    counts = [clusters.count, *(each.count for each in again)]
    doubtful = doubtful_clusters(graph, clusters.labels, tight=again[0].labels, loose=again[-1].labels)
    return Doubt(min(counts), max(counts), int(doubtful.sum()))


def doubtful_clusters(graph: SparseRows, labels: Ints, *, tight: Ints, loose: Ints) -> Bools:
    """Return (K,) whether each cluster falls apart or merges at another radius, or is hardly apart from its neighbours.

    Args:
        graph: (N, N) distances.
        labels: (N,) clusters 0..K-1, -1 = noise.
        tight, loose: (N,) clusters at a smaller and at a larger radius.

    """
    overlap = np.minimum(_means(labels, compactness(labels, tight)), _means(labels, independence(labels, loose)))
    apart = _means(labels, np.nan_to_num(silhouettes(graph, labels), nan=1.0))  # a single cluster has no neighbours
    doubtful: Bools = (overlap < LEAST_OVERLAP) | (apart < LEAST_SILHOUETTE)
    return doubtful


def _means(labels: Ints, values: Doubles) -> Doubles:
    """Return the mean (K,) of values (N,) over the images of each cluster."""
    inside = labels >= 0
    sizes = np.bincount(labels[inside])
    means: Doubles = np.bincount(labels[inside], values[inside], len(sizes)) / sizes
    return means
