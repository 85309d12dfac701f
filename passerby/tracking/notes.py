"""Counts of boxes, frames and tracks that are left out, and their sentences."""

from __future__ import annotations

from collections import Counter
from typing import Literal

NoteKind = Literal[
    "row", "size", "outside", "ignored", "without_id", "twice", "label", "jump", "image", "end", "reused", "crop",
    "short",
    "file",
]  # fmt: skip

_SENTENCES: dict[NoteKind, str] = {
    "row": "lines or records that are no box, left out: {}",
    "size": "boxes without an area, of negative size or with NaN, left out: {}",
    "outside": "boxes outside of the frame, which have no crop: {}",
    "ignored": "boxes that the ground truth marks as ignored (column 7 is 0), left out: {}",
    "without_id": "boxes without a track id, left out: {}",
    "twice": "boxes with the id of another box of their frame, left out: {}",
    "label": "boxes of other labels than persons', left out: {}",
    "jump": "jumps of the frame numbers by more than the largest gap within a tracklet: {}",
    "image": "frames without a readable image, whose boxes have no crop: {}",
    "end": "frames after the end of the video, whose boxes have no crop: {}",
    "reused": "ids that come back after the largest gap and begin a new tracklet: {}",
    "file": "crops that cannot be read, left out: {}",
    "crop": "tracks without a usable crop, left out: {}",
    "short": "tracks with fewer boxes than asked for, left out: {}",
}


class Notes:
    """Numbers of what was left out, by reason."""

    def __init__(self) -> None:
        self.counts: Counter[NoteKind] = Counter()

    def add(self, reason: NoteKind, count: int = 1) -> None:
        """Count something that was left out."""
        if count:
            self.counts[reason] += count

    def sentences(self) -> list[str]:
        """Return one sentence for each reason that occurred."""
        return [
            sentence.format(f"{self.counts[reason]:,}")
            for reason, sentence in _SENTENCES.items()
            if self.counts[reason]
        ]
