"""Rows that are to leave no trace: what a database keeps of a deleted row, and how it is overwritten.

DELETE marks a row, VACUUM frees its place without overwriting it, and only VACUUM FULL writes the table and its indexes
anew. It copies rows that a transaction elsewhere may still see, so such transactions must end first. The write-ahead
log holds every row as it was added; a server reuses its files, so they are filled once with nothing, where the user of
the database may do that.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from passerby.errors import UserError
from passerby.gallery.postgres.connection import WAIT
from passerby.gallery.postgres.tables import Tables, one_number

if TYPE_CHECKING:
    from passerby.gallery.postgres.connection import Connection

LOG_REMAINS = (
    "the server's write-ahead log holds forgotten rows until the server reuses its files; only a superuser of the "
    "database can have them overwritten at once"
)
COPIES_REMAIN = "the server archives or replicates its write-ahead log, and forgotten rows stay in those copies"

_OLDER = """
    SELECT count(*) FROM (
        SELECT backend_xmin AS seen FROM pg_stat_activity
        WHERE pid <> pg_backend_pid() AND (datname = current_database() OR datname IS NULL)
        UNION ALL SELECT backend_xid FROM pg_stat_activity
        WHERE pid <> pg_backend_pid() AND datname = current_database()
        UNION ALL SELECT xmin FROM pg_replication_slots
        UNION ALL SELECT transaction FROM pg_prepared_xacts
    ) AS others WHERE seen IS NOT NULL AND age(seen) >= age((%s::text)::xid)
"""
_FILE = "SELECT pg_relation_filenode(%s::regclass)::bigint"


def rewrite_tables(connection: Connection, tables: Tables, place: str, *, transaction: int) -> None:
    """Write the tables anew without the rows that a transaction deleted.

    Args:
        connection: of the gallery, outside of a transaction.
        tables: of the gallery.
        place: for messages.
        transaction: number of the one that deleted rows, which has ended.

    Raises:
        UserError: another session still reads the state before it, after a minute, or the user may not.

    """
    deadline = time.monotonic() + WAIT
    while one_number(connection, _OLDER, (transaction % 2**32,)):
        if time.monotonic() > deadline:
            raise UserError(
                f"the rows are gone, but another session has been reading {place} for {WAIT} seconds, so traces of "
                "them are in the files of the table; call `passerby gallery forget` again"
            )
        time.sleep(0.05)
    for name in (tables.name, f"{tables.name}_thumbnails"):
        before = one_number(connection, _FILE, (name,))
        connection.execute(f"VACUUM (FULL, ANALYZE) {name}")
        if one_number(connection, _FILE, (name,)) == before:  # VACUUM passes over what it may not write
            raise UserError(
                f"the rows are gone, but only the owner of the table {name} may write it anew without traces of them; "
                f"call `passerby gallery forget` on {place} as that user"
            )


def overwrite_log(connection: Connection) -> str:
    """Fill the files of the write-ahead log once with nothing; return a sentence about what remains, `""` = nothing.

    A checkpoint releases the files, and each switch to the next one fills the rest of a file with zeros.
    """
    from psycopg.errors import InsufficientPrivilege

    try:
        connection.execute("SELECT pg_switch_wal()")
        connection.execute("CHECKPOINT")
        for _ in range(one_number(connection, "SELECT count(*) FROM pg_ls_waldir()") + 1):
            connection.execute("SELECT pg_logical_emit_message(false, 'passerby', '', true)")
            connection.execute("SELECT pg_switch_wal()")
        connection.execute("CHECKPOINT")
    except InsufficientPrivilege:
        return LOG_REMAINS
    copied = "SELECT count(*) FROM pg_stat_replication"
    archived = connection.execute("SHOW archive_mode").fetchone() != ("off",)
    return COPIES_REMAIN if archived or one_number(connection, copied) else ""
