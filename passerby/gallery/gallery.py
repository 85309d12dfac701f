"""A gallery: rows with vectors that last, and the table of stores that can hold one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import import_module
from typing import Protocol, runtime_checkable

from passerby.errors import UserError
from passerby.gallery.rows import EVERYTHING, GalleryRows, Hits, Where
from passerby.types import Floats, Ints, Words

FORMAT = 1
"""Version of what a store writes; newer ones are refused."""


@dataclass(frozen=True)
class AuditLine:
    """One call of `forget`: POSIX seconds, number of rows, and the kinds of conditions without their values."""

    time: float
    count: int
    kinds: str


@dataclass(frozen=True)
class GalleryInfo:
    """Description of a gallery.

    Attributes:
        place: folder, or address without password.
        store: kind of the store.
        model: stamp of the model of all vectors, `""` = unknown.
        dimensions: D, 0 = no vector yet.
        count: number of rows.
        cameras: rows by camera.
        identities: number of different identities, unknown ones left out.
        first, last: POSIX seconds of the earliest and the latest row of a known time, None = no such row.
        bytes: on disk.
        files: number of files; 0 where the store has none of its own.
        forget_after: seconds after which rows are forgotten, None = never.
        audit: the calls of `forget`, oldest first.

    """

    place: str
    store: str
    model: str
    dimensions: int
    count: int
    cameras: dict[str, int]
    identities: int
    first: float | None
    last: float | None
    bytes: int
    files: int
    forget_after: float | None = None
    audit: tuple[AuditLine, ...] = field(default=())


class Gallery(Protocol):
    """Rows with vectors of one model that last; what has returned is on disk."""

    @property
    def place(self) -> str:
        """The folder, or the address without its password, for messages."""
        ...

    @property
    def remains(self) -> str:
        """A sentence about traces of rows that the last `forget` had no right to remove; `""` = there are none."""
        ...

    def info(self) -> GalleryInfo:
        """Return a description."""
        ...

    def add(self, rows: GalleryRows) -> Ints:
        """Store rows durably, all or none, apply the policy `forget_after`, and return their new ids (N,), ascending.

        Raises:
            UserError: vectors of another length, no right to write, or a full disk.

        """
        ...

    def search(self, vectors: Floats, *, top: int, where: Where = EVERYTHING) -> Hits:
        """Find the K = `top` rows that are most like each query, exactly.

        Args:
            vectors: (Q, D) of any length but zero, of the gallery's model.
            top: answers per query at most, >= 1.
            where: rows that are searched.

        Raises:
            UserError: vectors of another length, or not finite.

        """
        ...

    def list(self, where: Where = EVERYTHING, *, limit: int | None = None, after: int = -1) -> GalleryRows:
        """Return rows by ascending id: at most `limit`, of ids above `after`; with thumbnails where there are some."""
        ...

    def delete(self, where: Where) -> int:
        """Remove rows and return their number; a folder overwrites their vectors, a database reuses their places.

        Raises:
            UserError: no condition at all, or no right to write.

        """
        ...

    def forget(self, where: Where) -> int:
        """Remove rows so that no byte of them stays in any file, write an audit line, and return their number.

        What a database does not let its user remove is named by `remains`.

        Raises:
            UserError: no condition at all, or no right to write.

        """
        ...

    def apply_policy(self) -> int:
        """Forget the rows that are older than the policy allows, and return their number; 0 without a policy."""
        ...

    def set_policy(self, forget_after: float | None) -> None:
        """Set the seconds after which rows are forgotten, by their time or else by the time of their addition."""
        ...

    def identify(self, camera: Words, tracklet: Words, identity: Words) -> int:
        """Set the identities (M,) of the rows of tracklets, each named by its camera and its name; return their number.

        Raises:
            UserError: no right to write.

        """
        ...

    def check(self) -> tuple[str, ...]:
        """Read everything and return a sentence on each fault; none = all rows are whole."""
        ...

    def close(self) -> None:
        """Let go of files and connections."""
        ...


@runtime_checkable
class IndexedGallery(Gallery, Protocol):
    """A gallery that may have an index for approximate search beside the exact one."""

    def build_index(self, *, megabytes: int | None = None) -> None:
        """Make the index, anew if there is one; additions wait meanwhile.

        Args:
            megabytes: memory for it; None = as the store is set up.

        Raises:
            UserError: no vector yet, longer ones than an index can have, or no right to make it.

        """
        ...

    def search_approximately(
        self, vectors: Floats, *, top: int, where: Where = EVERYTHING, breadth: int | None = None
    ) -> Hits:
        """Find nearly all of the K = `top` most similar rows; as many as exactly, and with exact similarities.

        Args:
            vectors: (Q, D) of any length but zero, of the gallery's model.
            top: answers per query at most, >= 1.
            where: rows that are searched.
            breadth: candidates, 1 to 1000, of which the best are returned: more of them miss fewer rows and take
                longer; None = twice `top`, at least 100.

        Raises:
            UserError: no index, vectors of another length, or not finite.

        """
        ...


OpenStore = Callable[..., Gallery]

STORES = {
    "postgresql": ("passerby.gallery.postgres", "open_postgres"),
    "folder": ("passerby.gallery.folder", "open_folder"),
}
"""Kinds of stores: their modules, and functions `open(place, *, model_stamp, create)`."""


def store_of(place: str) -> str:
    """Return the kind of store that a place names.

    >>> store_of("people"), store_of("postgresql://localhost/people")
    ('folder', 'postgresql')

    Raises:
        UserError: an address of a kind that no store has.

    """
    scheme, separator, _ = place.partition("://")
    if not separator:
        return "folder"
    kind = "postgresql" if scheme == "postgres" else scheme
    if kind not in STORES or kind == "folder":
        raise UserError(f"no gallery at {scheme}://; give a folder, or postgresql://USER@HOST/DATABASE")
    return kind


def open_gallery(place: object, *, model_stamp: str | None = None, create: bool = False) -> Gallery:
    """Open a gallery in a folder or in a PostgreSQL database.

    Args:
        place: the folder, or `postgresql://USER@HOST/DATABASE`.
        model_stamp: the model whose vectors will be added or searched for, as `passerby.encoders.model_stamp` gives
            it; None = the model is not checked.
        create: make the gallery if there is none.

    Raises:
        UserError: no gallery there, one of a newer format or of another model, or a store that is not installed.

    """
    text = str(place)
    if not text:
        raise UserError("the gallery has no name; give a folder, or postgresql://USER@HOST/DATABASE")
    module, function = STORES[store_of(text)]
    open_store: OpenStore = getattr(import_module(module), function)
    return open_store(text, model_stamp=model_stamp, create=create)


def require_indexed(gallery: Gallery) -> IndexedGallery:
    """Return a gallery that may have an index.

    Raises:
        UserError: it is in a folder.

    """
    if not isinstance(gallery, IndexedGallery):
        raise UserError(f"{gallery.place} is a folder, which has no index; only a gallery in PostgreSQL may have one")
    return gallery


def require_model(place: str, stored: str, given: str | None) -> None:
    """Refuse vectors of another model.

    Args:
        place: of the gallery, for the message.
        stored: stamp of the gallery.
        given: stamp of the vectors; None = not checked.

    Raises:
        UserError: the two differ.

    """
    if given is not None and given != stored:
        raise UserError(
            f"{place} holds vectors of the model {stored or 'of unknown name'!r}, and these are of "
            f"{given or 'an unknown one'!r}, which do not compare; use that model, or another gallery"
        )


def require_conditions(where: Where) -> None:
    """Refuse to remove rows without any condition.

    Raises:
        UserError: `where` chooses all rows.

    """
    if not where:
        raise UserError(
            "no condition, so all rows would go; give one such as --identity, --camera or --before, or remove the "
            "gallery as a whole"
        )
