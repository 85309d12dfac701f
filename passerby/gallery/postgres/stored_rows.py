"""Rows of a gallery in and out of its table, in the binary format of the protocol.

A halfvec is its length, two bytes that are reserved, and its float16 values, all with the highest byte first.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, cast

import numpy as np

from passerby.gallery.mapping import Halves
from passerby.gallery.postgres.tables import Tables
from passerby.gallery.rows import GalleryRows
from passerby.gallery.stored_rows import checksum, to_halves
from passerby.types import Doubles, Floats, Ints

if TYPE_CHECKING:
    from passerby.gallery.postgres.connection import Connection

COLUMNS = "id, path, camera, time, x1, y1, x2, y2, tracklet, identity, attributes::text, vector"
_TYPES = (
    "int8", "float8", "float8", "int8", *["float4"] * 4, "text", "text", "text", "text", "jsonb", "halfvec",
)  # fmt: skip
BLOCK_ROWS = 4096
"""Vectors that are converted to float32 at a time: 8 MiB of 512 dimensions."""


class HalfVector(bytes):
    """A halfvec as the protocol has it."""


def register_vectors(connection: Connection) -> None:
    """Make a connection send `HalfVector` and return it for columns of halfvec."""
    from psycopg.adapt import Buffer, Dumper, Loader
    from psycopg.pq import Format
    from psycopg.types import TypeInfo

    info = TypeInfo.fetch(connection, "halfvec")
    if info is None:  # before the extension is made
        return
    number = info.oid

    class HalfVectorDumper(Dumper):
        oid = number
        format = Format.BINARY

        def dump(self, obj: HalfVector) -> Buffer:
            return obj

    class HalfVectorLoader(Loader):
        format = Format.BINARY

        def load(self, data: Buffer) -> HalfVector:
            return HalfVector(data)

    info.register(connection)
    connection.adapters.register_dumper(HalfVector, HalfVectorDumper)
    connection.adapters.register_loader(number, HalfVectorLoader)


def _vector_type(dimensions: int) -> np.dtype[np.void]:
    return np.dtype([("count", ">i2"), ("reserved", ">i2"), ("values", ">f2", (dimensions,))])


def to_binary(vectors: Floats) -> list[HalfVector]:
    """Return vectors (N, D), rounded to float16, as they are sent."""
    encoded = np.zeros(len(vectors), _vector_type(vectors.shape[1]))
    encoded["count"], encoded["values"] = vectors.shape[1], vectors
    return [HalfVector(line.tobytes()) for line in encoded]


def from_binary(vectors: Sequence[HalfVector], dimensions: int) -> Floats:
    """Return vectors (N, D) as float32."""
    return np.frombuffer(b"".join(vectors), _vector_type(dimensions))["values"].astype(np.float32)


def copy_rows(connection: Connection, tables: Tables, rows: GalleryRows, *, ids: Ints, added: float) -> None:
    """Write rows, inside of a transaction.

    Args:
        connection: of the gallery.
        tables: of the gallery.
        rows: N of them.
        ids: (N,) their numbers.
        added: POSIX seconds of now.

    """
    from psycopg.types.json import Jsonb

    halves = to_halves(rows.vectors)
    columns = zip(
        ids.tolist(),
        _with_nulls(rows.time),
        [added] * len(ids),
        map(checksum, halves),
        *map(_with_nulls, rows.box.T),
        *(getattr(rows, name).tolist() for name in ("camera", "path", "tracklet", "identity")),
        [Jsonb(text, dumps=str) for text in rows.attributes.tolist()],
        to_binary(rows.vectors),
        strict=True,
    )
    with connection.cursor().copy(tables.sql("COPY {0} FROM STDIN (FORMAT BINARY)")) as copy:
        copy.set_types(_TYPES)
        for line in columns:
            copy.write_row(line)
    pairs = [(number, jpeg) for number, jpeg in zip(ids.tolist(), rows.thumbnails or (), strict=False) if jpeg]
    if pairs:
        with connection.cursor().copy(tables.sql("COPY {0}_thumbnails FROM STDIN (FORMAT BINARY)")) as copy:
            copy.set_types(("int8", "bytea"))
            for pair in pairs:
                copy.write_row(pair)


def _with_nulls(values: Doubles | Floats) -> list[float | None]:
    return [None if math.isnan(value) else value for value in values.tolist()]


def fetch_rows(connection: Connection, tables: Tables, end: str, values: Sequence[object]) -> GalleryRows:
    """Return the rows that the end of a SELECT chooses, without thumbnails."""
    cursor = connection.cursor(binary=True)
    lines = cursor.execute(tables.sql(f"SELECT {COLUMNS} FROM {{0}}{end}"), values).fetchall()
    columns = list(zip(*lines, strict=True)) or [()] * 12
    box = np.array(columns[4:8], np.float32).T  # None becomes NaN
    return GalleryRows(
        vectors=from_binary(cast("Sequence[HalfVector]", columns[11]), max(tables.dimensions(connection), 1)),
        time=np.array(columns[3], np.float64),
        box=box.reshape(-1, 4),
        id=np.array(columns[0], np.int64),
        path=np.array(columns[1], np.str_),
        camera=np.array(columns[2], np.str_),
        tracklet=np.array(columns[8], np.str_),
        identity=np.array(columns[9], np.str_),
        attributes=np.array(columns[10], np.str_),
    )


def fetch_thumbnails(connection: Connection, tables: Tables, rows: GalleryRows) -> GalleryRows:
    """Return rows with their thumbnails, where any has one."""
    statement = tables.sql("SELECT id, jpeg FROM {0}_thumbnails WHERE id = ANY(%s)")
    lines = connection.cursor(binary=True).execute(statement, (rows.id.tolist(),)).fetchall()
    if not lines:
        return rows
    jpegs = dict(cast("list[tuple[int, bytes]]", lines))
    return replace(rows, thumbnails=tuple(jpegs.get(number, b"") for number in rows.id.tolist()))


def stream_vectors(
    connection: Connection, tables: Tables, end: str, values: Sequence[object]
) -> Iterator[tuple[Ints, Ints, Halves]]:
    """Yield blocks of ids (B,), ascending, checksums (B,) and stored vectors (B, D) of the rows that a WHERE chooses.

    The blocks follow each other as the rows lie in the table.
    """
    size = max(tables.dimensions(connection), 1)
    lengths = [(f"length{place}", ">i4") for place in range(3)]
    fields = [("fields", ">i2"), lengths[0], ("id", ">i8"), lengths[1], ("crc", ">i8"), lengths[2]]
    line = np.dtype([*fields, ("vector", _vector_type(size))])
    statement = tables.sql(f"COPY (SELECT id, crc, vector FROM {{0}}{end}) TO STDOUT (FORMAT BINARY)")
    with connection.cursor().copy(statement, values) as copy:
        for content in _pieces(copy, line.itemsize):
            block = np.frombuffer(content, line)
            block = block[np.argsort(block["id"])]
            yield (
                block["id"].astype(np.int64),
                block["crc"].astype(np.int64),
                block["vector"]["values"].astype(np.float16),
            )


def _pieces(messages: Iterable[bytes | bytearray | memoryview], size: int) -> Iterator[bytes]:
    """Yield the lines of binary COPY, each of so many bytes, up to `BLOCK_ROWS` at a time.

    A message is one line. A header of 19 bytes stands before the first, and two bytes follow the last.
    """
    lines = (bytes(message)[-size:] for message in messages if len(message) >= size)
    while block := list(itertools.islice(lines, BLOCK_ROWS)):
        yield b"".join(block)
