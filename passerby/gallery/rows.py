"""The rows of a gallery as columns, the choice of some of them, and the answer of a search."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Self

import numpy as np

from passerby.errors import UserError
from passerby.types import UNKNOWN, Bools, Doubles, Floats, Ints, Words
from passerby.types.columns import column

LARGEST_DEVIATION = 2e-3
"""How far the length of a unit vector may be from 1, once it is rounded to float16."""

TEXTS = ("path", "camera", "tracklet", "identity", "attributes")
COLUMNS = ("vectors", "path", "camera", "time", "box", "tracklet", "identity", "attributes", "id")


def _no_words() -> Words:
    return np.empty(0, np.str_)


@dataclass(frozen=True, eq=False)
class GalleryRows:
    """Rows of a gallery; a column that is left out is unknown in every row.

    Attributes:
        vectors: (N, D) float32 of unit length.
        path: (N,) image file, `""` = none.
        camera: (N,) name of the camera, `""` = unknown.
        time: (N,) POSIX seconds, NaN = unknown.
        box: (N, 4) corners x1, y1, x2, y2 in pixels of the image, NaN = the whole image.
        tracklet: (N,) name of the tracklet at its camera, `""` = none.
        identity: (N,) name of the person, `""` = unknown.
        attributes: (N,) JSON objects as text.
        id: (N,) number that the store gives to a row and never to another, -1 = not stored yet.
        thumbnails: N JPEG files, `b""` = none; or no item at all.

    """

    vectors: Floats
    path: Words = field(default_factory=_no_words)
    camera: Words = field(default_factory=_no_words)
    time: Doubles = field(default_factory=lambda: np.empty(0))
    box: Floats = field(default_factory=lambda: np.empty((0, 4), np.float32))
    tracklet: Words = field(default_factory=_no_words)
    identity: Words = field(default_factory=_no_words)
    attributes: Words = field(default_factory=_no_words)
    id: Ints = field(default_factory=lambda: np.empty(0, np.int64))
    thumbnails: tuple[bytes, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "vectors", _unit_length(self.vectors))
        count = len(self.vectors)
        for name in TEXTS:
            missing = "{}" if name == "attributes" else ""
            values = getattr(self, name) if len(getattr(self, name)) else np.full(count, missing)
            object.__setattr__(self, name, column(name, values, count, np.str_))
        time = self.time if len(self.time) else np.full(count, np.nan)
        object.__setattr__(self, "time", column("time", time, count, np.float64))
        number = self.id if len(self.id) else np.full(count, UNKNOWN)
        object.__setattr__(self, "id", column("id", number, count, np.int64))
        box = np.asarray(self.box if len(self.box) else np.full((count, 4), np.nan), np.float32)
        if box.shape != (count, 4):
            raise UserError(f"column 'box' has shape {box.shape}, expected ({count}, 4)")
        object.__setattr__(self, "box", box)
        if np.isinf(self.time).any():
            raise UserError("column 'time' holds infinity; unknown times are NaN")
        if self.thumbnails and len(self.thumbnails) != count:
            raise UserError(f"{len(self.thumbnails)} thumbnails for {count} rows")
        for text in sorted(set(self.attributes.tolist())):
            _require_object(text)

    def __len__(self) -> int:
        return len(self.vectors)

    def select(self, rows: Bools | Ints | slice) -> Self:
        """Return the rows chosen by a mask (N,), by indices in that order, or by a slice."""
        numbers = np.arange(len(self))[rows]
        thumbnails = tuple(self.thumbnails[row] for row in numbers.tolist()) if self.thumbnails else ()
        columns = {name: getattr(self, name)[numbers] for name in COLUMNS}
        return replace(self, **columns, thumbnails=thumbnails)

    @classmethod
    def join(cls, tables: Sequence[Self]) -> Self:
        """Return the rows of several tables, at least one, in their order.

        Raises:
            UserError: vectors of different lengths.

        """
        dimensions = sorted({table.vectors.shape[1] for table in tables})
        if len(dimensions) > 1:
            raise UserError(f"the vectors have different lengths: {', '.join(map(str, dimensions))}")
        columns = {name: np.concatenate([getattr(table, name) for table in tables]) for name in COLUMNS}
        thumbnails: tuple[bytes, ...] = ()
        if any(table.thumbnails for table in tables):
            thumbnails = tuple(each for table in tables for each in table.thumbnails or (b"",) * len(table))
        return cls(**columns, thumbnails=thumbnails)


def _unit_length(values: object) -> Floats:
    vectors = np.asarray(values)
    if vectors.ndim != 2 or not vectors.shape[1] or not np.issubdtype(vectors.dtype, np.floating):
        raise UserError(f"'vectors' must be a float array of shape (N, D), got {vectors.dtype} {vectors.shape}")
    vectors = np.ascontiguousarray(vectors, np.float32)
    lengths = np.sqrt(np.einsum("nd,nd->n", vectors, vectors, dtype=np.float64))
    bad = int((~(np.abs(lengths - 1) <= LARGEST_DEVIATION)).sum())  # NaN is bad too
    if bad:
        raise UserError(f"{bad} of {len(vectors)} vectors are not of length 1, or hold NaN or infinity")
    return vectors


def _require_object(text: str) -> None:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError(f"attributes {text[:60]!r} are no JSON") from error
    if not isinstance(value, dict):
        raise UserError(f'attributes {text[:60]!r} are no JSON object, such as {{"coat": "red"}}')


@dataclass(frozen=True)
class Where:
    """Rows that fulfil all conditions; without any, all rows.

    Attributes:
        cameras, identities: names of which a row has one; none = any.
        since, until: rows of a known time, since <= time < until, POSIX seconds; None = any.
        attributes: keys and values, all of which a row has; values compare as text, `true` and `false` as such.
        before: time of the row, or of its addition where that is unknown, is before this; None = any.
        ids: numbers of rows of which a row has one; none = any.

    """

    cameras: tuple[str, ...] = ()
    identities: tuple[str, ...] = ()
    since: float | None = None
    until: float | None = None
    attributes: tuple[tuple[str, str], ...] = ()
    before: float | None = None
    ids: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        for name in ("since", "until", "before"):
            value = getattr(self, name)
            if value is not None and not math.isfinite(value):
                raise UserError(f"{name} is {value}; give seconds since 1970")
        if self.since is not None and self.until is not None and self.until <= self.since:
            raise UserError(f"no time lies from {self.since:.3f} on and before {self.until:.3f}; exchange the two")

    @property
    def kinds(self) -> tuple[str, ...]:
        """Names of the conditions, without their values."""
        return tuple(each.name for each in fields(self) if getattr(self, each.name) not in ((), None))

    def __bool__(self) -> bool:
        return bool(self.kinds)


EVERYTHING = Where()


@dataclass(frozen=True, eq=False)
class Hits:
    """The rows that are most like each query, most similar first; equal similarities by id.

    Attributes:
        id: (Q, K) numbers of rows, -1 where there are fewer than K.
        similarity: (Q, K) float32 cosine similarities in [-1, 1] up to rounding, NaN where there is no row.
        rows: each row once, by ascending id.

    """

    id: Ints
    similarity: Floats
    rows: GalleryRows

    def of(self, query: int) -> tuple[GalleryRows, Floats]:
        """Return the rows of one query (K) and their similarities (K,), most similar first."""
        present = self.id[query] != UNKNOWN
        places = np.searchsorted(self.rows.id, self.id[query][present])
        return self.rows.select(places), self.similarity[query][present]


def require_length(vectors: Floats, dimensions: int) -> None:
    """Refuse vectors of another length than those of a gallery.

    Args:
        vectors: (N, D).
        dimensions: of the gallery; 0 = it has no vector yet.

    Raises:
        UserError: the two differ.

    """
    if dimensions and vectors.shape[1] != dimensions:
        raise UserError(f"the gallery holds vectors of {dimensions} numbers, and these have {vectors.shape[1]}")
