"""Shards: files of float16 vectors to which rows are appended and in which single rows are overwritten by zeros.

A shard holds nothing but vectors. How many of them count stands in the table of shards; what follows them in the file
is the rest of an addition that was killed, and the next writer cuts it off.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np

from passerby.errors import UserError
from passerby.files import reason
from passerby.gallery.mapping import Halves, KeptShards, runs
from passerby.types import Ints

ROWS_PER_SHARD = 1 << 16
"""Rows of a full shard: 64 MiB of 512 dimensions."""

_WIPE_BYTES = 1 << 22


@dataclass(frozen=True)
class Shard:
    """A file of vectors.

    Attributes:
        number: orders the shards; the row in `slot` has the position `number * ROWS_PER_SHARD + slot`.
        file: name of the file.
        count: rows that count.

    """

    number: int
    file: str
    count: int

    @property
    def first(self) -> int:
        """Position of the first row."""
        return self.number * ROWS_PER_SHARD


def shard_of(position: Ints) -> Ints:
    """Return the numbers (N,) of the shards of positions (N,)."""
    return position // ROWS_PER_SHARD


def slot_of(position: Ints) -> Ints:
    """Return the slots (N,) of positions (N,) in their shards."""
    return position % ROWS_PER_SHARD


class ShardFiles:
    """The folder of the shards of one gallery."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._mapped = KeptShards()

    def path(self, shard: Shard) -> Path:
        """Return the file of a shard."""
        return self.folder / shard.file

    def append(self, shard: Shard, vectors: Halves) -> None:
        """Write vectors (N, D) behind those that count, on to the disk; the shard itself stays as it is.

        Raises:
            UserError: the disk is full, or the folder cannot be written.

        """
        path, width = self.path(shard), vectors.shape[1] * vectors.itemsize
        created = not path.exists()
        with _writing(path):
            with path.open("wb" if created else "r+b") as file:
                file.truncate(shard.count * width)
                file.seek(shard.count * width)
                file.write(np.ascontiguousarray(vectors).data)
                _sync(file)
            if created:
                sync_folder(self.folder)

    def cut(self, shard: Shard, dimensions: int) -> None:
        """Remove what follows the rows that count."""
        path, size = self.path(shard), shard.count * dimensions * 2
        with _writing(path):
            if path.stat().st_size > size:
                with path.open("r+b") as file:
                    file.truncate(size)
                    _sync(file)

    def erase(self, shard: Shard, slots: Ints, dimensions: int) -> None:
        """Overwrite rows by zeros, on to the disk."""
        path, width = self.path(shard), dimensions * 2
        with _writing(path), path.open("r+b") as file:
            for first, last in runs(slots):
                file.seek(first * width)
                file.write(bytes((last - first) * width))
            _sync(file)

    def wipe(self, file: str) -> None:
        """Overwrite a whole file by zeros and remove it."""
        path = self.folder / file
        with _writing(path), contextlib.suppress(FileNotFoundError):
            with path.open("r+b") as content:
                size = path.stat().st_size
                for start in range(0, size, _WIPE_BYTES):
                    content.write(bytes(min(_WIPE_BYTES, size - start)))
                _sync(content)
            path.unlink()
            sync_folder(self.folder)

    def open(self, shard: Shard, dimensions: int, *, slots: Ints | None = None) -> Halves:
        """Return the rows (count, D) of a shard, mapped from its file; `slots` as for `open_rows`.

        Raises:
            FileNotFoundError: the file was replaced meanwhile.
            UserError: the file is too short or cannot be read.

        """
        return self.open_rows(self.path(shard), shard.count, dimensions, slots=slots)

    def open_rows(self, path: Path, count: int, dimensions: int, *, slots: Ints | None = None) -> Halves:
        """Return rows of a file as `mapping.open_rows` does; the mapping is kept for the next time."""
        return self._mapped.open_rows(path, count, dimensions, slots=slots)

    def keep_mapped(self, shards: Sequence[Shard]) -> None:
        """Let go of the mappings of all other shards."""
        self._mapped.keep_only({self.path(shard) for shard in shards})

    def strays(self, shards: list[Shard]) -> list[str]:
        """Return the names of files that are none of the shards."""
        named = {shard.file for shard in shards}
        return sorted(path.name for path in self.folder.glob("*.f16") if path.name not in named)


def sync_folder(folder: Path) -> None:
    """Bring the names in a folder on to the disk, where the system can do that."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _sync(file: IO[bytes]) -> None:
    file.flush()
    os.fsync(file.fileno())


@contextlib.contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UserError(f"cannot write {path}: {reason(error)}") from error
