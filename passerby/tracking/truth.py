"""The boxes of tracklets beside the true ones, frame by frame."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from passerby.association.frame_scores import TruthFrame, overlap_of
from passerby.errors import UserError
from passerby.tracking.boxes import FrameBoxes
from passerby.tracking.bytetrack import track_detections
from passerby.tracking.clock import read_start
from passerby.tracking.folder import run_settings
from passerby.tracking.notes import Notes
from passerby.tracking.readers import ClipBoxes, open_source
from passerby.tracking.readers.formats import read_track_file
from passerby.types import Doubles, Ints, Tracklets

TRUTHS = ("{camera}/gt/gt.txt", "{camera}/gt.txt", "{camera}.txt", "{camera}/{camera}.txt")
"""Places of the truth of a camera below the folder of a site, the first that is there."""
LATE = 1e-6
"""Seconds of rounding after the last box of a tracklet."""


def read_truth(site: Path, folders: Sequence[Path], tables: Sequence[Tracklets]) -> list[TruthFrame]:
    """Return the true and the tracked boxes of all frames of all cameras.

    The tracked boxes are read again from the source that the folders of tracklets name.

    Args:
        site: folder with MOT ground truth `CAMERA/gt/gt.txt` for each camera, whose ids are true identities.
        folders: of `passerby tracklets`.
        tables: their tracklets, in the same order; rows count through all of them.

    Raises:
        UserError: a camera without truth, or tracklets whose source is gone or was a stream.

    """
    frames: list[TruthFrame] = []
    begin = 0
    for folder, table in zip(folders, tables, strict=True):
        cameras = sorted(set(table.camera.tolist()))
        if len(cameras) > 1:
            raise UserError(
                f"{folder} has tracklets of {len(cameras)} cameras without frames, so --truth cannot be used"
            )
        source, start = _source_of(folder)
        frames += _frames(_truth_of(site, cameras[0]), source, start, _Rows(table, begin, source.clip))
        begin += len(table)
    return frames


def _truth_of(site: Path, camera: str) -> dict[int, FrameBoxes]:
    """Return the true boxes of a camera by frame."""
    places = [site / text.format(camera=camera) for text in TRUTHS]
    file = next((place for place in places if place.is_file()), None)
    if file is None:
        raise UserError(f"no truth of camera {camera!r}: {site} holds no {TRUTHS[0].format(camera=camera)}")
    return {boxes.frame: boxes for boxes in read_track_file(file, true_ids=True, notes=Notes()).boxes()}


def _source_of(folder: Path) -> tuple[ClipBoxes, float]:
    """Return the boxes from which tracklets were made, and the seconds of the beginning of the clip."""
    settings = run_settings(folder)
    place = settings.get("source")
    if not isinstance(place, str) or "frames" not in settings:
        raise UserError(f"{folder} holds tracklets of a stream, whose boxes are not kept, so --truth cannot be used")
    frames, rate, start = (settings.get(name) for name in ("frames", "fps", "start"))
    source = open_source(
        Path(place),
        frames=Path(frames) if isinstance(frames, str) else None,
        rate=float(rate) if isinstance(rate, int | float) else None,
        true_ids=False,
        notes=Notes(),
    )
    if not source.tracked:
        source = track_detections(source)
    return source, read_start(start) if isinstance(start, str) else 0.0


class _Rows:
    """The tracklet of each tracked box."""

    def __init__(self, table: Tracklets, begin: int, clip: str) -> None:
        self._spans: dict[str, list[tuple[int, float, int]]] = {}
        for row, (name, last) in enumerate(zip(table.name.tolist(), table.last.tolist(), strict=True)):
            id_, _, first = str(name).removeprefix(f"{clip}/").rpartition("@")
            self._spans.setdefault(id_, []).append((int(first), float(last), begin + row))
        for spans in self._spans.values():
            spans.sort()

    def of(self, boxes: FrameBoxes, time: float) -> Ints:
        """Return the tracklet (P,) of each box of a frame, -1 = none."""
        rows = []
        for id_ in boxes.ids.tolist():
            spans = self._spans.get(id_, [])
            k = bisect_right(spans, boxes.frame, key=lambda span: span[0]) - 1
            rows.append(spans[k][2] if k >= 0 and time <= spans[k][1] + LATE else -1)
        return np.array(rows, np.int64)


def _frames(truth: dict[int, FrameBoxes], source: ClipBoxes, start: float, rows: _Rows) -> list[TruthFrame]:
    tracked = {boxes.frame: boxes for boxes in source.boxes()}
    nothing: tuple[Ints, Doubles] = np.zeros(0, np.int64), np.zeros((0, 4))
    frames = []
    for number in sorted({*truth, *tracked}):
        true, boxes = truth.get(number), tracked.get(number)
        pid, corners = nothing if true is None else (true.pid, true.corners)
        places = nothing[1] if boxes is None else boxes.corners
        row = nothing[0] if boxes is None else rows.of(boxes, start + source.time(number))
        frames.append(TruthFrame(pid, row, overlap_of(corners, places)))
    return frames
