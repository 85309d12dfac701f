"""The K nearest columns of every row of a block, ties by index, without sorting the row."""

from __future__ import annotations

import numpy as np
import torch

from passerby.compiled import compiled
from passerby.distances.threads import over_rows
from passerby.types import Floats, Ints


def smallest(block: torch.Tensor, count: int, *, own: int | None = None) -> tuple[Ints, Floats]:
    """Return the columns (B, K) and values (B, K) of the K = `count` smallest entries of every row, ascending.

    Equal values are ordered by column. When `own` is given, the column `own + line` comes first in every line whatever
    its value: an image is its own nearest neighbour even when it has duplicates.
    """
    # the kernel does not check bounds, and leaves -1 where a row is too short
    assert count <= block.shape[1]
    assert own is None or own + len(block) <= block.shape[1]
    if block.device.type != "cpu":
        return smallest_by_torch(block, count, own=own)
    values = block.numpy()
    column = np.empty((len(block), count), np.int64)
    value = np.empty((len(block), count), np.float32)
    over_rows(
        lambda first, last: _smallest_rows(
            values[first:last], -1 if own is None else own + first, column[first:last], value[first:last]
        ),
        len(block),
    )
    return column, value


@compiled()
def _smallest_rows(block: Floats, own: int, column_out: Ints, value_out: Floats) -> None:
    count = column_out.shape[1]
    fixed = 0 if own < 0 else 1
    for line in range(block.shape[0]):
        row, columns, values = block[line], column_out[line], value_out[line]
        values[:] = np.inf
        columns[:] = -1
        skip = -1
        if own >= 0:
            skip = own + line
            columns[0], values[0] = skip, row[skip]
        worst = np.float32(np.inf)
        for column in range(row.shape[0] if count > fixed else 0):
            value = row[column]
            if value < worst and column != skip:
                place = count - 1
                while place > fixed and values[place - 1] > value:
                    values[place], columns[place] = values[place - 1], columns[place - 1]
                    place -= 1
                values[place], columns[place] = value, column
                worst = values[count - 1]


class NearestSoFar:
    """The K nearest of every row of a set, itself first, while the upper half of its distances goes by.

    Equal values are ordered by row, as by `smallest`.

    Attributes:
        row: (N, K) rows by ascending value; -1 where too few were offered.
        value: (N, K) their values, that of the row itself at -inf.

    """

    def __init__(self, count_rows: int, count: int) -> None:
        self.row = np.full((count_rows, count), -1, np.int64)
        self.value = np.full((count_rows, count), np.inf, np.float32)
        self.row[:, 0], self.value[:, 0] = np.arange(count_rows), -np.inf
        self._worst = self.value[:, -1].copy()

    def offer(self, block: Floats, first: int) -> None:
        """Take the values of the rows from `first` on to themselves and to all after them: (B, N - first)."""
        height, width = block.shape
        # the kernels do not check bounds
        assert first + width == len(self.row)
        assert height <= width
        lists = (self.row, self.value, self._worst)
        over_rows(lambda begin, end: _offer_rows(begin, end, first, block, *lists), height)
        over_rows(lambda begin, end: _offer_columns(height + begin, height + end, first, block, *lists), width - height)


@compiled()
def _offer_rows(begin: int, end: int, first: int, block: Floats, row: Ints, value: Floats, worst: Floats) -> None:
    for line in range(begin, end):
        image = first + line
        for place in range(block.shape[1]):
            if block[line, place] < worst[image] and place != line:
                _insert(image, first + place, block[line, place], row, value, worst)


@compiled()
def _offer_columns(begin: int, end: int, first: int, block: Floats, row: Ints, value: Floats, worst: Floats) -> None:
    for line in range(block.shape[0]):
        for place in range(begin, end):
            if block[line, place] < worst[first + place]:
                _insert(first + place, first + line, block[line, place], row, value, worst)


@compiled()
def _insert(image: int, other: int, distance: np.float32, row: Ints, value: Floats, worst: Floats) -> None:
    place = value.shape[1] - 1
    while value[image, place - 1] > distance:  # ends at the image itself, which is at -inf
        row[image, place], value[image, place] = row[image, place - 1], value[image, place - 1]
        place -= 1
    row[image, place], value[image, place] = other, distance
    worst[image] = value[image, -1]


def smallest_by_torch(block: torch.Tensor, count: int, *, own: int | None = None) -> tuple[Ints, Floats]:
    """Do what `smallest` does with torch operations, on whichever device the block is.

    `topk` leaves the order of ties open, so it is given unique keys: the bits of the value, then the column.
    """
    bits = (block + 0.0).view(torch.int32)  # adding zero turns -0.0 into 0.0
    ordered = bits ^ ((bits >> 31) & 0x7FFFFFFF)
    keys = (ordered.long() << 32) + torch.arange(block.shape[1], device=block.device)
    if own is not None:
        lines = torch.arange(len(block), device=block.device)
        keys[lines, own + lines] = torch.iinfo(torch.int64).min
    column = keys.topk(count, dim=1, largest=False, sorted=True).indices
    return column.cpu().numpy(), block.gather(1, column).cpu().numpy()
