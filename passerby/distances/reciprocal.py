"""k-reciprocal neighbour sets as sparse rows: images that are among each other's nearest neighbours.

Every function works on a table of neighbours and returns compressed rows; nothing of size (N, N) is made.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from passerby.compiled import compiled
from passerby.distances.pairwise import SMALLEST_SQUARE
from passerby.distances.sparse import Chunk, SparseRows
from passerby.distances.threads import over_rows
from passerby.types import Floats, Ints


@dataclass(frozen=True, eq=False)
class Neighbours:
    """The nearest neighbours of every image of a set, itself first.

    Attributes:
        row: (N, K) rows of the set, by ascending distance, ties by row.
        square: (N, K) squared distances to them.
        largest: (N,) what squared distances are divided by before they are weighted.

    """

    row: Ints
    square: Floats
    largest: Floats


@dataclass(frozen=True, eq=False)
class Squares:
    """Squared distances between any two images of a set in two parts, one pair at a time.

    Attributes:
        first, second: (Q, D) and (G, D) float32 vectors; row i of the set is `first[i]` or `second[i - Q]`.
        scale: (Q + G,) 1/norm when `cosine`, else squared norms.
        cosine: whether the vectors count as normalised.

    """

    first: Floats
    second: Floats
    scale: Floats
    cosine: bool


def encode(neighbours: Neighbours, squares: Squares, *, count: int, count_half: int) -> SparseRows:
    """Return the (N, N) encoding: row i holds exp(-d) of its expanded reciprocal set, summing to 1.

    Args:
        neighbours: at least max(count, count_half) columns.
        squares: for members of the set that are not among the neighbours.
        count: how many neighbours (itself included) may be reciprocal.
        count_half: the same for the smaller sets that are added when more than 2/3 of them are already in.

    """
    assert neighbours.row.shape[1] >= min(max(count, count_half), len(neighbours.row))
    assert len(squares.first) + len(squares.second) >= len(neighbours.row)
    sets, sizes = mutual(neighbours.row[:, :count])
    half_sets, half_sizes = mutual(neighbours.row[:, :count_half])

    def kernel(first: int, last: int) -> Chunk:
        return _encode_rows(
            first,
            last,
            neighbours.row,
            neighbours.square,
            neighbours.largest,
            sets,
            sizes,
            half_sets,
            half_sizes,
            squares.first,
            squares.second,
            squares.scale,
            squares.cosine,
        )

    return SparseRows.gather(kernel, len(sets), count_columns=len(sets))


def mutual(row: Ints) -> tuple[Ints, Ints]:
    """Return the reciprocal ones among each row's neighbours (N, K), packed to the left, and how many they are (N,)."""
    row = np.ascontiguousarray(row)
    _require_rows(row, len(row))
    sets, sizes = np.full_like(row, -1), np.zeros(len(row), np.int64)
    over_rows(lambda first, last: _mutual_rows(first, last, row, sets, sizes), len(row))
    return sets, sizes


def expand_queries(rows: SparseRows, nearest: Ints) -> SparseRows:
    """Return the mean of the encodings of each image's `nearest` (N, k2) neighbours (local query expansion)."""
    nearest = np.ascontiguousarray(nearest)
    _require_rows(nearest, len(rows))
    return SparseRows.gather(
        lambda first, last: _mean_rows(first, last, rows.start, rows.column, rows.value, nearest),
        len(nearest),
        count_columns=rows.count_columns,
    )


def _require_rows(table: Ints, count: int) -> None:
    """Assert that a table holds rows 0..count only; the kernels do not check bounds."""
    assert table.min(initial=0) >= 0
    assert table.max(initial=-1) < count


@compiled()
def _mutual_rows(first: int, last: int, row: Ints, sets: Ints, sizes: Ints) -> None:
    for image in range(first, last):
        for other in row[image]:
            for back in row[other]:
                if back == image:
                    sets[image, sizes[image]] = other
                    sizes[image] += 1
                    break


@compiled(fastmath=True)
def _dot(left: Floats, right: Floats) -> np.float32:
    total = np.float32(0)
    for d in range(left.shape[0]):
        total += left[d] * right[d]
    return total


@compiled()
def _square(i: int, j: int, first: Floats, second: Floats, scale: Floats, cosine: bool) -> np.float32:
    count = first.shape[0]
    left = first[i] if i < count else second[i - count]
    right = first[j] if j < count else second[j - count]
    product = _dot(left, right)
    square = 2 - 2 * product * scale[i] * scale[j] if cosine else scale[i] + scale[j] - 2 * product
    return np.float32(max(square, SMALLEST_SQUARE))


@compiled()
def _expanded(
    image: int, sets: Ints, sizes: Ints, half_sets: Ints, half_sizes: Ints, member: Ints, original: Ints, out: Ints
) -> int:
    """Write the expanded reciprocal set of `image` to `out` and return its size."""
    size = int(sizes[image])
    for place in range(size):
        out[place] = sets[image, place]
        member[out[place]] = original[out[place]] = image
    for candidate in sets[image, : sizes[image]]:
        half = half_sets[candidate, : half_sizes[candidate]]
        overlap = 0
        for other in half:
            overlap += original[other] == image
        if 3 * overlap > 2 * len(half):
            for other in half:
                if member[other] != image:
                    member[other] = image
                    out[size] = other
                    size += 1
    return size


@compiled()
def _encode_rows(
    first: int,
    last: int,
    row: Ints,
    square: Floats,
    largest: Floats,
    sets: Ints,
    sizes: Ints,
    half_sets: Ints,
    half_sizes: Ints,
    vectors_first: Floats,
    vectors_second: Floats,
    scale: Floats,
    cosine: bool,
) -> Chunk:
    count_rows = row.shape[0]
    most = sets.shape[1] * (1 + half_sets.shape[1])
    member, original, known = np.full(count_rows, -1), np.full(count_rows, -1), np.full(count_rows, -1)
    place_of = np.empty(count_rows, np.int64)
    neighbours = np.empty(most, np.int64)
    sizes_out = np.empty(last - first, np.int64)
    columns, values = np.empty((last - first) * most, np.int64), np.empty((last - first) * most, np.float32)
    used = 0
    for image in range(first, last):
        size = _expanded(image, sets, sizes, half_sets, half_sizes, member, original, neighbours)
        for place in range(row.shape[1]):
            known[row[image, place]] = image
            place_of[row[image, place]] = place
        total = 0.0
        for entry in range(size):
            other = neighbours[entry]
            if known[other] == image:
                distance = square[image, place_of[other]]
            else:
                distance = _square(image, other, vectors_first, vectors_second, scale, cosine)
            columns[used + entry] = other
            values[used + entry] = np.exp(-distance / largest[image])
            total += values[used + entry]
        values[used : used + size] /= np.float32(total)
        sizes_out[image - first] = size
        used += size
    return sizes_out, columns[:used].copy(), values[:used].copy()


@compiled()
def _mean_rows(first: int, last: int, starts: Ints, columns: Ints, values: Floats, nearest: Ints) -> Chunk:
    most = 0
    for image in range(first, last):
        for other in nearest[image]:
            most += starts[other + 1] - starts[other]
    last_image = np.full(starts.shape[0] - 1, -1)
    place_of = np.empty(starts.shape[0] - 1, np.int64)
    sizes_out = np.empty(last - first, np.int64)
    columns_out, values_out = np.empty(most, np.int64), np.zeros(most, np.float32)
    used = 0
    share = np.float32(1 / nearest.shape[1])
    for image in range(first, last):
        begin = used
        for other in nearest[image]:
            for entry in range(starts[other], starts[other + 1]):
                column = columns[entry]
                if last_image[column] != image:
                    last_image[column], place_of[column] = image, used
                    columns_out[used] = column
                    used += 1
                values_out[place_of[column]] += values[entry] * share
        sizes_out[image - first] = used - begin
    return sizes_out, columns_out[:used].copy(), values_out[:used].copy()
