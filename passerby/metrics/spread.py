"""Detection of collapsed vectors: a ranking of equal vectors is only the order of their rows."""

from __future__ import annotations

import numpy as np

from passerby.distances.units import unit_rows
from passerby.types import Floats

LEAST = 1e-5
"""Mean cosine distance below which vectors count as equal: some hundred roundings of float32. Networks that have learnt
something lie above 0.1, networks with random weights above 1e-4."""


def spread_notes(vectors: Floats) -> list[str]:
    """Return sentences on vectors (N, D) that are equal, nearly equal, zero, or constant in most of their numbers.

    >>> spread_notes(np.eye(4, dtype=np.float32))
    []
    >>> spread_notes(np.ones((4, 2), np.float32))
    ['all 4 vectors are equal: the model has collapsed, and any ranking of them is only the order of the rows']
    """
    count, dimension = vectors.shape
    if count < 2:
        return []
    different = len({row.tobytes() for row in vectors})
    if different == 1:
        return [_collapsed(f"all {count:,} vectors are equal", "the order of the rows")]
    if (distance := mean_distance(vectors)) < LEAST:
        about = f"the {count:,} vectors are nearly equal (mean cosine distance {distance:.0e})"
        return [_collapsed(about, "that of rounding errors")]
    notes = []
    if different <= count // 2:
        notes.append(f"only {different:,} of {count:,} vectors differ; equal ones are ranked by the order of the rows")
    if zero := int((~vectors.any(axis=1)).sum()):
        notes.append(f"{zero:,} of {count:,} vectors are zero, which have no cosine distance to any other")
    constant = int((vectors.max(axis=0) == vectors.min(axis=0)).sum())
    if 2 * constant > dimension:
        notes.append(f"{constant:,} of {dimension:,} numbers are the same in all vectors")
    return notes


def mean_distance(vectors: Floats) -> float:
    """Return the mean cosine distance between two different rows of (N, D), N > 1, in O(N D)."""
    mean = unit_rows(vectors).mean(axis=0, dtype=np.float64)
    return max(0.0, float((1 - mean @ mean) * len(vectors) / (len(vectors) - 1)))  # rounding leads below 0


def _collapsed(about: str, order: str) -> str:
    return f"{about}: the model has collapsed, and any ranking of them is only {order}"
