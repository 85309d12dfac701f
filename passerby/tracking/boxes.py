"""The boxes of one frame with the ids of their tracks, and the checks that every source needs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from passerby.tracking.notes import Notes
from passerby.types import Bools, Doubles, Ints, Words


@dataclass(frozen=True)
class FrameBoxes:
    """The boxes of one frame.

    Attributes:
        frame: number of the frame.
        ids: (N,) of tracks, text.
        corners: (N, 4) x1, y1, x2, y2 in pixels.
        pid: (N,) true identities, -1 = unknown.
        score: (N,) confidence of the detector, 1 where it gives none.

    """

    frame: int
    ids: Words
    corners: Doubles
    pid: Ints
    score: Doubles

    def __len__(self) -> int:
        return len(self.ids)

    def select(self, rows: Bools | Ints) -> FrameBoxes:
        """Return the boxes chosen by a mask or by indices."""
        return FrameBoxes(self.frame, self.ids[rows], self.corners[rows], self.pid[rows], self.score[rows])

    @classmethod
    def of(
        cls,
        frame: int,
        ids: Words,
        corners: Doubles,
        *,
        pid: Ints | None = None,
        score: Doubles | None = None,
        notes: Notes,
    ) -> FrameBoxes:
        """Return the usable boxes: with finite corners, an area, and an id that no earlier box of the frame has.

        Args:
            frame: its number.
            ids: (N,) of tracks; `""` = none (detections).
            corners: (N, 4).
            pid: (N,), None = unknown.
            score: (N,), None = 1.
            notes: counts what is left out.

        """
        pid = np.full(len(ids), -1) if pid is None else pid
        score = np.ones(len(ids)) if score is None else score
        boxes = cls(frame, ids, corners, pid, score)
        with np.errstate(invalid="ignore"):
            sound = np.asarray(np.isfinite(corners).all(axis=1) & (corners[:, 2:] > corners[:, :2]).all(axis=1))
        notes.add("size", int((~sound).sum()))
        boxes = boxes.select(sound)
        first = np.zeros(len(boxes), dtype=np.bool_)
        first[np.unique(boxes.ids, return_index=True)[1]] = True
        first |= boxes.ids == ""
        notes.add("twice", int((~first).sum()))
        return boxes.select(first)
