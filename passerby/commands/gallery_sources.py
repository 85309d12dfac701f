"""What can be added to a gallery: vectors of `passerby embed`, tracklets, and exported rows."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from passerby.distances.units import unit_rows
from passerby.errors import UserError
from passerby.gallery import GalleryRows
from passerby.npz import read_npz
from passerby.types import TRACKLETS_FILE, UNKNOWN, Embeddings, Ints, Tracklets, Words

DAY = 86_400.0


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


def read_source(path: Path) -> GallerySource:
    """Return the rows of an .npz of `passerby embed`, or of the tracklets in a folder or file.

    Raises:
        UserError: no such file, or one of another kind.

    """
    if path.is_dir():
        return rows_of_tracklets(Tracklets.load(path))
    if not path.exists():
        raise UserError(f"no file or folder {path}")
    if path.name == TRACKLETS_FILE or "crop_start" in read_npz(path, kind="a readable .npz of plain arrays"):
        return rows_of_tracklets(Tracklets.load(path))
    return rows_of_embeddings(Embeddings.load(path))


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


def rows_of_tracklets(table: Tracklets) -> GallerySource:
    """Return a row for each tracklet: its vector, its best crop, the time of its first box, and that of its last."""
    is_date = table.has_clock & (table.first >= DAY)
    notes, undated = [], int((~is_date).sum())
    if undated:
        notes.append(
            f"the times of {undated:,} of {len(table):,} tracklets are no dates, so their rows have none: "
            "give `passerby tracklets` the date and time at which a clip begins by --start 2026-03-01T08:30"
        )
    lasts = [
        {} if math.isnan(last) else {"last": round(last, 3)} for last in np.where(is_date, table.last, np.nan).tolist()
    ]
    rows = GalleryRows(
        table.vectors,
        path=table.crop_path[table.crop_start[:-1]],
        camera=table.camera,
        time=np.where(is_date, table.first, np.nan),
        tracklet=table.name,
        identity=_names(table.pid),
        attributes=np.array([json.dumps(last) for last in lasts], np.str_),
    )
    return GallerySource(rows, table.model, tuple(notes))
