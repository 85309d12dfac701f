"""The SQLite file of a gallery in a folder: its tables, how it is opened, and conditions as SQL."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path

from passerby.errors import UserError
from passerby.gallery.gallery import FORMAT
from passerby.gallery.rows import Where

FILE = "gallery.sqlite"
APPLICATION = 0x70617373
"""The bytes `pass`, by which the file is known."""
WAIT = 60.0
"""Seconds that a writer waits for another one."""
MOST_NAMES = 500
"""Names in one statement."""

SCHEMA = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE shards (number INTEGER PRIMARY KEY, file TEXT NOT NULL UNIQUE, count INTEGER NOT NULL);
CREATE TABLE rows (
    id INTEGER PRIMARY KEY, position INTEGER NOT NULL UNIQUE, crc INTEGER NOT NULL, path TEXT NOT NULL,
    camera TEXT NOT NULL, time REAL, x1 REAL, y1 REAL, x2 REAL, y2 REAL, tracklet TEXT NOT NULL,
    identity TEXT NOT NULL, attributes TEXT NOT NULL, added REAL NOT NULL
);
CREATE INDEX rows_camera ON rows (camera, tracklet, position);
CREATE INDEX rows_time ON rows (time, position);
CREATE INDEX rows_age ON rows (COALESCE(time, added));
CREATE INDEX rows_identity ON rows (identity, position) WHERE identity != '';
CREATE TABLE thumbnails (id INTEGER PRIMARY KEY, jpeg BLOB NOT NULL);
CREATE TABLE holes (position INTEGER PRIMARY KEY, erased INTEGER NOT NULL);
CREATE INDEX holes_pending ON holes (position) WHERE erased = 0;
CREATE TABLE audit (time REAL NOT NULL, count INTEGER NOT NULL, kinds TEXT NOT NULL);
"""
"""Indexes end in the position, so that the rows of a search are chosen without reading the table.
`holes`: positions without a row, until a compaction; `erased`: whether their vector is overwritten yet."""

_ATTRIBUTE = (
    "CASE json_type(attributes, ?) WHEN 'true' THEN 'true' WHEN 'false' THEN 'false' "
    "ELSE CAST(json_extract(attributes, ?) AS TEXT) END = ?"
)


def connect(folder: Path, *, create: bool) -> tuple[sqlite3.Connection, bool]:
    """Open the file of a gallery, and return the connection and whether it may be written.

    Raises:
        UserError: no gallery there, another file, a newer format, or no right to read.

    """
    path = folder / FILE
    if not path.is_file() and not create:
        raise UserError(f"no gallery in {folder}; `passerby gallery add {folder} FILE` makes one")
    writable = not path.is_file() or (os.access(path, os.W_OK) and os.access(folder, os.W_OK))
    with speaking(folder):
        connection = _open(path, writable=writable)
        try:
            _prepare(connection, path, writable=writable)
        except BaseException:
            connection.close()
            raise
    return connection, writable


def _open(path: Path, *, writable: bool) -> sqlite3.Connection:
    address = path.absolute().as_uri()
    if not writable:
        journal = path.with_name(f"{FILE}-wal")
        if journal.exists() and journal.stat().st_size and not path.with_name(f"{FILE}-shm").exists():
            raise UserError(
                f"{path.parent} is read-only and its journal has not been written into {FILE}, as its last writer was "
                "killed; open it once with the right to write: passerby gallery check"
            )
        address += "?mode=ro" if journal.exists() else "?mode=ro&immutable=1"
    return sqlite3.connect(address, uri=True, timeout=WAIT, isolation_level=None, check_same_thread=False)


def _prepare(connection: sqlite3.Connection, path: Path, *, writable: bool) -> None:
    """Read or make the tables; the settings make each commit durable and overwrite what is deleted."""
    for setting in ("synchronous = FULL", "secure_delete = ON", "temp_store = MEMORY", "cache_size = -65536"):
        connection.execute(f"PRAGMA {setting}")
    if _value(connection, "application_id") == 0 and writable and not _value(connection, "schema_version"):
        connection.execute("PRAGMA journal_mode = WAL")
        with transaction(connection):
            if not _value(connection, "schema_version"):  # no other process was quicker
                for statement in SCHEMA.split(";"):
                    connection.execute(statement)
                connection.execute(f"PRAGMA application_id = {APPLICATION}")
                connection.execute(f"PRAGMA user_version = {FORMAT}")
    if _value(connection, "application_id") != APPLICATION:
        raise UserError(f"{path} is not the file of a gallery")
    if (version := _value(connection, "user_version")) > FORMAT:
        raise UserError(
            f"{path.parent} is a gallery of format {version}, and this version of passerby reads formats up to "
            f"{FORMAT}; update passerby: pip install -U passerby"
        )


def _value(connection: sqlite3.Connection, name: str) -> int:
    (value,) = connection.execute(f"PRAGMA {name}").fetchone()
    return int(value)


@contextlib.contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """Hold the one lock of writers, over all processes, and commit at the end, or roll back."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


@contextlib.contextmanager
def snapshot(connection: sqlite3.Connection) -> Iterator[None]:
    """Read one state in the block, whatever writers do."""
    connection.execute("BEGIN")
    try:
        yield
    finally:
        connection.execute("COMMIT")


@contextlib.contextmanager
def speaking(folder: Path) -> Iterator[None]:
    """Turn errors of SQLite into `UserError` with the name of the gallery."""
    try:
        yield
    except sqlite3.Error as error:
        raise UserError(_sentence(folder, error)) from error


def _sentence(folder: Path, error: sqlite3.Error) -> str:
    kinds = {
        "SQLITE_FULL": f"cannot write {folder}: the disk is full; the gallery is as it was before",
        "SQLITE_BUSY": f"another process has been writing {folder} for {WAIT:.0f} seconds; try again when it has ended",
        "SQLITE_READONLY": f"{folder} is read-only, so nothing can be added to or removed from this gallery",
        "SQLITE_CANTOPEN": f"cannot open {folder / FILE}; see the rights of the folder",
        "SQLITE_NOTADB": f"{folder / FILE} is not the file of a gallery",
        "SQLITE_CORRUPT": f"{folder / FILE} is damaged ({error}); restore it from a copy",
        "SQLITE_IOERR": f"cannot read or write {folder} ({error}); see whether the disk is full",
    }
    name = "_".join(str(getattr(error, "sqlite_errorname", "")).split("_")[:2])
    return kinds.get(name, f"the gallery in {folder} cannot be used ({error})")


def conditions(where: Where) -> tuple[str, list[object]]:
    """Return conditions as the end of a statement, `WHERE ...` or nothing, and its values.

    Raises:
        UserError: the name of an attribute that SQLite cannot look up.

    """
    clauses: list[str] = []
    values: list[object] = []
    for name, chosen in (("camera", where.cameras), ("identity", where.identities), ("id", where.ids)):
        if chosen:
            clauses.append(f"{name} IN ({', '.join('?' * len(chosen))})")
            values += chosen
    if "" not in where.identities and where.identities:
        clauses.append("identity != ''")  # lets the index of known identities serve
    for clause, limit in (
        ("time >= ?", where.since),
        ("time < ?", where.until),
        ("COALESCE(time, added) < ?", where.before),
    ):
        if limit is not None:
            clauses.append(clause)
            values.append(limit)
    for key, value in where.attributes:
        if '"' in key:
            raise UserError(f"the attribute {key!r} cannot be searched for: its name holds a quotation mark")
        place = f'$."{key}"'
        clauses.append(_ATTRIBUTE)
        values += [place, place, value]
    return (f" WHERE {' AND '.join(clauses)}" if clauses else ""), values


def in_pieces(values: Sequence[int]) -> Iterator[tuple[str, Sequence[int]]]:
    """Yield `?, ?, ...` and values, few enough for one statement."""
    for start in range(0, len(values), MOST_NAMES):
        piece = values[start : start + MOST_NAMES]
        yield ", ".join("?" * len(piece)), piece


def read_meta(connection: sqlite3.Connection, key: str) -> str:
    """Return a text about the gallery as a whole, `""` where there is none."""
    line = connection.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
    return "" if line is None else str(line[0])


def write_meta(connection: sqlite3.Connection, key: str, value: str) -> None:
    """Set a text about the gallery as a whole; inside of a transaction."""
    connection.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, value))


def dimensions_of(connection: sqlite3.Connection) -> int:
    """Return the length of the vectors, 0 = none stored yet."""
    return int(read_meta(connection, "dimensions") or 0)


def read_generation(connection: sqlite3.Connection) -> int:
    """Return the number of removals and compactions so far."""
    return int(read_meta(connection, "generation") or 0)


def next_number(connection: sqlite3.Connection, key: str, count: int) -> int:
    """Return the first of so many numbers that are given out once; inside of a transaction."""
    first = int(read_meta(connection, key) or 0)
    write_meta(connection, key, str(first + count))
    return first
