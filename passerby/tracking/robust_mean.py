"""Robust mean of unit vectors: the geometric median, brought to unit length."""

from __future__ import annotations

import numpy as np

from passerby.distances.units import unit_rows
from passerby.types import Floats

ITERATIONS = 50
TOLERANCE = 1e-7
_NEAR = 1e-6  # below this distance a vector is taken to coincide with the median


def robust_mean(vectors: Floats) -> Floats:
    """Return the unit vector (D,) of the geometric median of unit vectors (N, D).

    The geometric median minimises the sum of Euclidean distances; fewer than half of the vectors, wherever they lie,
    cannot carry it away. Weiszfeld's iteration from the mean, with the step of Vardi and Zhang at a data point.

    Reference:
        Vardi and Zhang, "The multivariate L1-median and associated data depth", PNAS 2000, equation 2.6.

    >>> robust_mean(np.array([[1, 0], [1, 0], [0, 1]], np.float32)).round(3).tolist()
    [1.0, 0.0]
    """
    rows = np.asarray(vectors, dtype=np.float64)
    median = rows.mean(axis=0)
    for _ in range(ITERATIONS):
        distances = np.linalg.norm(rows - median, axis=1)
        apart = distances > _NEAR
        if not apart.any():
            break
        weights = 1 / distances[apart]
        target = (weights[:, None] * rows[apart]).sum(axis=0) / weights.sum()
        pull = np.linalg.norm(((rows[apart] - median) * weights[:, None]).sum(axis=0))
        stay = min(1.0, (~apart).sum() / pull) if pull > 0 else 1.0
        moved = (1 - stay) * target + stay * median
        change = np.linalg.norm(moved - median)
        median = moved
        if change < TOLERANCE:
            break
    if np.linalg.norm(median) < _NEAR:  # opposite vectors cancel out
        median = rows[0]
    mean: Floats = unit_rows(median[None].astype(np.float32))[0]
    return mean
