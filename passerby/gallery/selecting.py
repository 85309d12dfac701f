"""The rows that a search looks at: conditions as positions of vectors, by the indexes of the SQLite table."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

import numpy as np

from passerby.gallery.rows import Where
from passerby.gallery.scan import ShardPart
from passerby.gallery.shards import Shard, ShardFiles
from passerby.gallery.tables import conditions, dimensions_of, read_generation
from passerby.gallery.tidying import read_holes, read_shards
from passerby.types import Ints


@dataclass(frozen=True, eq=False)
class Selection:
    """Rows that are searched, and the state of the gallery in which they are: removals make another state."""

    generation: int
    dimensions: int
    parts: tuple[ShardPart, ...]


def selection_of(connection: sqlite3.Connection, files: ShardFiles, where: Where) -> Selection:
    """Return the rows that conditions choose, inside of a transaction; mappings of replaced shards are let go."""
    shards, dimensions = read_shards(connection), dimensions_of(connection)
    files.keep_mapped(shards)
    positions = _read_positions(connection, where) if where else read_holes(connection)
    bounds = np.searchsorted(positions, [[shard.first, shard.first + shard.count] for shard in shards])
    parts: list[ShardPart] = []
    for shard, (first, last) in zip(shards, bounds.reshape(-1, 2).tolist(), strict=True):
        slots = positions[first:last] - shard.first
        if not where:
            slots = _all_but(slots, shard)
        if len(slots):
            whole = len(slots) == shard.count
            parts.append(ShardPart(files.path(shard), shard.count, dimensions, shard.first, None if whole else slots))
    return Selection(read_generation(connection), dimensions, tuple(parts))


def _read_positions(connection: sqlite3.Connection, where: Where) -> Ints:
    """Return the positions of the rows that conditions choose, ascending."""
    end, values = conditions(where)
    # one text instead of a line per row, each of which would become an object
    ((text,),) = connection.execute(f"SELECT group_concat(position) FROM rows{end}", values)
    return np.sort(np.fromstring(text or "", np.int64, sep=","))


def _all_but(holes: Ints, shard: Shard) -> Ints:
    slots = np.arange(shard.count)
    return np.delete(slots, holes) if len(holes) else slots
