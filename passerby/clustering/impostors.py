"""The threshold of a clustering from the images alone.

Nearly all pairs of a set show different people, impostors. Their distances are noise around one value; a distance so
small that no noise among as many would reach it is that of one person. Where distances of impostors scatter so widely
that hardly any is, the clusters themselves decide: those with the best silhouette.
"""

from __future__ import annotations

import numpy as np

from passerby.clustering.linkage import Merges, NearPairs, distances_of_pairs
from passerby.types import Doubles, Ints

SAMPLE = 2000
"""Most vectors of which pairs are compared; of more, as many are drawn at random."""
SILHOUETTE_ROWS = 500
"""Most vectors whose silhouettes are averaged."""
STEPS = 40
"""Thresholds up to the highest whose silhouettes are compared."""
ROUNDS = 5
"""Most times that pairs of one cluster are left out and the threshold is computed again."""
SMALLEST_THRESHOLD = 1e-6
"""Distances of copies of one image are below, up to rounding."""


def universal_threshold(impostors: Doubles, count: float) -> float:
    """Return the distance that none of `count` noise values is expected to fall below.

    m - s sqrt(2 ln count), with m the median of the impostors and s^2 the mean of (d - m)^2 over the d above m: pairs
    of one person that are still among them lie below.

    Args:
        impostors: (E,) distances of different people, E >= 1.
        count: of noise values, >= 1.

    Reference: Donoho, Johnstone, "Ideal Spatial Adaptation by Wavelet Shrinkage", Biometrika 1994, equation 6 (the
    universal threshold).

    >>> round(universal_threshold(np.array([0.8, 0.9, 1.0, 1.1, 1.2]), 2), 3)
    0.814
    """
    middle = float(np.median(impostors))
    above = impostors[impostors > middle]
    spread = float(np.sqrt(np.mean((above - middle) ** 2))) if len(above) else 0.0
    return max(middle - spread * float(np.sqrt(2 * np.log(count))), SMALLEST_THRESHOLD)


def automatic_threshold(pairs: NearPairs, merges: Merges) -> float:
    """Return the largest mean distance at which two clusters of a set are taken for one person.

    The larger one of that of the impostors, and that of the clusters with the best silhouette.

    Args:
        pairs: the neighbours.
        merges: of average linkage on these, up to the `highest_threshold`.

    """
    if len(pairs.units) < 3:
        return SMALLEST_THRESHOLD
    return max(impostor_threshold(pairs, merges), silhouette_threshold(pairs, merges))


def highest_threshold(pairs: NearPairs) -> float:
    """Return the largest threshold that is considered: the universal one of only two noise values, m - 1.18 s.

    About an eighth of all pairs of different people are nearer, so that larger clusters are of several people.
    """
    first, second = _sample(len(pairs.units), SAMPLE)
    if not len(first):
        return SMALLEST_THRESHOLD
    return universal_threshold(distances_of_pairs(pairs.units, first, second), 2)


def impostor_threshold(pairs: NearPairs, merges: Merges) -> float:
    """Return the universal threshold of the pairs that show different people.

    The threshold of all pairs is a first one, too small where people are few and pairs of one person many. Those of one
    cluster are then left out, and the threshold of the others is taken, until it stays. The number of noise values is
    that of the clusters that are compared, which falls from N to K while they are merged: sqrt(N K).

    Args:
        pairs: of three vectors or more.
        merges: of average linkage on these.

    """
    first, second = _sample(len(pairs.units), SAMPLE)
    distances = distances_of_pairs(pairs.units, first, second)
    threshold = universal_threshold(distances, len(pairs.units))
    for _ in range(ROUNDS):
        labels = merges.labels(threshold)
        apart = labels[first] != labels[second]
        if not apart.any():
            break
        previous, threshold = threshold, universal_threshold(distances[apart], _count_compared(labels))
        if threshold == previous:
            break
    return threshold


def silhouette_threshold(pairs: NearPairs, merges: Merges) -> float:
    """Return the threshold, up to the highest, with the best mean silhouette of the clusters.

    Of equal ones the smallest is returned. At most `SILHOUETTE_ROWS` vectors are measured, each against all clusters:
    its mean distance to a cluster is 1 - <x, mean of the cluster>.

    Args:
        pairs: of three vectors or more.
        merges: of average linkage on these.

    Reference: Rousseeuw, "Silhouettes: a Graphical Aid to the Interpretation and Validation of Cluster Analysis",
    Journal of Computational and Applied Mathematics 1987.
    """
    rows = _drawn(len(pairs.units), SILHOUETTE_ROWS)
    thresholds = highest_threshold(pairs) * np.arange(1, STEPS + 1) / STEPS
    values = [_silhouette(pairs.units, merges.labels(threshold), rows) for threshold in thresholds]
    return float(thresholds[int(np.argmax(np.round(values, 9)))])


def _silhouette(units: Doubles, labels: Ints, rows: Ints) -> float:
    """Return the mean silhouette of some rows (R,) of unit vectors (N, D) in clusters (N,); that of a single one is 0.

    Below all silhouettes, -2, where there is no cluster of two, or only one.
    """
    _, place, sizes = np.unique(labels, return_inverse=True, return_counts=True)
    if len(sizes) < 2 or len(sizes) == len(labels):
        return -2.0
    sums = np.zeros((len(sizes), units.shape[1]))
    np.add.at(sums, place, units)
    products = (units[rows].astype(np.float32) @ sums.T.astype(np.float32)).astype(np.float64)  # (R, K)
    line, column = np.arange(len(rows)), place[rows]
    size = sizes[column]
    inside = 1 - (products[line, column] - 1) / np.maximum(size - 1, 1)  # without the row itself
    distances = 1 - products / sizes
    distances[line, column] = np.inf
    outside = distances.min(axis=1)
    scores = (outside - inside) / np.maximum(np.maximum(inside, outside), 1e-12)
    return float(np.where(size > 1, scores, 0).mean())


def _count_compared(labels: Ints) -> float:
    """Return the geometric mean of the numbers of clusters before and after merging: N and K of `labels` (N,)."""
    return float(np.sqrt(len(labels) * len(np.unique(labels))))


def _sample(count: int, most: int) -> tuple[Ints, Ints]:
    """Return all pairs (E,), (E,) of at most so many rows."""
    rows = _drawn(count, most)
    first, second = np.triu_indices(len(rows), 1)
    return rows[first], rows[second]


def _drawn(count: int, most: int) -> Ints:
    """Return all rows, or as many drawn at random, ascending."""
    return np.arange(count) if count <= most else np.sort(np.random.default_rng(0).choice(count, most, replace=False))
