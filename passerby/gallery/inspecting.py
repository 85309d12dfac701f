"""Description and proof of a gallery in a folder."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from passerby.gallery.gallery import AuditLine, GalleryInfo
from passerby.gallery.mapping import open_rows
from passerby.gallery.shards import Shard, ShardFiles, slot_of
from passerby.gallery.stored_rows import checksum
from passerby.gallery.tables import dimensions_of, read_meta
from passerby.gallery.tidying import read_shards
from passerby.types import Ints


def describe_folder(connection: sqlite3.Connection, folder: Path) -> GalleryInfo:
    """Return the description of a gallery."""
    cameras = dict(connection.execute("SELECT camera, COUNT(*) FROM rows GROUP BY camera ORDER BY camera"))
    ((identities,),) = connection.execute("SELECT COUNT(DISTINCT identity) FROM rows WHERE identity != ''")
    ((first, last),) = connection.execute("SELECT MIN(time), MAX(time) FROM rows")
    files = [path for path in folder.rglob("*") if path.is_file()]
    after = read_meta(connection, "forget_after")
    audit = connection.execute("SELECT time, count, kinds FROM audit ORDER BY rowid").fetchall()
    return GalleryInfo(
        place=str(folder),
        store="folder",
        model=read_meta(connection, "model"),
        dimensions=dimensions_of(connection),
        count=sum(cameras.values()),
        cameras=cameras,
        identities=identities,
        first=first,
        last=last,
        bytes=sum(path.stat().st_size for path in files),
        files=len(files),
        forget_after=float(after) if after else None,
        audit=tuple(AuditLine(*line) for line in audit),
    )


def find_faults(connection: sqlite3.Connection, files: ShardFiles) -> tuple[str, ...]:
    """Return a sentence on each fault of the table, of the shards, and of single vectors.

    Raises:
        FileNotFoundError: a shard is missing.

    """
    return tuple(_faults(connection, files))


def _faults(connection: sqlite3.Connection, files: ShardFiles) -> Iterator[str]:
    for (sentence,) in connection.execute("PRAGMA integrity_check"):
        if sentence != "ok":
            yield f"SQLite: {sentence}"
    shards, dimensions = read_shards(connection), dimensions_of(connection)
    slots = sum(shard.count for shard in shards)
    ((rows,),) = connection.execute("SELECT COUNT(*) FROM rows")
    ((holes,),) = connection.execute("SELECT COUNT(*) FROM holes")
    if rows + holes != slots:
        yield f"{rows:,} rows and {holes:,} removed ones do not fill the {slots:,} places of the shards"
    for shard in shards:
        yield from _faults_of_shard(connection, files, shard, dimensions)


def _faults_of_shard(connection: sqlite3.Connection, files: ShardFiles, shard: Shard, dimensions: int) -> Iterator[str]:
    path = files.path(shard)
    if path.stat().st_size < shard.count * dimensions * 2:
        yield f"{path} is too short for its {shard.count:,} vectors"
        return
    vectors = open_rows(path, shard.count, dimensions)
    between = (shard.first, shard.first + shard.count)
    query = "SELECT id, position, crc FROM rows WHERE position >= ? AND position < ? ORDER BY position"
    live = np.array(connection.execute(query, between).fetchall(), np.int64).reshape(-1, 3)
    slots = slot_of(live[:, 1])
    wrong = [
        number
        for number, slot, stored in zip(live[:, 0].tolist(), slots.tolist(), live[:, 2].tolist(), strict=True)
        if checksum(vectors[slot]) != stored
    ]
    if wrong:
        yield f"{path}: the vectors of {len(wrong):,} rows have changed, the first that of row {wrong[0]}"
    query = "SELECT position FROM holes WHERE erased = 1 AND position >= ? AND position < ?"
    removed: Ints = np.array(connection.execute(query, between).fetchall(), np.int64).reshape(-1)
    present = int(np.asarray(vectors[slot_of(removed)]).any(axis=1).sum())
    if present:
        yield f"{path}: {present:,} vectors of removed rows are still there"
