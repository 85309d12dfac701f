"""Measures of clusters: silhouette on the graph, agreement between clusterings, and accuracy against identities."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.sparse import coo_array, csr_array

from passerby.clustering.clusters import numbered
from passerby.clustering.precomputed import NOISE
from passerby.clustering.reliability import agreement_iou, alone_apart
from passerby.distances.sparse import SparseRows
from passerby.types import UNKNOWN, Doubles, Ints

_ROWS_AT_ONCE = 1024


def silhouettes(graph: SparseRows, labels: Ints) -> Doubles:
    """Return (N,) how much nearer each image is to its own cluster than to the nearest other, in [-1, 1].

    (b - a) / max(a, b), with a the mean distance to the others of the image's cluster and b the smallest mean distance
    to another cluster; 0 for the only one of a cluster. Noise is no cluster, and its images are NaN, as are all when
    there are fewer than two clusters.

    Args:
        graph: (N, N) distances in [0, 1]; pairs that are missing are at 1.
        labels: (N,) clusters in any numbering, -1 = noise.

    Reference: Rousseeuw, "Silhouettes: a Graphical Aid to the Interpretation and Validation of Cluster Analysis",
    Journal of Computational and Applied Mathematics 1987.
    """
    labels = numbered(labels)
    count = labels.max(initial=NOISE) + 1
    found = np.full(len(labels), np.nan)
    if count < 2:
        return found
    chosen = labels != NOISE
    sizes = np.bincount(labels[chosen])
    mine, nearest = _nearness(graph, labels, sizes)
    size = sizes[labels]
    inside, outside = 1 - mine / np.maximum(size - 1, 1), 1 - nearest
    score = (outside - inside) / np.maximum(np.maximum(inside, outside), 1e-12)
    found[chosen] = np.where(size > 1, score, 0)[chosen]
    return found


def silhouette(graph: SparseRows, labels: Ints) -> float:
    """Return the mean of `silhouettes` over all images in clusters; NaN with fewer than two clusters."""
    values = silhouettes(graph, labels)
    scored = values[~np.isnan(values)]
    return float(scored.mean()) if len(scored) else float("nan")


@dataclass(frozen=True)
class Agreement:
    """Agreement of two clusterings of the same images, independent of cluster numbers; 1 = equal.

    Noise is taken as clusters of one image, so that an image that leaves a cluster counts as a change.

    Attributes:
        rand: adjusted Rand index, at most 1, 0 on average for random clusters.
        iou: mean over the images of the overlap (IoU) of the clusters they are in, in (0, 1].

    """

    rand: float
    iou: float


def agreement(a: Ints, b: Ints) -> Agreement:
    """Compare two clusterings (N,) of the same images: of two epochs, or at two radii.

    Reference: Hubert, Arabie, "Comparing Partitions", Journal of Classification 1985, for the adjusted Rand index.

    >>> agreement(np.array([0, 0, 1, 1]), np.array([5, 5, 2, 2]))
    Agreement(rand=1.0, iou=1.0)
    """
    from sklearn.metrics import adjusted_rand_score

    return Agreement(float(adjusted_rand_score(alone_apart(a), alone_apart(b))), float(agreement_iou(a, b).mean()))


@dataclass(frozen=True)
class Truth:
    """Accuracy of clusters against identities; all in [0, 1] but `rand`, which may fall below 0.

    Images of unknown identity are left out. An image of noise is taken as a cluster of its own: it costs recall, not
    precision. Only the purity leaves noise out, because clusters of one are always pure.

    Attributes:
        images: how many images were scored.
        identities: how many identities these have.
        rand: adjusted Rand index.
        nmi: normalised mutual information (divided by the mean of the two entropies).
        purity: share of the images in clusters that are of the identity most frequent there; NaN without clusters.
        precision: share of the pairs in one cluster that are of one identity; NaN when there are no such pairs.
        recall: share of the pairs of one identity that are in one cluster; NaN when there are no such pairs.
        f: harmonic mean of precision and recall, 0 when nothing was met.

    """

    images: int
    identities: int
    rand: float
    nmi: float
    purity: float
    precision: float
    recall: float
    f: float


def against_truth(labels: Ints, pids: Ints) -> Truth | None:
    """Score clusters (N,) by identities (N,), -1 = unknown; None when no identity is known.

    >>> found = against_truth(np.array([0, 0, 1, 1, -1]), np.array([3, 3, 3, 8, 8]))
    >>> (found.purity, found.precision, found.recall, found.f)
    (0.75, 0.5, 0.25, 0.3333333333333333)
    """
    from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

    known = pids != UNKNOWN
    if not known.any():
        return None
    labels, pids = labels[known], numbered(pids[known])
    clusters = alone_apart(labels)
    precision, recall, f = _pairwise(clusters, pids)
    return Truth(
        images=len(pids),
        identities=int(pids.max()) + 1,
        rand=float(adjusted_rand_score(pids, clusters)),
        nmi=float(normalized_mutual_info_score(pids, clusters)),
        purity=_purity(labels, pids),
        precision=precision,
        recall=recall,
        f=f,
    )


def _nearness(graph: SparseRows, labels: Ints, sizes: Ints) -> tuple[Doubles, Doubles]:
    """Return (N,) the sum of 1 - distance to the own cluster, and (N,) its largest mean to another one."""
    mine, nearest = np.zeros(len(graph)), np.zeros(len(graph))
    for first in range(0, len(graph), _ROWS_AT_ONCE):
        rows = graph.slice(first, min(first + _ROWS_AT_ONCE, len(graph)))
        row, cluster = np.repeat(np.arange(len(rows)), np.diff(rows.start)), labels[rows.column]
        counts = (cluster != NOISE) & (row + first != rows.column)
        entries = (1 - rows.value[counts].astype(np.float64), (row[counts], cluster[counts]))
        sums = csr_array(coo_array(entries, shape=(len(rows), len(sizes)))).tocoo()
        own = sums.col == labels[first + sums.row]
        mine[first + sums.row[own]] = sums.data[own]
        np.maximum.at(nearest, first + sums.row[~own], (sums.data / sizes[sums.col])[~own])
    return mine, nearest


def _purity(labels: Ints, pids: Ints) -> float:
    clustered = labels != NOISE
    if not clustered.any():
        return float("nan")
    table = coo_array((np.ones(clustered.sum()), (numbered(labels[clustered]), pids[clustered]))).tocsr()
    return float(table.max(axis=1).sum() / clustered.sum())


def _pairwise(clusters: Ints, pids: Ints) -> tuple[float, float, float]:
    """Return precision, recall and F of the pairs that are in one cluster."""
    together, same = _count_pairs(clusters), _count_pairs(pids)
    both = _count_pairs(np.unique(clusters * (pids.max() + 1) + pids, return_inverse=True)[1])
    precision = both / together if together else float("nan")
    recall = both / same if same else float("nan")
    return precision, recall, 2 * both / (together + same) if together + same else 0.0


def _count_pairs(groups: Ints) -> int:
    sizes = np.bincount(groups)
    return int((sizes * (sizes - 1) // 2).sum())
