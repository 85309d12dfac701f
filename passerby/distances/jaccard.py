"""Jaccard distance between sparse rows that each sum to 1: 1 - m / (2 - m), m the sum of the smaller of two entries.

Rows meet only through the columns that both use, so an inverted table (for every column, which rows use it) gives all
overlaps of one row at once, and the many pairs without overlap cost nothing.
"""

from __future__ import annotations

import numpy as np

from passerby.compiled import compiled
from passerby.distances.sparse import Chunk, SparseRows
from passerby.distances.threads import over_rows
from passerby.types import Floats, Ints


def jaccard_block(left: SparseRows, inverted: SparseRows, *, out: Floats) -> None:
    """Fill `out` (B, G) with the Jaccard distances, 0..1, of the rows of `left` (B, N) to those of a (G, N) matrix.

    Args:
        left: rows that each sum to 1.
        inverted: the other matrix, transposed: (N, G).
        out: where to write.

    """
    # the kernel does not check bounds
    assert out.shape == (len(left), inverted.count_columns)
    assert left.count_columns == len(inverted)
    over_rows(
        lambda first, last: _fill_rows(
            first,
            last,
            *(left.start, left.column, left.value),
            *(inverted.start, inverted.column, inverted.value),
            out,
        ),
        len(left),
    )


def jaccard_graph(rows: SparseRows, *, at_most: float = 1.0) -> SparseRows:
    """Return the Jaccard distances within one set (N, N), of the pairs that overlap; all others are at distance 1.

    Every image is in its own row, at distance 0 up to rounding. Distances are at least 1e-6, so that a tool which takes
    a stored 0 for "no edge" does not lose exact duplicates.

    Args:
        rows: (N, N) encoding whose rows each sum to 1.
        at_most: pairs farther apart are left out too; nearly all that overlap do so by very little.

    """
    assert rows.count_columns == len(rows)  # the kernel does not check bounds
    inverted = rows.transposed()
    return SparseRows.gather(
        lambda first, last: _graph_rows(
            first,
            last,
            *(rows.start, rows.column, rows.value),
            *(inverted.start, inverted.column, inverted.value),
            np.float32(at_most),
        ),
        len(rows),
        count_columns=len(rows),
    )


@compiled()
def _fill_rows(
    first: int,
    last: int,
    start: Ints,
    column: Ints,
    value: Floats,
    inverted_start: Ints,
    inverted_column: Ints,
    inverted_value: Floats,
    out: Floats,
) -> None:
    one, two = np.float32(1), np.float32(2)
    for line in range(first, last):
        row = out[line]
        row[:] = 0
        for entry in range(start[line], start[line + 1]):
            weight = value[entry]
            for meeting in range(inverted_start[column[entry]], inverted_start[column[entry] + 1]):
                row[inverted_column[meeting]] += min(weight, inverted_value[meeting])
        for place in range(row.shape[0]):
            row[place] = max(one - row[place] / (two - row[place]), np.float32(0))


@compiled()
def _graph_rows(
    first: int,
    last: int,
    start: Ints,
    column: Ints,
    value: Floats,
    inverted_start: Ints,
    inverted_column: Ints,
    inverted_value: Floats,
    at_most: np.float32,
) -> Chunk:
    count_rows = start.shape[0] - 1
    one, two, floor = np.float32(1), np.float32(2), np.float32(1e-6)
    overlap, touched = np.zeros(count_rows, np.float32), np.empty(count_rows, np.int64)
    sizes = np.zeros(last - first, np.int64)
    columns, distances = np.empty(1024, np.int64), np.empty(1024, np.float32)
    used = 0
    for line in range(first, last):
        size = 0
        for entry in range(start[line], start[line + 1]):
            for meeting in range(inverted_start[column[entry]], inverted_start[column[entry] + 1]):
                other = inverted_column[meeting]
                if overlap[other] == 0:
                    touched[size] = other
                    size += 1
                overlap[other] += min(value[entry], inverted_value[meeting])
        if used + size > columns.shape[0]:
            room = np.empty(used + size, np.int64)
            columns = np.concatenate((columns[:used], room))
            distances = np.concatenate((distances[:used], room.astype(np.float32)))
        before = used
        for other in touched[:size]:
            distance = max(one - overlap[other] / (two - overlap[other]), floor)
            overlap[other] = 0
            if distance <= at_most:
                columns[used], distances[used] = other, distance
                used += 1
        sizes[line - first] = used - before
    return sizes, columns[:used].copy(), distances[:used].copy()
