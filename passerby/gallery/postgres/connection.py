"""The connection to the database: opened again where it was lost, and its errors as sentences."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from passerby.errors import UserError, first_line
from passerby.gallery.postgres.address import Address

if TYPE_CHECKING:
    import psycopg

    Connection = psycopg.Connection[tuple[object, ...]]

WAIT = 60
"""Seconds that a statement waits for another session."""

DEFAULTS = {
    "application_name": "passerby",
    "connect_timeout": "10",
    "client_encoding": "utf8",
    "keepalives_idle": "30",
    "keepalives_interval": "10",
    "keepalives_count": "3",
}


class GallerySession:
    """One connection, used by one thread at a time; after a loss or a fork the next use opens another.

    Attributes:
        address: where.
        prepare: what is done with a new connection.

    """

    def __init__(self, address: Address, *, prepare: Callable[[Connection], None]) -> None:
        self.address = address
        self.prepare = prepare
        self._lock = threading.RLock()
        self._connection: Connection | None = None
        self._process = os.getpid()

    @contextmanager
    def using(self) -> Iterator[Connection]:
        """Yield the connection, on which each statement is a transaction, and turn errors into `UserError`."""
        with self._lock, with_sentences(self.address):
            if self._connection is None or self._connection.closed or self._process != os.getpid():
                self._connection, self._process = self._connect(), os.getpid()
            yield self._connection

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """Hold a transaction whose end is on the server's disk before the block is left."""
        with self.using() as connection, connection.transaction():
            connection.execute("SET LOCAL synchronous_commit = on")
            yield connection

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """Read one state in the block, whatever writers do."""
        with self.using() as connection, connection.transaction():
            connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
            yield connection

    def _connect(self) -> Connection:
        import psycopg

        options = DEFAULTS | self.address.options
        try:
            connection = psycopg.connect(**options, autocommit=True)  # type: ignore[arg-type]
        except psycopg.Error as error:
            raise UserError(_about_connecting(self.address, error)) from error
        weakref.finalize(self, _close, connection, os.getpid())
        connection.execute(f"SET lock_timeout = '{WAIT}s'")
        self.prepare(connection)
        return connection

    def close(self) -> None:
        """End the connection."""
        with self._lock:
            if self._connection is not None:
                _close(self._connection, self._process)
            self._connection = None


def _close(connection: Connection, process: int) -> None:
    """End a connection in the process that opened it; in another one, after a fork, this would end it for both."""
    if process == os.getpid():
        connection.close()


@contextmanager
def with_sentences(address: Address) -> Iterator[None]:
    """Turn errors of psycopg into `UserError` with the place of the gallery and without its password."""
    import psycopg

    try:
        yield
    except psycopg.Error as error:
        raise UserError(_sentence(address, error)) from error


def _about_connecting(address: Address, error: psycopg.Error) -> str:
    reason = address.without_password(first_line(error)).removeprefix("connection failed: ")
    hint = "; see the user and the password of the address, PGPASSWORD or ~/.pgpass" if "password" in reason else ""
    return f"cannot connect to {address.place} ({reason}){hint}"


def _sentence(address: Address, error: psycopg.Error) -> str:
    import psycopg

    place, reason = address.place, address.without_password(first_line(error))
    sentences = {
        "55P03": f"another session has been using {place} for {WAIT} seconds; try again when it has ended",
        "53100": f"the disk of the server of {place} is full ({reason}); the gallery is as it was before",
        "25006": f"{place} is read-only, so nothing can be added to or removed from this gallery",
        "42501": f"the user of {place} lacks a right ({reason})",
        "42P01": f"the tables of {place} are no longer there ({reason})",
        "54000": f"{place} cannot hold that: {reason}",
    }
    if error.sqlstate in sentences:
        return sentences[error.sqlstate]
    if isinstance(error, psycopg.DataError):
        return f"{place} cannot store a text, a number or a vector: {reason}"
    lost = isinstance(error, psycopg.OperationalError | psycopg.InterfaceError)
    if lost and (error.sqlstate is None or error.sqlstate[:2] in ("08", "57")):
        return (
            f"the connection to {place} was lost ({reason}); what was acknowledged is stored, and whether the rows of "
            "this call are is shown by `passerby gallery info`"
        )
    return f"{place} cannot be used: {reason}"
