"""Similarities of queries to vectors of float16, which are read where they lie and never written as float32.

The similarity of a vector does not depend on its place nor on the other queries, so equal vectors have equal
similarities. For many queries a product of matrices is quicker, whose sums are rounded otherwise at the edges of
blocks: it only chooses the vectors that are compared here.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from passerby.compiled import compiled
from passerby.distances.threads import over_rows
from passerby.gallery.mapping import Halves
from passerby.types import Floats, Ints

FEW = 4
"""Queries up to which this is quicker than widening blocks and multiplying matrices."""
ROUNDING = 1e-5
"""More than the sums of a product of matrices of unit vectors deviate from those of another order."""

_SIGN_AND_NUMBER = np.int32(-0x70002000)
"""Mask 0x8FFFE000: what is left of a float16 that was extended to 32 bits and moved up by 13."""
_BIASES = np.float32(2.0**112)
"""2 ** (127 - 15): the exponents of float32 and float16 count from different numbers."""


def few_products(rows: Halves, slots: Ints | None, queries: Floats) -> Floats:
    """Return the negated similarities (Q, S) of queries (Q, D) to rows (N, D), all of them or those in slots (S,)."""
    slots = np.arange(len(rows)) if slots is None else slots
    assert not len(slots) or 0 <= slots.min() <= slots.max() < len(rows)  # the kernel does not check bounds
    bits, queries = rows.view(np.int16), np.ascontiguousarray(queries)
    products = np.empty((len(queries), len(slots)), np.float32)
    over_rows(
        lambda first, last: _negated_products(bits, slots[first:last], queries, products[:, first:last]), len(slots)
    )
    return products


def nearest_of(
    rows: Halves, slots: Ints | None, queries: Floats, products: Floats, worst: Floats
) -> tuple[Ints, Floats]:
    """Return places (Q, K) among rows and negated similarities (Q, K) of the most similar, equal ones by place.

    Args:
        rows: (N, D).
        slots: (S,) rows that are searched, None = all.
        queries: (Q, D).
        products: (Q, S) negated similarities, rounded in whichever way.
        worst: (Q, K) ascending, the K least of them, K <= S.

    """
    slots = np.arange(len(rows)) if slots is None else slots
    assert len(slots) == products.shape[1]  # the kernel does not check bounds
    bits, queries = rows.view(np.int16), np.ascontiguousarray(queries)
    places, values = np.empty(worst.shape, np.int64), np.empty(worst.shape, np.float32)
    limits = worst[:, -1] + np.float32(ROUNDING)

    def search(first: int, last: int) -> None:
        lines = slice(first, last)
        _nearest(bits, slots, queries[lines], products[lines], limits[lines], places[lines], values[lines])

    over_rows(search, len(queries))
    return places, values


@compiled()
def _nearest(
    bits: npt.NDArray[np.int16],
    slots: Ints,
    queries: Floats,
    products: Floats,
    limits: Floats,
    places: Ints,
    values: Floats,
) -> None:
    count = places.shape[1]
    for query in range(len(queries)):
        filled = 0
        for place in range(len(slots)):
            if products[query, place] > limits[query]:
                continue
            value = _negated_product(bits[slots[place]], queries[query])
            if filled == count and value >= values[query, count - 1]:
                continue
            position = min(filled, count - 1)
            while position > 0 and values[query, position - 1] > value:
                values[query, position], places[query, position] = (
                    values[query, position - 1],
                    places[query, position - 1],
                )
                position -= 1
            values[query, position], places[query, position] = value, place
            filled = min(filled + 1, count)


@compiled()
def _negated_products(bits: npt.NDArray[np.int16], slots: Ints, queries: Floats, products: Floats) -> None:
    for place in range(len(slots)):
        for query in range(len(queries)):
            products[query, place] = _negated_product(bits[slots[place]], queries[query])


@compiled(fastmath=True)
def _negated_product(bits: npt.NDArray[np.int16], query: Floats) -> np.float32:
    total = np.float32(0)
    for column in range(len(bits)):
        total += _widened(bits[column]) * query[column]
    return np.float32(-total)


@compiled()  # without fastmath, which could move the factor out of the sum, where small numbers are lost
def _widened(bits: np.int16) -> np.float32:
    """Return a finite float16, given by its bits, as float32, exactly."""
    moved = np.int32((np.int32(bits) << np.int32(13)) & _SIGN_AND_NUMBER)
    return np.float32(moved.view(np.float32) * _BIASES)
