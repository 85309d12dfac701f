"""Boxes of a clip that are held in memory, frame by frame: what formats that cannot be streamed are read into."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from passerby.errors import UserError
from passerby.tracking.boxes import FrameBoxes
from passerby.tracking.notes import Notes

PERSON_LABELS = ("person", "persons", "people", "pedestrian", "human")
"""Labels of persons, lower case."""


@dataclass(frozen=True)
class BoxRow:
    """One box.

    Attributes:
        frame: number of its frame.
        id: of its track, `""` = none.
        corners: x1, y1, x2, y2 in pixels.
        pid: true identity, -1 = unknown.
        score: confidence.
        label: class, `""` = none.

    """

    frame: int
    id: str
    corners: tuple[float, float, float, float]
    pid: int = -1
    score: float = 1.0
    label: str = ""


@dataclass
class BoxTable:
    """Boxes in any order.

    Attributes:
        rows: the boxes.

    """

    rows: list[BoxRow] = field(default_factory=list)

    def persons(self, notes: Notes) -> BoxTable:
        """Return the boxes with a person's label, or all where no box has one; `notes` counts the others."""
        persons = [row for row in self.rows if row.label.lower() in PERSON_LABELS]
        notes.add("label", len(self.rows) - len(persons) if persons else 0)
        return BoxTable(persons or self.rows)

    @property
    def is_tracked(self) -> bool:
        """Whether a box has an id."""
        return any(row.id for row in self.rows)

    def span(self, source: object, notes: Notes) -> tuple[int, int]:
        """Return the numbers of the first and the last frame with a box.

        Args:
            source: the file, for the error.
            notes: what was left out, for the error.

        Raises:
            UserError: there is no box.

        """
        if not self.rows:
            raise UserError(f"{source} has no box{''.join(f'; {sentence}' for sentence in notes.sentences())}")
        numbers = [row.frame for row in self.rows]
        return min(numbers), max(numbers)

    def frames(self, notes: Notes) -> Iterator[FrameBoxes]:
        """Yield the boxes of each frame, ascending; boxes without an id among others with one are left out."""
        tracked = self.is_tracked
        for frame, group in itertools.groupby(sorted(self.rows, key=lambda row: row.frame), lambda row: row.frame):
            rows = list(group)
            named = [row for row in rows if row.id or not tracked]
            notes.add("without_id", len(rows) - len(named))
            yield FrameBoxes.of(
                frame,
                np.array([row.id for row in named], dtype=np.str_),
                np.array([row.corners for row in named], dtype=np.float64).reshape(-1, 4),
                pid=np.array([row.pid for row in named], dtype=np.int64),
                score=np.array([row.score for row in named], dtype=np.float64),
                notes=notes,
            )


def pid_of(id_: str, true_ids: bool, path: Path) -> int:
    """Return the identity that an id means, -1 where it means none.

    Args:
        id_: of a track.
        true_ids: whether ids are identities.
        path: the file, for the error.

    Raises:
        UserError: it is no whole number from 0.

    """
    if not true_ids or not id_:
        return -1
    if not (id_.isascii() and id_.isdigit() and len(id_) < 19):
        raise UserError(f"{path}: the id {id_!r} is no whole number, so it cannot be a true identity (--true-ids)")
    return int(id_)
