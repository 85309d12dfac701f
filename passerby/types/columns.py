"""The columns that tables are made of, and how they are checked and cut."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import numpy.typing as npt

from passerby.errors import UserError, first_line

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Words = npt.NDArray[np.str_]

T = TypeVar("T", bound="DataclassInstance")

UNKNOWN = -1
"""The pid of an image whose identity nobody knows."""

LARGEST = int(np.iinfo(np.int64).max)
"""The largest number that a column of whole numbers holds."""


def column(name: str, values: object, count: int, dtype: type) -> npt.NDArray[np.generic]:
    """Return values as an array (count,) of a type, or raise `UserError`; whole numbers are not made of others."""
    array = np.asarray(values)
    if array.size == 0:
        array = array.astype(dtype)
    if dtype is np.int64 and not np.issubdtype(array.dtype, np.integer):
        raise UserError(f"column {name!r} must hold whole numbers, got {array.dtype}")
    if dtype is np.int64 and array.dtype.kind == "u" and array.size and int(array.max()) > LARGEST:
        raise UserError(f"column {name!r} holds {int(array.max())}; the largest whole number is {LARGEST}")
    try:
        array = array.astype(dtype, copy=False)
    except (ValueError, TypeError, OverflowError) as error:  # bytes that are no text are a ValueError too
        raise UserError(f"column {name!r} cannot be read as {np.dtype(dtype).name} ({first_line(error)})") from error
    if array.shape != (count,):
        raise UserError(f"column {name!r} has shape {array.shape}, expected ({count},)")
    return array


def read_member(name: str, value: str, allowed: tuple[str, ...]) -> str:
    """Return a word of a file that must be one of those allowed.

    Raises:
        UserError: it is none of them.

    """
    if value not in allowed:
        raise UserError(f"{name} is {value!r}, allowed: {', '.join(allowed)}")
    return value


def rows_of(table: T, columns: tuple[str, ...], rows: Bools | Ints) -> T:
    """Return a copy of a table of which every named column that is present keeps only `rows`."""
    present = {name: value for name in columns if (value := getattr(table, name)) is not None}
    return replace(table, **{name: value[rows] for name, value in present.items()})


def relabel_apart(columns: Sequence[Ints]) -> Ints:
    """Join columns of numbers that become 0..C-1, disjoint between columns; unknown stays -1.

    >>> relabel_apart([np.array([7, -1, 9]), np.array([7, 7])]).tolist()
    [0, -1, 1, 2, 2]
    """
    relabelled, offset = [], 0
    for numbers in columns:
        names, places = np.unique(numbers[numbers != UNKNOWN], return_inverse=True)
        renumbered = np.full(len(numbers), UNKNOWN, dtype=np.int64)
        renumbered[numbers != UNKNOWN] = places + offset
        relabelled.append(renumbered)
        offset += len(names)
    return np.concatenate(relabelled)


def relabel_known(columns: Sequence[Ints | None], counts: Sequence[int]) -> Ints | None:
    """Join optional columns as `relabel_apart` does; rows of a table without it are unknown, None = no table has it.

    >>> relabel_known([None, np.array([7, 7])], [1, 2]).tolist()
    [-1, 0, 0]
    """
    if all(numbers is None for numbers in columns):
        return None
    known = [np.full(count, UNKNOWN) if n is None else n for n, count in zip(columns, counts, strict=True)]
    return relabel_apart(known)
