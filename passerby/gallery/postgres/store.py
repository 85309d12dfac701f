"""A gallery in a PostgreSQL database: rows as lines of a table, vectors as halfvec of pgvector.

Each call is one transaction. Writers wait for each other on a line of the table of settings, so ids ascend in the order
of the commits; readers wait for nobody.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, cast

import numpy as np

from passerby.distances.units import unit_rows
from passerby.errors import UserError
from passerby.gallery.gallery import AuditLine, GalleryInfo, require_conditions, require_model
from passerby.gallery.postgres.address import Address
from passerby.gallery.postgres.connection import GallerySession
from passerby.gallery.postgres.forgetting import overwrite_log, rewrite_tables
from passerby.gallery.postgres.searching import LEAST_BREADTH, MOST_BREADTH, search_by_index, search_exactly
from passerby.gallery.postgres.stored_rows import (
    copy_rows,
    fetch_rows,
    fetch_thumbnails,
    register_vectors,
    stream_vectors,
)
from passerby.gallery.postgres.tables import Tables, find_vector_types, one_number, sql_conditions
from passerby.gallery.rows import EVERYTHING, GalleryRows, Hits, Where, require_length
from passerby.gallery.stored_rows import checksum
from passerby.types import Floats, Ints, Words

if TYPE_CHECKING:
    from passerby.gallery.postgres.connection import Connection

REWRITTEN_AFTER = 86_400.0
"""Seconds after which an addition writes the tables anew, if rows became too old."""


def _prepare(connection: Connection) -> None:
    find_vector_types(connection)
    register_vectors(connection)


class PostgresGallery:
    """A gallery in a database; made by `open_gallery`.

    An object may be used by several threads, and survives a fork and a restart of the server.

    Attributes:
        place: the address without password.
        remains: a sentence about traces that the last `forget` could not remove, `""` = none.

    """

    def __init__(self, address: Address, *, create: bool) -> None:
        self.place = address.place
        self.remains = ""
        self.tables = Tables(address.name)
        self.session = GallerySession(address, prepare=_prepare)
        with self.session.using() as connection:
            if not self.tables.exist(connection):
                if not create:
                    raise UserError(f"no gallery at {self.place}; `passerby gallery add {self.place} FILE` makes one")
                with self.session.writing():
                    self.tables.make(connection)
                _prepare(connection)
            self.tables.require_format(connection, self.place)

    def close(self) -> None:
        """End the connection; see `Gallery`."""
        self.session.close()

    def require_model(self, stamp: str | None) -> None:
        """Refuse another model than that of the gallery; the first one that is named becomes it.

        Raises:
            UserError: the gallery holds vectors of another model.

        """
        with self.session.using() as connection:
            stored = self.tables.read(connection, "model")
            if not stored and stamp:
                with self.session.writing():
                    self.tables.lock(connection)
                    stored = self.tables.read(connection, "model")
                    if not stored and not self.tables.dimensions(connection):
                        self.tables.write(connection, "model", stamp)
                        stored = stamp
        require_model(self.place, stored, stamp)

    # ---- writing

    def add(self, rows: GalleryRows) -> Ints:
        """Store rows; see `Gallery`."""
        with self.session.writing() as connection:
            self.tables.lock(connection)
            dimensions = self.tables.dimensions(connection)
            require_length(rows.vectors, dimensions)
            if not dimensions:
                self.tables.set_dimensions(connection, rows.vectors.shape[1])
            ids = self.tables.next_id(connection, len(rows)) + np.arange(len(rows))
            copy_rows(connection, self.tables, rows, ids=ids, added=time.time())
        self._forget_old(pause=REWRITTEN_AFTER)
        return ids

    def delete(self, where: Where) -> int:
        """Remove rows, whose places the server reuses later; see `Gallery`."""
        require_conditions(where)
        with self.session.writing() as connection:
            return self._remove(connection, where)

    def forget(self, where: Where) -> int:
        """Remove rows and what the server keeps of them; see `Gallery`. `remains` names what could not be removed."""
        require_conditions(where)
        with self.session.using() as connection:
            with self.session.writing():
                count = self._remove_with_audit(connection, where)
                transaction = one_number(connection, "SELECT pg_current_xact_id()::text::bigint")
            rewrite_tables(connection, self.tables, self.place, transaction=transaction)
            self.remains = overwrite_log(connection)
            self.tables.write(connection, "rewritten", repr(time.time()))
        return count

    def _remove_with_audit(self, connection: Connection, where: Where) -> int:
        count = self._remove(connection, where)
        line = (time.time(), count, ", ".join(where.kinds))
        connection.execute(self.tables.sql("INSERT INTO {0}_audit (time, count, kinds) VALUES (%s, %s, %s)"), line)
        self.tables.write(connection, "removed", repr(line[0]))
        return count

    def _remove(self, connection: Connection, where: Where) -> int:
        self.tables.lock(connection)
        end, values = sql_conditions(where)
        chosen = self.tables.sql(f"WITH gone AS (DELETE FROM {{0}}{end} RETURNING id), ")
        statement = (
            "pictures AS (DELETE FROM {0}_thumbnails WHERE id IN (SELECT id FROM gone)) SELECT count(*) FROM gone"
        )
        return one_number(connection, chosen + self.tables.sql(statement), values)

    def apply_policy(self) -> int:
        """Forget what is too old; see `Gallery`."""
        return self._forget_old(pause=0)

    def _forget_old(self, *, pause: float) -> int:
        """Remove what is too old, and write the tables anew if that was done before so many seconds ago."""
        with self.session.using() as connection:
            after = self.tables.read(connection, "forget_after")
            if not after:
                return 0
            where = Where(before=time.time() - float(after))
            # by the index, whatever the planner supposes: it has no statistics of times
            line = connection.execute(
                self.tables.sql("SELECT min(COALESCE(time, added)) < %s FROM {0}"), [where.before]
            )
            old = line.fetchone() == (True,)
            removed, rewritten = (float(self.tables.read(connection, key) or 0) for key in ("removed", "rewritten"))
            if (old or removed > rewritten) and time.time() - rewritten >= pause:
                return self.forget(where)
            if not old:
                return 0
            with self.session.writing():
                return self._remove_with_audit(connection, where)

    def set_policy(self, forget_after: float | None) -> None:
        """Set the policy; see `Gallery`."""
        with self.session.writing() as connection:
            self.tables.lock(connection)
            self.tables.write(connection, "forget_after", "" if forget_after is None else repr(forget_after))

    def identify(self, camera: Words, tracklet: Words, identity: Words) -> int:
        """Set identities of tracklets; see `Gallery`."""
        statement = """
            UPDATE {0} SET identity = new.identity
            FROM unnest(%s::text[], %s::text[], %s::text[]) AS new (camera, tracklet, identity)
            WHERE {0}.camera = new.camera AND {0}.tracklet = new.tracklet
        """
        with self.session.writing() as connection:
            self.tables.lock(connection)
            lists = (camera.tolist(), tracklet.tolist(), identity.tolist())
            return connection.execute(self.tables.sql(statement), lists).rowcount

    def build_index(self, *, megabytes: int | None = None) -> None:
        """Make the index; see `IndexedGallery`."""
        with self.session.writing() as connection:
            self.tables.lock(connection)
            if not self.tables.dimensions(connection):
                raise UserError(f"{self.place} holds no vector yet; add some before the index is made")
            if megabytes is not None:
                connection.execute("SELECT set_config('maintenance_work_mem', %s, true)", (f"{megabytes}MB",))
            connection.execute(self.tables.sql("DROP INDEX IF EXISTS {0}_hnsw"))
            connection.execute(self.tables.sql("CREATE INDEX {0}_hnsw ON {0} USING hnsw (vector halfvec_ip_ops)"))

    # ---- reading

    def search(self, vectors: Floats, *, top: int, where: Where = EVERYTHING) -> Hits:
        """Find the most similar rows, exactly; see `Gallery`."""
        vectors = unit_rows(np.asarray(vectors, np.float32))
        with self.session.reading() as connection:
            require_length(vectors, self.tables.dimensions(connection))
            return search_exactly(connection, self.tables, vectors, top=top, where=where)

    def search_approximately(
        self, vectors: Floats, *, top: int, where: Where = EVERYTHING, breadth: int | None = None
    ) -> Hits:
        """Find nearly all of the most similar rows by the index; see `IndexedGallery`."""
        vectors = unit_rows(np.asarray(vectors, np.float32))
        breadth = min(max(2 * top, LEAST_BREADTH), MOST_BREADTH) if breadth is None else breadth
        with self.session.reading() as connection:
            if not self.tables.has_index(connection):
                raise UserError(f"{self.place} has no index for approximate search; `passerby gallery index` makes it")
            require_length(vectors, self.tables.dimensions(connection))
            return search_by_index(connection, self.tables, vectors, top=top, where=where, breadth=breadth)

    def list(self, where: Where = EVERYTHING, *, limit: int | None = None, after: int = -1) -> GalleryRows:
        """Return rows; see `Gallery`."""
        end, values = sql_conditions(where)
        end += f"{' AND' if end else ' WHERE'} id > %s ORDER BY id LIMIT %s"
        with self.session.reading() as connection:
            rows = fetch_rows(connection, self.tables, end, [*values, after, limit])
            return fetch_thumbnails(connection, self.tables, rows)

    def info(self) -> GalleryInfo:
        """Return a description; see `Gallery`."""
        with self.session.reading() as connection:
            return self._describe(connection)

    def _describe(self, connection: Connection) -> GalleryInfo:
        def lines(statement: str) -> list[tuple[object, ...]]:
            return connection.execute(self.tables.sql(statement)).fetchall()

        cameras = dict(cast("list[tuple[str, int]]", lines("SELECT camera, count(*) FROM {0} GROUP BY 1 ORDER BY 1")))
        ((identities, first, last),) = lines(
            "SELECT count(DISTINCT identity) FILTER (WHERE identity <> ''), min(time), max(time) FROM {0}"
        )
        names = ("{0}", "{0}_thumbnails", "{0}_audit", "{0}_meta")
        sizes = [one_number(connection, self.tables.sql(f"SELECT pg_total_relation_size('{name}')")) for name in names]
        after = self.tables.read(connection, "forget_after")
        audit = cast("list[tuple[float, int, str]]", lines("SELECT time, count, kinds FROM {0}_audit ORDER BY number"))
        return GalleryInfo(
            place=self.place,
            store="PostgreSQL, with an index" if self.tables.has_index(connection) else "PostgreSQL",
            model=self.tables.read(connection, "model"),
            dimensions=self.tables.dimensions(connection),
            count=sum(cameras.values()),
            cameras=cameras,
            identities=cast("int", identities),
            first=cast("float | None", first),
            last=cast("float | None", last),
            bytes=sum(sizes),
            files=0,
            forget_after=float(after) if after else None,
            audit=tuple(AuditLine(*line) for line in audit),
        )

    def check(self) -> tuple[str, ...]:
        """Read everything and return a sentence on each fault; see `Gallery`."""
        wrong: list[int] = []
        with self.session.reading() as connection:
            for ids, sums, halves in stream_vectors(connection, self.tables, "", []):
                found = np.fromiter(map(checksum, halves), np.int64, len(halves))
                wrong += ids[found != sums].tolist()
        if not wrong:
            return ()
        return (f"the vectors of {len(wrong):,} rows have changed, the first that of row {min(wrong)}",)
