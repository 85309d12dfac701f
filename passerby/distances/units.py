"""Vectors of any length brought to where float32 can multiply them.

The squares of a vector of norm 1e20 overflow in float32, and those of norm 1e-25 vanish, although the direction of
either is perfectly well known. Such rows are multiplied by a power of two, which changes no digit and no cosine.
"""

from __future__ import annotations

import numpy as np

from passerby.errors import UserError
from passerby.types import Bools, Doubles, Floats

SMALLEST_NORM, LARGEST_NORM = 1e-12, 1e18
"""Between these norms products, squares and their sums are exact enough in float32; rows there stay as they are."""

SMALLEST_SQUARED_NORM = 1e-10
"""Shorter vectors would all lie within the floor of squared distances, 1e-12."""


def is_comfortable(norms: Floats) -> Bools:
    """Return (N,) whether rows of these norms can be multiplied as they are; NaN and infinity cannot."""
    return np.asarray((norms >= SMALLEST_NORM) & (norms <= LARGEST_NORM), np.bool_)


def rescaled(vectors: Floats) -> Floats:
    """Return rows (N, D) times powers of two, such that the largest value of each lies in [0.5, 1); zeros stay.

    Raises:
        UserError: a row holds NaN or infinity.

    """
    bad = int((~np.isfinite(vectors).all(axis=1)).sum())
    if bad:
        raise UserError(f"{bad} of the vectors hold NaN or infinity, which cannot be compared")
    _, exponent = np.frexp(np.abs(vectors).max(axis=1, initial=0).astype(np.float64))
    return np.asarray(np.ldexp(vectors.astype(np.float64), -exponent[:, None]), np.float32)


def unit_rows(vectors: Floats) -> Floats:
    """Return rows (N, D) divided by their norms; a row of zeros stays.

    >>> unit_rows(np.array([[3e38, 0], [0, -1e-40], [0, 0]], np.float32)).tolist()
    [[1.0, 0.0], [0.0, -1.0], [0.0, 0.0]]

    Raises:
        UserError: a row holds NaN or infinity.

    """
    norms = _norms(vectors)
    odd = ~is_comfortable(norms)
    if odd.any():
        vectors = vectors.copy()
        vectors[odd] = rescaled(vectors[odd])
        norms[odd] = _norms(vectors[odd])
    return np.asarray(vectors / np.maximum(norms, SMALLEST_NORM)[:, None], vectors.dtype)


def _norms(vectors: Floats) -> Floats:
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        return np.asarray(np.linalg.norm(vectors, axis=1), vectors.dtype)


def cosine_of(left: Floats, right: Floats) -> float:
    """Return the cosine of two vectors (D,), 0 where one is all zeros."""
    first, second = unit_rows(np.stack([left, right])).astype(np.float64)
    return float(first @ second)


def require_measurable(squares: Doubles | Floats) -> None:
    """Refuse squared norms (N,) whose sums and differences float32 cannot hold: squared Euclidean distances.

    Raises:
        UserError: they are too large or too small, or not finite.

    """
    largest = float(np.max(squares, initial=0))
    if not np.isfinite(squares).all() or largest > LARGEST_NORM**2:
        raise UserError(
            "the vectors are too long for squared Euclidean distances in float32, or hold NaN or infinity; divide all "
            "by one number that brings them near 1, or compare them by cosine"
        )
    if 0 < largest < SMALLEST_SQUARED_NORM:
        raise UserError(
            f"the longest vector has norm {largest**0.5:.1e}, too short for squared Euclidean distances in float32; "
            "multiply all by one number that brings them near 1, or compare them by cosine"
        )
