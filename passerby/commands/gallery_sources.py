"""What can be added to a gallery: vectors of `passerby embed`, tracklets, exported rows, and identities."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image

from passerby.commands.associating import read_tracklets
from passerby.data.decoding import ImageError, Pixels, decode
from passerby.distances.units import unit_rows
from passerby.errors import UserError
from passerby.files import reading
from passerby.gallery import GalleryRows
from passerby.gallery.exchange import is_export, read_export
from passerby.npz import read_npz
from passerby.types import TRACKLETS_FILE, UNKNOWN, Doubles, Embeddings, Ints, Tracklets, Words
from passerby.types.parts import TABLE_FILE

DAY = 86_400.0
THUMBNAIL_HEIGHT = 128
"""Pixels; larger images are made smaller."""

VectorsOf = Literal["tracklets", "crops"]


@dataclass(frozen=True, eq=False)
class GallerySource:
    """Rows to add.

    Attributes:
        rows: with vectors of unit length.
        model: stamp of the model of the vectors, `""` = unknown.
        notes: sentences for the person who adds them.

    """

    rows: GalleryRows
    model: str
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class RowDefaults:
    """What is set in all rows that are added.

    Attributes:
        camera, identity: names; None = as the file says.
        time: POSIX seconds, for rows without a time; None = unknown.
        attributes: keys and values that are added to those of each row.

    """

    camera: str | None = None
    identity: str | None = None
    time: float | None = None
    attributes: tuple[tuple[str, str], ...] = ()

    def apply(self, rows: GalleryRows) -> GalleryRows:
        """Return rows with these values."""
        count = len(rows)
        if self.camera is not None:
            rows = replace(rows, camera=np.full(count, self.camera))
        if self.identity is not None:
            rows = replace(rows, identity=np.full(count, self.identity))
        if self.time is not None:
            rows = replace(rows, time=np.where(np.isnan(rows.time), self.time, rows.time))
        if self.attributes:
            added = dict(self.attributes)
            texts = [json.dumps(json.loads(text) | added, ensure_ascii=False) for text in rows.attributes.tolist()]
            rows = replace(rows, attributes=np.array(texts, np.str_))
        return rows


def read_source(path: Path, *, vectors_of: VectorsOf = "tracklets") -> GallerySource:
    """Return the rows of vectors of `passerby embed`, of tracklets, or of an exported gallery.

    Args:
        path: an .npz, a .parquet, or a folder of `passerby tracklets`, of one camera or of several, or of
            `passerby embed --ray`.
        vectors_of: tracklets give one row each, or one for each of their crops.

    Raises:
        UserError: no such file, or one of another kind.

    """
    if not path.exists():
        raise UserError(f"no file or folder {path}")
    if path.suffix.lower() == ".parquet":
        return GallerySource(*read_export(path))
    if path.is_dir():
        is_table = (path / TABLE_FILE).is_file() and not (path / TRACKLETS_FILE).is_file()
        return rows_of_embeddings(Embeddings.load(path)) if is_table else _rows_of_tracklets(path, vectors_of)
    arrays = read_npz(path, kind="an .npz of `passerby embed` or `passerby tracklets`, or an exported gallery")
    if is_export(arrays):
        return GallerySource(*read_export(path))
    return _rows_of_tracklets(path, vectors_of) if "crop_start" in arrays else rows_of_embeddings(Embeddings.load(path))


def rows_of_embeddings(table: Embeddings) -> GallerySource:
    """Return a row for each vector; numbers of identities and cameras become their names."""
    rows = GalleryRows(
        unit_rows(table.vectors),
        path=np.full(len(table), "") if table.path is None else table.path,
        camera=_names(table.cam),
        identity=_names(table.pid),
    )
    return GallerySource(rows, table.model)


def _names(numbers: Ints) -> Words:
    return np.where(numbers == UNKNOWN, "", numbers.astype(np.str_))


def _rows_of_tracklets(path: Path, vectors_of: VectorsOf) -> GallerySource:
    table = read_tracklets([path])
    return rows_of_tracklets(table) if vectors_of == "tracklets" else rows_of_crops(table)


def rows_of_tracklets(table: Tracklets) -> GallerySource:
    """Return a row for each tracklet: its vector, its best crop, the time of its first box, and that of its last."""
    is_date = table.has_clock & (table.first >= DAY)
    last = [{} if math.isnan(each) else {"last": round(each, 3)} for each in _dated(table.last, is_date).tolist()]
    rows = GalleryRows(
        table.vectors,
        path=table.crop_path[table.crop_start[:-1]],
        camera=table.camera,
        time=_dated(table.first, is_date),
        tracklet=table.name,
        identity=_names(table.pid),
        attributes=np.array([json.dumps(each) for each in last], np.str_),
    )
    return GallerySource(rows, table.model, tuple(_date_notes(int((~is_date).sum()), len(table))))


def rows_of_crops(table: Tracklets) -> GallerySource:
    """Return a row for each crop of each tracklet, with its own vector and time."""
    owner = table.crop_row
    is_date = (table.has_clock & (table.first >= DAY))[owner]
    rows = GalleryRows(
        table.crop_vectors,
        path=table.crop_path,
        camera=table.camera[owner],
        time=_dated(table.crop_time, is_date),
        tracklet=table.name[owner],
        identity=_names(table.pid)[owner],
    )
    return GallerySource(rows, table.model, tuple(_date_notes(int((~is_date).sum()), len(rows))))


def _dated(times: Doubles, is_date: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> Doubles:
    return np.where(is_date, times, np.nan)


def _date_notes(undated: int, count: int) -> Iterator[str]:
    if undated:
        yield (
            f"{undated:,} of {count:,} rows get no time, as their tracklets have no date; give `passerby tracklets` "
            "the date at which a clip begins (--start 2026-03-01T08:30), or these rows one by --time"
        )


def read_identities(path: Path, *, prefix: str = "") -> tuple[Words, Words, Words]:
    """Return cameras (M,), tracklets (M,) and identities (M,) of the .csv that `passerby associate` writes.

    Args:
        path: the file.
        prefix: put before each identity, so that those of two days differ.

    Raises:
        UserError: a file that cannot be read, or lacks a column.

    """
    with reading(path, "a .csv of `passerby associate`"):
        lines = list(csv.DictReader(io.StringIO(path.read_text(encoding="utf-8", errors="surrogatepass"))))
    names = ("camera", "tracklet", "identity")
    missing = [name for name in names if lines and lines[0].get(name) is None]
    if missing or not lines:
        raise UserError(f"{path} has no {' and no '.join(missing or ['row'])}; `passerby associate` writes such a file")
    camera, tracklet, identity = (np.array([line[name] for line in lines], np.str_) for name in names)
    return camera, tracklet, np.array([f"{prefix}{name}" for name in identity.tolist()], np.str_)


def illustrated(source: GallerySource) -> GallerySource:
    """Return rows with small pictures of their boxes, and a note on images that cannot be read."""
    thumbnails = [
        make_thumbnail(path, box) for path, box in zip(source.rows.path.tolist(), source.rows.box.tolist(), strict=True)
    ]
    missing = sum(not each for each in thumbnails)
    note = (f"{missing:,} of {len(thumbnails):,} rows have no thumbnail, as their image cannot be read",)
    rows = replace(source.rows, thumbnails=tuple(thumbnails))
    return replace(source, rows=rows, notes=source.notes + note if missing else source.notes)


def make_thumbnail(path: str, box: list[float]) -> bytes:
    """Return a JPEG of the box in an image file, at most 128 pixels high, `b""` where it cannot be read.

    Args:
        path: the file.
        box: corners x1, y1, x2, y2 in pixels, NaN = the whole image.

    """
    if not path:
        return b""
    try:
        image = Image.fromarray(cut_box(decode(path), box))
    except (ImageError, OSError, ValueError):
        return b""
    image.thumbnail((4 * THUMBNAIL_HEIGHT, THUMBNAIL_HEIGHT))
    content = io.BytesIO()
    image.save(content, "JPEG", quality=85)
    return content.getvalue()


def cut_box(pixels: Pixels, box: list[float]) -> Pixels:
    """Return the part of an image (H, W, 3) that lies in a box; the whole image where a corner is NaN."""
    if any(map(math.isnan, box)):
        return pixels
    left, top, right, bottom = (max(round(side), 0) for side in box)
    return pixels[top:bottom, left:right]
