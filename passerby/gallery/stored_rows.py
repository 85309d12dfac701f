"""Rows of a gallery in and out of its SQLite table."""

from __future__ import annotations

import math
import sqlite3
import zlib
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from passerby.gallery.mapping import Halves
from passerby.gallery.rows import GalleryRows
from passerby.gallery.scan import chosen_rows
from passerby.gallery.shards import Shard, ShardFiles, shard_of, slot_of
from passerby.gallery.tables import dimensions_of, in_pieces
from passerby.types import Doubles, Floats, Ints

COLUMNS = "id, position, path, camera, time, x1, y1, x2, y2, tracklet, identity, attributes"
_PLACES = ", ".join("?" * 14)


def to_halves(vectors: Floats) -> Halves:
    """Return vectors as they are stored: unit length, rounded to float16."""
    return np.ascontiguousarray(vectors, np.float16)


def checksum(vector: Halves) -> int:
    """Return the CRC-32 of a stored vector (D,)."""
    return zlib.crc32(vector.data)


def insert_rows(
    connection: sqlite3.Connection, rows: GalleryRows, *, ids: Ints, positions: Ints, halves: Halves, added: float
) -> None:
    """Write rows into the table, inside of a transaction.

    Args:
        connection: of the gallery.
        rows: N of them.
        ids: (N,) their numbers.
        positions: (N,) of their vectors.
        halves: (N, D) their stored vectors, for the checksums.
        added: POSIX seconds of now.

    """
    texts = [getattr(rows, name).tolist() for name in ("path", "camera", "tracklet", "identity", "attributes")]
    times, boxes = _with_nulls(rows.time), [_with_nulls(side) for side in rows.box.T]
    sums = map(checksum, halves)
    columns = zip(
        ids.tolist(), positions.tolist(), sums, *texts[:2], times, *boxes, *texts[2:], [added] * len(ids), strict=True
    )
    connection.executemany(f"INSERT INTO rows VALUES ({_PLACES})", columns)
    if rows.thumbnails:
        pairs = [(number, jpeg) for number, jpeg in zip(ids.tolist(), rows.thumbnails, strict=True) if jpeg]
        connection.executemany("INSERT INTO thumbnails VALUES (?, ?)", pairs)


def _with_nulls(values: Doubles | Floats) -> list[float | None]:
    return [None if math.isnan(value) else value for value in values.tolist()]


def select_rows(
    connection: sqlite3.Connection, end: str, values: Sequence[object], *, files: ShardFiles, shards: Sequence[Shard]
) -> GalleryRows:
    """Return the rows that the end of a SELECT chooses, with their vectors; without thumbnails.

    Raises:
        FileNotFoundError: a shard was replaced meanwhile.

    """
    lines = connection.execute(f"SELECT {COLUMNS} FROM rows {end}", tuple(values)).fetchall()
    return _rows_of(lines, files, shards, dimensions=dimensions_of(connection))


def rows_at(
    connection: sqlite3.Connection, positions: Ints, *, files: ShardFiles, shards: Sequence[Shard]
) -> tuple[GalleryRows, Ints]:
    """Return the rows at positions, by ascending id, and their positions (N,)."""
    lines = []
    for places, piece in in_pieces(positions.tolist()):
        lines += connection.execute(f"SELECT {COLUMNS} FROM rows WHERE position IN ({places})", piece).fetchall()
    lines.sort()
    rows = _rows_of(lines, files, shards, dimensions=dimensions_of(connection))
    return rows, np.array([line[1] for line in lines], np.int64)


def _rows_of(
    lines: Sequence[Sequence[object]], files: ShardFiles, shards: Sequence[Shard], *, dimensions: int
) -> GalleryRows:
    columns = list(zip(*lines, strict=True)) or [()] * 12
    positions = np.array(columns[1], np.int64)
    box = np.array(columns[5:9], np.float32).T  # None becomes NaN
    return GalleryRows(
        vectors=vectors_of(positions, files, shards, dimensions=dimensions),
        path=np.array(columns[2], np.str_),
        camera=np.array(columns[3], np.str_),
        time=np.array(columns[4], np.float64),
        box=box.reshape(-1, 4),
        tracklet=np.array(columns[9], np.str_),
        identity=np.array(columns[10], np.str_),
        attributes=np.array(columns[11], np.str_),
        id=np.array(columns[0], np.int64),
    )


def vectors_of(positions: Ints, files: ShardFiles, shards: Sequence[Shard], *, dimensions: int) -> Floats:
    """Return the stored vectors (N, D) at positions (N,) as float32."""
    vectors = np.empty((len(positions), max(dimensions, 1)), np.float32)
    numbers = shard_of(positions)
    for shard in shards:
        chosen = np.flatnonzero(numbers == shard.number)
        if len(chosen):
            slots = slot_of(positions[chosen])
            vectors[chosen] = files.open(shard, dimensions, slots=np.sort(slots))[slots]
    return vectors


def moved_vectors(shards: Sequence[tuple[Shard, Ints]], files: ShardFiles, *, dimensions: int) -> Halves:
    """Return the stored vectors (N, D) of some slots of shards, one shard after the other."""
    parts = [chosen_rows(files.open(shard, dimensions, slots=slots), slots) for shard, slots in shards]
    return np.concatenate(parts)


def with_thumbnails(connection: sqlite3.Connection, rows: GalleryRows) -> GalleryRows:
    """Return rows with their thumbnails, where any has one."""
    jpegs: dict[int, bytes] = {}
    for places, piece in in_pieces(rows.id.tolist()):
        jpegs |= dict(connection.execute(f"SELECT id, jpeg FROM thumbnails WHERE id IN ({places})", piece))
    if not jpegs:
        return rows
    return replace(rows, thumbnails=tuple(jpegs.get(number, b"") for number in rows.id.tolist()))
