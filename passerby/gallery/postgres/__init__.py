"""A gallery in a PostgreSQL database with the extension pgvector; `psycopg`, of the extra `postgres`, talks to it."""

from __future__ import annotations

from passerby.errors import UserError, first_line
from passerby.gallery.gallery import Gallery
from passerby.gallery.postgres.address import read_address
from passerby.gallery.postgres.store import PostgresGallery


def open_postgres(place: str, *, model_stamp: str | None = None, create: bool = False) -> Gallery:
    """Open the gallery in a database; see `passerby.gallery.open_gallery`.

    Raises:
        UserError: no psycopg, an address that cannot be read, a server that cannot be reached, no gallery there, or
            one of a newer format or of another model.

    """
    address = read_address(place)
    try:
        import psycopg  # noqa: F401
    except ImportError as error:  # psycopg without a library that it can load is one too
        raise UserError(
            f"a gallery in PostgreSQL needs psycopg ({first_line(error)}): pip install 'passerby[postgres]'"
        ) from error
    gallery = PostgresGallery(address, create=create)
    try:
        gallery.require_model(model_stamp)
    except BaseException:
        gallery.close()
        raise
    return gallery
