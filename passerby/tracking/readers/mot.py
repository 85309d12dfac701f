"""MOTChallenge text, `frame,id,x,y,w,h,conf,...`: results, ground truth (gt.txt) and detections (det.txt, id -1).

Notable: a file in the order of frames is streamed. One in another order (ground truth is often sorted by id) is sorted
in memory, some 300 bytes per box. Frames count from 1 in the format; a file that has a frame 0 counts from 0.

Reference:
    Milan et al., "MOT16: A Benchmark for Multi-Object Tracking", 2016, section 4 (format).
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from passerby.errors import UserError
from passerby.files import reading
from passerby.tracking.boxes import FrameBoxes
from passerby.tracking.notes import Notes

TRUTH = "gt.txt"
Row = tuple[int, int, float, float, float, float, float]
"""Frame, id, x, y, width, height, confidence."""


@dataclass(frozen=True)
class MotContent:
    """Extent of a file.

    Attributes:
        first, last: smallest and largest number of a frame.
        ascending: whether the lines are in the order of frames.
        tracked: whether there is an id above -1.

    """

    first: int
    last: int
    ascending: bool
    tracked: bool


class MotFile:
    """The boxes of a file.

    Args:
        path: the file.
        true_ids: whether its ids are true identities, the same at all cameras.
        notes: counts what is left out.

    Raises:
        UserError: no such file, or no box in it.

    """

    def __init__(self, path: Path, *, true_ids: bool, notes: Notes) -> None:
        self.path = path
        self.true_ids = true_ids
        self.notes = notes
        self.is_truth = path.name == TRUTH
        self.content = self._scan()

    def _scan(self) -> MotContent:
        first = last = previous = None
        ascending, tracked = True, False
        for frame, id_, *_ in self._rows(self.notes):
            first = frame if first is None else min(first, frame)
            last = frame if last is None else max(last, frame)
            ascending = ascending and (previous is None or frame >= previous)
            tracked = tracked or id_ >= 0
            previous = frame
        if first is None or last is None:
            raise UserError(f"{self.path} has no box in the form frame,id,x,y,w,h,...{self._reasons()}")
        return MotContent(first, last, ascending, tracked)

    def _reasons(self) -> str:
        return "".join(f"; {sentence}" for sentence in self.notes.sentences())

    def boxes(self) -> Iterator[FrameBoxes]:
        """Yield the boxes of each frame, ascending; a lone id below 0 among tracked boxes is left out."""
        rows: Iterable[Row] = self._rows(Notes())  # counted by the scan
        if not self.content.ascending:
            table = np.array(list(rows), dtype=np.float64)
            table = table[np.argsort(table[:, 0], kind="stable")]
            rows = ((int(row[0]), int(row[1]), *map(float, row[2:])) for row in table)  # type: ignore[misc]  # 7 columns
        for frame, group in itertools.groupby(rows, key=lambda row: row[0]):
            yield self._of(frame, np.array([row[1:] for row in group], dtype=np.float64))

    def _of(self, frame: int, table: np.ndarray[tuple[int, int], np.dtype[np.float64]]) -> FrameBoxes:
        if self.content.tracked:
            self.notes.add("without_id", int((table[:, 0] < 0).sum()))
            table = table[table[:, 0] >= 0]
        numbers = table[:, 0].astype(np.int64)
        corners = np.concatenate([table[:, 1:3], table[:, 1:3] + table[:, 3:5]], axis=1)
        ids = numbers.astype(np.str_) if self.content.tracked else np.full(len(numbers), "")
        pid = numbers if self.true_ids else None
        return FrameBoxes.of(frame, ids, corners, pid=pid, score=table[:, 5], notes=self.notes)

    def _rows(self, notes: Notes) -> Iterator[Row]:
        with reading(self.path, "MOTChallenge text"), self.path.open(encoding="utf-8", errors="replace") as lines:
            for line in lines:
                if not line.strip():
                    continue
                row = _parse(line)
                if row is None:
                    notes.add("row")
                elif self.is_truth and row[6] == 0:
                    notes.add("ignored")
                else:
                    yield row


def _parse(line: str) -> Row | None:
    """Return the numbers of a line, or None where it is no such line; width and height may be anything."""
    words = [word for word in re.split(r"[,;\s]+", line.strip()) if word]
    try:
        numbers = [float(word) for word in words[:7]]
        if len(numbers) < 6 or not numbers[0].is_integer() or not numbers[1].is_integer() or numbers[0] < 0:
            return None
        confidence = numbers[6] if len(numbers) > 6 else 1.0
        return (int(numbers[0]), int(numbers[1]), *numbers[2:6], confidence)  # type: ignore[return-value]  # 4 numbers
    except (ValueError, OverflowError):
        return None
