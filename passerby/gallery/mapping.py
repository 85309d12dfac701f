"""Shards mapped into memory, and kept so between searches until their file is replaced.

A mapping is no copy: it shows the pages of the file, in which other processes append and overwrite, and which the
system takes back when it needs memory. So what is erased in the file is erased in the mapping.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from passerby.errors import UserError
from passerby.types import Bools, Ints

Halves = npt.NDArray[np.float16]

NEAR = 16
"""Rows between two that are read, up to which those between are read too."""
KEPT = os.name == "posix"
"""Whether mappings are kept: Windows lets nobody remove or cut a file that a process has mapped."""


@dataclass(frozen=True, eq=False)
class MappedShard:
    """A file of vectors in memory.

    Attributes:
        mapped: the pages.
        rows: (N, D) the vectors in them.
        file: device and number of the file, which a file of the same name does not have.
        requested: (N,) rows for whose pages the system has been asked.

    """

    mapped: mmap.mmap
    rows: Halves
    file: tuple[int, int]
    requested: Bools

    def expect(self, slots: Ints | None) -> None:
        """Have the system fetch the pages of ascending slots, all at once; None = all pages, in their order."""
        if not hasattr(self.mapped, "madvise"):
            return
        if slots is None:
            self.mapped.madvise(mmap.MADV_SEQUENTIAL)
            return
        self.mapped.madvise(mmap.MADV_RANDOM)
        width = self.rows.shape[1] * self.rows.itemsize
        for first, last in runs(slots[~self.requested[slots]], gap=NEAR):
            begin = first * width // mmap.PAGESIZE * mmap.PAGESIZE
            self.mapped.madvise(mmap.MADV_WILLNEED, begin, last * width - begin)
        self.requested[slots] = True


def map_shard(path: Path, count: int, dimensions: int) -> MappedShard:
    """Map the first rows (count, D) of a file.

    Raises:
        FileNotFoundError: the file was replaced.
        UserError: it is too short.

    """
    with path.open("rb") as file:
        status = os.fstat(file.fileno())
        _require_size(path, status, count, dimensions)
        # a private copy on writing, as torch takes only arrays that may be written; nothing is
        mapped = mmap.mmap(file.fileno(), count * dimensions * 2, access=mmap.ACCESS_COPY)
    rows = np.frombuffer(mapped, np.float16).reshape(count, dimensions)
    return MappedShard(mapped, rows, (status.st_dev, status.st_ino), np.zeros(count, np.bool_))


def _require_size(path: Path, status: os.stat_result, count: int, dimensions: int) -> None:
    if status.st_size < count * dimensions * 2:
        raise UserError(
            f"{path} is too short for its {count:,} vectors; the gallery is damaged, see `passerby gallery check`"
        )


def open_rows(path: Path, count: int, dimensions: int, *, slots: Ints | None = None) -> Halves:
    """Return the first rows (count, D) of a file of vectors, mapped.

    Args:
        path: the file.
        count: rows that count.
        dimensions: D.
        slots: ascending rows that will be read, whose pages alone the system fetches; None = all in their order.

    Raises:
        FileNotFoundError: the file was replaced.
        UserError: it is too short.

    """
    shard = map_shard(path, count, dimensions)
    shard.expect(slots)
    return shard.rows


class KeptShards:
    """The mappings of one gallery; may be used by several threads."""

    def __init__(self) -> None:
        self._kept: dict[Path, MappedShard] = {}

    def open_rows(self, path: Path, count: int, dimensions: int, *, slots: Ints | None = None) -> Halves:
        """Return rows as the function `open_rows` does, from the mapping of the last time where it is still that file.

        Where another process has cut the file, reading the mapping would end this one, so its size is looked up.
        """
        shard = self._kept.get(path)
        if shard is not None:
            status = path.stat()
            _require_size(path, status, count, dimensions)
            if (status.st_dev, status.st_ino) != shard.file or len(shard.rows) < count:
                shard = None
        if shard is None:
            shard = map_shard(path, count, dimensions)
            if KEPT:
                self._kept[path] = shard
        shard.expect(slots)
        return shard.rows[:count]

    def keep_only(self, paths: Collection[Path]) -> None:
        """Let go of all other files, whose place on the disk is free afterwards."""
        for path in [path for path in list(self._kept) if path not in paths]:
            self._kept.pop(path, None)


def runs(slots: Ints, *, gap: int = 0) -> list[tuple[int, int]]:
    """Return ascending slots as ranges (first, behind the last), across gaps of so many others at most.

    >>> runs(np.array([1, 2, 3, 7])), runs(np.array([1, 2, 3, 7, 20]), gap=4)
    ([(1, 4), (7, 8)], [(1, 8), (20, 21)])
    """
    if not len(slots):
        return []
    starts = np.flatnonzero(np.diff(slots, prepend=slots[0] - gap - 2) > gap + 1)
    ends = np.append(starts[1:], len(slots)) - 1
    return [(int(slots[start]), int(slots[end]) + 1) for start, end in zip(starts, ends, strict=True)]
