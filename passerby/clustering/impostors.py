"""The threshold of a clustering from the distances of different people, without a label.

Nearly all pairs of a set show different people, impostors. Their distances are noise around one value; a distance so
small that no noise among as many would reach it is that of one person.
"""

from __future__ import annotations

import numpy as np

from passerby.clustering.linkage import NearPairs, average_linkage, distances_of_pairs
from passerby.types import Doubles, Ints

SAMPLE = 2000
"""Most vectors of which pairs are compared; of more, as many are drawn at random."""
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


def impostor_threshold(pairs: NearPairs) -> float:
    """Return the largest mean distance at which two clusters of a set are taken for one person.

    The threshold of all pairs is a first one, too small where people are few and pairs of one person many. Those of one
    cluster are then left out, and the threshold of the others is taken, until it stays. The number of noise values is
    that of the clusters that are compared, which falls from N to K while they are merged: sqrt(N K).

    Args:
        pairs: the neighbours, on which the set is clustered.

    """
    count = len(pairs.units)
    if count < 3:
        return SMALLEST_THRESHOLD
    first, second = _sample(count)
    distances = distances_of_pairs(pairs.units, first, second)
    threshold = universal_threshold(distances, count)
    for _ in range(ROUNDS):
        labels = average_linkage(pairs, threshold)
        apart = labels[first] != labels[second]
        if not apart.any():
            break
        previous, threshold = threshold, universal_threshold(distances[apart], _count_compared(labels))
        if threshold == previous:
            break
    return threshold


def _count_compared(labels: Ints) -> float:
    """Return the geometric mean of the numbers of clusters before and after merging: N and K of `labels` (N,)."""
    return float(np.sqrt(len(labels) * len(np.unique(labels))))


def _sample(count: int) -> tuple[Ints, Ints]:
    """Return all pairs (E,), (E,) of at most `SAMPLE` of so many rows."""
    rows = np.arange(count)
    if count > SAMPLE:
        rows = np.sort(np.random.default_rng(0).choice(count, SAMPLE, replace=False))
    first, second = np.triu_indices(len(rows), 1)
    return rows[first], rows[second]
