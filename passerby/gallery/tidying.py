"""Order in a gallery: what a killed writer left is finished, and holes of removed rows are closed."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from passerby.gallery.shards import ROWS_PER_SHARD, Shard, ShardFiles, shard_of, slot_of
from passerby.gallery.stored_rows import moved_vectors
from passerby.gallery.tables import dimensions_of, next_number
from passerby.types import Ints

HOLES = 0.2
"""Share of positions without a row from which a compaction is worth its time."""


def read_shards(connection: sqlite3.Connection) -> list[Shard]:
    """Return the shards by number."""
    return [Shard(*line) for line in connection.execute("SELECT number, file, count FROM shards ORDER BY number")]


def recover(connection: sqlite3.Connection, files: ShardFiles) -> None:
    """Finish what a killed writer began; inside of a transaction."""
    shards, dimensions = read_shards(connection), dimensions_of(connection)
    for file in files.strays(shards):
        files.wipe(file)
    for shard in shards:
        files.cut(shard, dimensions)
    erase_pending(connection, files)


def erase_pending(connection: sqlite3.Connection, files: ShardFiles) -> None:
    """Overwrite the vectors of removed rows; inside of a transaction that follows the one that removed them."""
    query = "SELECT position FROM holes WHERE erased = 0 ORDER BY position"
    positions = _column(connection.execute(query))
    if not len(positions):
        return
    numbers, dimensions = shard_of(positions), dimensions_of(connection)
    for shard in read_shards(connection):
        slots = slot_of(positions[numbers == shard.number])
        if len(slots):
            files.erase(shard, slots, dimensions)
    connection.execute("UPDATE holes SET erased = 1 WHERE erased = 0")


def read_holes(connection: sqlite3.Connection) -> Ints:
    """Return the positions without a row, ascending."""
    return _column(connection.execute("SELECT position FROM holes ORDER BY position"))


def is_worth_compacting(connection: sqlite3.Connection) -> bool:
    """Whether enough positions are without a row."""
    (holes,) = connection.execute("SELECT COUNT(*) FROM holes").fetchone()
    (positions,) = connection.execute("SELECT COALESCE(SUM(count), 0) FROM shards").fetchone()
    return bool(holes > HOLES * positions)


def compact(connection: sqlite3.Connection, files: ShardFiles) -> list[str]:
    """Write the rows of shards with holes into new files, and return the old files, which are to be wiped afterwards.

    Neighbours that fit into one shard become one. Rows stay in order, so that ids and positions ascend together. The
    new files are on the disk before the transaction, in which this is called, names them.
    """
    holes, dimensions = read_holes(connection), dimensions_of(connection)
    numbers = shard_of(holes)
    slots = {
        shard: np.setdiff1d(np.arange(shard.count), slot_of(holes[numbers == shard.number]), assume_unique=True)
        for shard in read_shards(connection)
    }
    replaced: list[str] = []
    for group in _groups(slots):
        if len(group) == 1 and len(slots[group[0]]) == group[0].count:
            continue
        _rewrite(connection, files, [(shard, slots[shard]) for shard in group], dimensions)
        replaced += [shard.file for shard in group]
    connection.execute("DELETE FROM holes")
    return replaced


def _groups(slots: dict[Shard, Ints]) -> Iterator[list[Shard]]:
    """Yield consecutive shards whose rows fit into one."""
    group: list[Shard] = []
    count = 0
    for shard, rows in slots.items():
        if group and count + len(rows) > ROWS_PER_SHARD:
            yield group
            group, count = [], 0
        group.append(shard)
        count += len(rows)
    if group:
        yield group


def _rewrite(
    connection: sqlite3.Connection, files: ShardFiles, group: Sequence[tuple[Shard, Ints]], dimensions: int
) -> None:
    """Replace shards by one new shard under the number of the first, or by none where no row is left."""
    first = group[0][0]
    before = np.concatenate([shard.first + slots for shard, slots in group])
    connection.executemany("DELETE FROM shards WHERE number = ?", [(shard.number,) for shard, _ in group])
    if not len(before):
        return
    shard = Shard(first.number, new_file(connection), len(before))
    files.append(Shard(shard.number, shard.file, 0), moved_vectors(group, files, dimensions=dimensions))
    connection.execute("INSERT INTO shards VALUES (?, ?, ?)", (shard.number, shard.file, shard.count))
    # ascending, and no row moves behind another, so a position is free by the time it is taken
    after = shard.first + np.arange(len(before))
    moved = before != after
    pairs = zip(after[moved].tolist(), before[moved].tolist(), strict=True)
    connection.executemany("UPDATE rows SET position = ? WHERE position = ?", pairs)


def new_file(connection: sqlite3.Connection) -> str:
    """Return a name that no shard has had before; inside of a transaction."""
    return f"{next_number(connection, 'next_file', 1):08d}.f16"


def _column(lines: Iterable[tuple[int]]) -> Ints:
    return np.fromiter((line[0] for line in lines), np.int64)
