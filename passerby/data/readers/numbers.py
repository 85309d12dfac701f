"""Whole numbers of names, tables and lists, which may have more digits than a column of 64 bits can hold."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from passerby.errors import UserError
from passerby.types.columns import LARGEST, Ints

MOST_DIGITS = 4_000
"""Longer texts are not taken for numbers; Python refuses to convert them."""


def whole_number(text: str) -> int | None:
    """Return the whole number that a text of ASCII digits spells, however large, or None when it spells none.

    >>> whole_number("0012"), whole_number("20240131235959123450"), whole_number("1.5")
    (12, 20240131235959123450, None)
    """
    return int(text) if text.isascii() and text.isdecimal() and len(text) <= MOST_DIGITS else None


def fitting(values: Sequence[int], title: str, paths: Sequence[str]) -> Ints:
    """Return identity or camera numbers (N,) as a column.

    Args:
        values: the numbers.
        title: `"identity"` or `"camera"`, for the error.
        paths: (N,) the images, for the error.

    Raises:
        UserError: a number is too large for the column, and where.

    """
    for value, path in zip(values, paths, strict=True):
        if value > LARGEST:
            raise UserError(
                f"{path}: {title} {_short(value)} is too large; the largest {title} number is {LARGEST}, and longer "
                "ones are read as words by kind: folder with a pattern, or by kind: csv"
            )
    return np.array(values, dtype=np.int64)


def _short(value: int) -> str:
    text = str(value)
    return text if len(text) <= 40 else f"{text[:20]}... ({len(text)} digits)"


def ordered(frames: Sequence[int]) -> Ints:
    """Return frame numbers (N,), or their ranks where one is too large: frames are compared, not calculated with.

    >>> ordered([7, 3]).tolist(), ordered([20240131235959123450, 5, 20240131235959123450]).tolist()
    ([7, 3], [1, 0, 1])
    """
    if max(frames, default=0) <= LARGEST:
        return np.array(frames, dtype=np.int64)
    ranks = {frame: rank for rank, frame in enumerate(sorted(set(frames)))}
    return np.array([ranks[frame] for frame in frames], dtype=np.int64)
