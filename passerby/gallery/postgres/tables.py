"""The tables of a gallery in a database: how they are made and checked, and conditions as SQL.

A gallery `plaza` is the tables `plaza` (one line per row), `plaza_thumbnails`, `plaza_audit` and `plaza_meta` (format,
model, dimensions, policy, next id). The server collects no statistics but those of cameras: they hold single values,
such as times, in a table of the system, where they outlive the rows and only a superuser could overwrite them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from passerby.errors import UserError
from passerby.gallery.gallery import FORMAT
from passerby.gallery.rows import Where

if TYPE_CHECKING:
    from passerby.gallery.postgres.connection import Connection

CREATION = 0x70617373
"""Number of the lock under which tables are made: the bytes `pass`."""
OLDEST_VECTOR = (0, 8)
"""The version of pgvector that has both halfvec and iterative scans."""
LARGEST_INLINE = 3500
"""Numbers of a vector that fit into a page of the table beside the rest of the row; longer ones lie in a side table."""

SCHEMA = """
CREATE TABLE {0}_meta (key text PRIMARY KEY, value text NOT NULL);
CREATE TABLE {0} (
    id bigint PRIMARY KEY, time double precision, added double precision NOT NULL, crc bigint NOT NULL,
    x1 real, y1 real, x2 real, y2 real, camera text NOT NULL, path text NOT NULL, tracklet text NOT NULL,
    identity text NOT NULL, attributes jsonb NOT NULL, vector halfvec NOT NULL
);
ALTER TABLE {0}
    ALTER id SET STATISTICS 0, ALTER time SET STATISTICS 0, ALTER added SET STATISTICS 0, ALTER crc SET STATISTICS 0,
    ALTER x1 SET STATISTICS 0, ALTER y1 SET STATISTICS 0, ALTER x2 SET STATISTICS 0, ALTER y2 SET STATISTICS 0,
    ALTER path SET STATISTICS 0, ALTER tracklet SET STATISTICS 0, ALTER identity SET STATISTICS 0,
    ALTER attributes SET STATISTICS 0, ALTER vector SET STATISTICS 0;
CREATE INDEX {0}_camera ON {0} (camera, tracklet);
CREATE INDEX {0}_time ON {0} (time);
CREATE INDEX {0}_age ON {0} (COALESCE(time, added));
ALTER INDEX {0}_age ALTER COLUMN 1 SET STATISTICS 0;
CREATE INDEX {0}_identity ON {0} (identity) WHERE identity <> '';
CREATE TABLE {0}_thumbnails (id bigint PRIMARY KEY, jpeg bytea NOT NULL);
ALTER TABLE {0}_thumbnails
    ALTER jpeg SET STORAGE EXTERNAL, ALTER jpeg SET STATISTICS 0, ALTER id SET STATISTICS 0;
CREATE TABLE {0}_audit (
    number bigint GENERATED ALWAYS AS IDENTITY, time double precision NOT NULL, count bigint NOT NULL,
    kinds text NOT NULL
);
"""


@dataclass(frozen=True)
class Tables:
    """Names of the tables of one gallery, which are safe in SQL, and the statements on the gallery as a whole."""

    name: str

    def sql(self, statement: str) -> str:
        """Return a statement with the name of the gallery in place of `{0}`."""
        return statement.replace("{0}", self.name)

    def exist(self, connection: Connection) -> bool:
        """Whether there is a gallery of this name."""
        return connection.execute("SELECT to_regclass(%s)", (f"{self.name}_meta",)).fetchone() != (None,)

    def make(self, connection: Connection) -> None:
        """Make the tables, inside of a transaction, unless another session was quicker."""
        connection.execute("SELECT pg_advisory_xact_lock(%s)", (CREATION,))
        if self.exist(connection):
            return
        if _vector_version(connection) is None:
            _create_extension(connection)
        _require_version(connection)
        connection.execute(self.sql(SCHEMA))
        self.write(connection, "format", str(FORMAT))

    def require_format(self, connection: Connection, place: str) -> None:
        """Refuse a gallery of a newer format, or tables that are none.

        Raises:
            UserError: the version is not one that this code reads.

        """
        text = self.read(connection, "format")
        if not text.isdigit():
            raise UserError(f"the tables {self.name} of {place} are not those of a gallery")
        if int(text) > FORMAT:
            raise UserError(
                f"{place} is a gallery of format {text}, and this version of passerby reads formats up to {FORMAT}; "
                "update passerby: pip install -U passerby"
            )

    def read(self, connection: Connection, key: str, *, lock: bool = False) -> str:
        """Return a text about the gallery as a whole, `""` where there is none; `lock`: hold it until the commit."""
        statement = f"SELECT value FROM {{0}}_meta WHERE key = %s{' FOR UPDATE' if lock else ''}"
        line = connection.execute(self.sql(statement), (key,)).fetchone()
        return "" if line is None else str(line[0])

    def write(self, connection: Connection, key: str, value: str) -> None:
        """Set a text about the gallery as a whole."""
        statement = "INSERT INTO {0}_meta VALUES (%s, %s) ON CONFLICT (key) DO UPDATE SET value = excluded.value"
        connection.execute(self.sql(statement), (key, value))

    def lock(self, connection: Connection) -> None:
        """Wait for the other writers of this gallery, and keep them out until the commit."""
        self.read(connection, "format", lock=True)

    def dimensions(self, connection: Connection) -> int:
        """Return the length of the vectors, 0 = none stored yet."""
        return int(self.read(connection, "dimensions") or 0)

    def set_dimensions(self, connection: Connection, dimensions: int) -> None:
        """Fix the length of the vectors, before the first one."""
        storage = "PLAIN" if dimensions <= LARGEST_INLINE else "EXTERNAL"
        statement = f"ALTER TABLE {{0}} ALTER vector TYPE halfvec({dimensions}), ALTER vector SET STORAGE {storage}"
        connection.execute(self.sql(statement))
        self.write(connection, "dimensions", str(dimensions))

    def next_id(self, connection: Connection, count: int) -> int:
        """Return the first of so many numbers that are given out once; while the lock is held."""
        first = int(self.read(connection, "next_id") or 0)
        self.write(connection, "next_id", str(first + count))
        return first

    def has_index(self, connection: Connection) -> bool:
        """Whether there is an index for approximate search that is complete."""
        statement = "SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass(%s)"
        return connection.execute(statement, (f"{self.name}_hnsw",)).fetchone() == (True,)


def find_vector_types(connection: Connection) -> None:
    """Let statements of this connection find the types of pgvector, in whichever schema an administrator put them."""
    statement = """
        SELECT set_config('search_path', current_setting('search_path') || ', ' || quote_ident(nspname), false)
        FROM pg_extension JOIN pg_namespace ON pg_namespace.oid = extnamespace WHERE extname = 'vector'
    """
    connection.execute(statement)


def _create_extension(connection: Connection) -> None:
    from psycopg.errors import FeatureNotSupported, InsufficientPrivilege, UndefinedFile

    try:
        connection.execute("CREATE EXTENSION vector")
    except (FeatureNotSupported, UndefinedFile) as error:
        raise UserError(
            "the database server has no pgvector, which a gallery needs; an administrator installs it, on Debian and "
            "Ubuntu as the package postgresql-VERSION-pgvector"
        ) from error
    except InsufficientPrivilege as error:
        raise UserError(
            "the database lacks the extension of pgvector, which its user may not add; an administrator does it in "
            "this database: CREATE EXTENSION vector"
        ) from error


def _vector_version(connection: Connection) -> str | None:
    line = connection.execute("SELECT extversion FROM pg_extension WHERE extname = 'vector'").fetchone()
    return None if line is None else str(line[0])


def _require_version(connection: Connection) -> None:
    version = _vector_version(connection) or "0"
    if tuple(int(number) for number in re.findall(r"\d+", version)[:2]) < OLDEST_VECTOR:
        raise UserError(
            f"the database has pgvector {version}, and a gallery needs {'.'.join(map(str, OLDEST_VECTOR))} or later; "
            "an administrator updates it: ALTER EXTENSION vector UPDATE"
        )


def sql_conditions(where: Where) -> tuple[str, list[object]]:
    """Return conditions as the middle of a statement, `WHERE ...` or nothing, and its values."""
    clauses: list[str] = []
    values: list[object] = []
    for clause, names in (("camera = ANY(%s)", where.cameras), ("identity = ANY(%s)", where.identities)):
        if names:
            clauses.append(clause)
            values.append(list(names))
    if where.identities and "" not in where.identities:
        clauses.append("identity <> ''")  # lets the index of known identities serve
    if where.ids:
        clauses.append("id = ANY(%s::bigint[])")
        values.append(list(where.ids))
    for clause, limit in (
        ("time >= %s", where.since),
        ("time < %s", where.until),
        ("COALESCE(time, added) < %s", where.before),
    ):
        if limit is not None:
            clauses.append(clause)
            values.append(float(limit))
    for key, value in where.attributes:
        clauses.append("attributes ->> %s = %s")
        values += [key, value]
    return (f" WHERE {' AND '.join(clauses)}" if clauses else ""), values


def one_number(connection: Connection, statement: str, values: Sequence[object] = ()) -> int:
    """Return the only value of a statement, a whole number."""
    line = connection.execute(statement, values).fetchone()
    assert line is not None
    return int(cast("int", line[0]))
