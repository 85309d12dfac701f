"""Similarities of few queries to vectors of float16, which are read where they lie and never written as float32.

For many queries the product of matrices is quicker, as a vector is widened once for all of them; see `scan`. The
similarity of a vector does not depend on its place, so equal vectors have equal similarities.
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


@compiled(fastmath=True)
def _negated_products(bits: npt.NDArray[np.int16], slots: Ints, queries: Floats, products: Floats) -> None:
    for place in range(len(slots)):
        row = bits[slots[place]]
        for query in range(queries.shape[0]):
            total = np.float32(0)
            for column in range(row.shape[0]):
                total += _widened(row[column]) * queries[query, column]
            products[query, place] = -total


@compiled()  # without fastmath, which could move the factor out of the sum, where small numbers are lost
def _widened(bits: np.int16) -> np.float32:
    """Return a finite float16, given by its bits, as float32, exactly."""
    moved = np.int32((np.int32(bits) << np.int32(13)) & _SIGN_AND_NUMBER)
    return np.float32(moved.view(np.float32) * _BIASES)
