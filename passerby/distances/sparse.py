"""Rows of which only the non-zero entries are kept."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_array

from passerby.distances.threads import over_rows
from passerby.types import Floats, Ints

Chunk = tuple[Ints, Ints, Floats]
"""Result of a compiled kernel for a range of rows: entries per row, columns, values."""


@dataclass(frozen=True, eq=False)
class SparseRows:
    """A sparse (N, M) matrix.

    Attributes:
        start: (N + 1,) row i owns entries `start[i]:start[i + 1]`.
        column: (E,) columns, in no particular order within a row.
        value: (E,) float32.
        count_columns: M.

    """

    start: Ints
    column: Ints
    value: Floats
    count_columns: int

    def __len__(self) -> int:
        return len(self.start) - 1

    @classmethod
    def gather(cls, kernel: Callable[[int, int], Chunk], count_rows: int, *, count_columns: int) -> SparseRows:
        """Run `kernel(first, last)` over ranges of rows in threads and join what the calls return."""
        chunks = over_rows(kernel, count_rows)
        start = np.concatenate([[0], np.cumsum(np.concatenate([sizes for sizes, _, _ in chunks]))])
        column, value = np.empty(start[-1], np.int64), np.empty(start[-1], np.float32)
        first = 0
        while chunks:  # each is given back once it is copied, so that the whole is not there twice
            _, columns, values = chunks.pop(0)
            column[first : first + len(columns)], value[first : first + len(columns)] = columns, values
            first += len(columns)
        return cls(start, column, value, count_columns)

    def slice(self, first: int, last: int) -> SparseRows:
        """Return rows first..last."""
        begin, end = self.start[first], self.start[last]
        start = self.start[first : last + 1] - begin
        return SparseRows(start, self.column[begin:end], self.value[begin:end], self.count_columns)

    def transposed(self) -> SparseRows:
        """Return the (M, N) matrix: for every column, which rows use it."""
        flipped = self.scipy().tocsc()
        return SparseRows(flipped.indptr.astype(np.int64), flipped.indices.astype(np.int64), flipped.data, len(self))

    def scipy(self) -> csr_array:
        """Return the matrix as a scipy.sparse.csr_array."""
        return csr_array((self.value, self.column, self.start), shape=(len(self), self.count_columns))
