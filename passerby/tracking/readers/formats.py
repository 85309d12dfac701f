"""The boxes of a file by its format, and where its frames lie."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from passerby.errors import UserError
from passerby.tracking.boxes import FrameBoxes
from passerby.tracking.notes import Notes
from passerby.tracking.readers.coco import read_coco
from passerby.tracking.readers.cvat import read_cvat_xml, read_tracks_csv
from passerby.tracking.readers.mot import MotFile
from passerby.tracking.readers.table import BoxTable


@dataclass(frozen=True)
class TrackFile:
    """The boxes of a file.

    Attributes:
        boxes: returns an iterator over the frames with boxes, in ascending order.
        first, last: numbers of the first and the last frame with boxes.
        begin: number of the first frame of the clip.
        tracked: whether there are ids.
        names: image file of each frame, None = by the numbers in the names.

    """

    boxes: Callable[[], Iterator[FrameBoxes]]
    first: int
    last: int
    begin: int
    tracked: bool
    names: dict[int, str] | None = None


def read_track_file(path: Path, *, true_ids: bool, notes: Notes) -> TrackFile:
    """Return the boxes of MOTChallenge text, COCO-style JSON, CVAT XML or a CSV with a header.

    Args:
        path: the file.
        true_ids: whether ids are true identities.
        notes: counts what is left out.

    Raises:
        UserError: a file of another format, or without boxes.

    """
    ending = path.suffix.lower()
    if ending == ".json":
        table, names = read_coco(path, true_ids=true_ids, notes=notes)
        return _of_table(path, table, notes, begin=0, names=names)
    if ending == ".xml":
        table, names = read_cvat_xml(path, true_ids=true_ids, notes=notes)
        return _of_table(path, table, notes, begin=0, names=names)
    if ending == ".csv" and _has_header(path):
        return _of_table(path, read_tracks_csv(path, true_ids=true_ids, notes=notes), notes, begin=None)
    file = MotFile(path, true_ids=true_ids, notes=notes)
    content = file.content
    return TrackFile(file.boxes, content.first, content.last, min(content.first, 1), content.tracked)


def _of_table(
    path: Path, table: BoxTable, notes: Notes, *, begin: int | None, names: dict[int, str] | None = None
) -> TrackFile:
    first, last = table.span(path, notes)
    start = min(first, 1) if begin is None else begin
    return TrackFile(partial(table.frames, notes), first, last, start, table.is_tracked, names)


def _has_header(path: Path) -> bool:
    try:
        with path.open(encoding="utf-8-sig", errors="replace") as file:
            return re.match(r"\s*[-+\d]", file.readline()) is None
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
