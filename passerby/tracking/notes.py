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
    "row": "{} lines are no numbers `frame,id,x,y,w,h` and are left out",
    "size": "{} boxes have no area, a negative size or NaN and are left out",
    "outside": "{} boxes lie outside of the frame and have no crop",
    "ignored": "{} boxes that the ground truth marks as ignored (column 7 is 0) are left out",
    "without_id": "{} boxes have no track id and are left out",
    "twice": "{} boxes have the id of another box of their frame and are left out",
    "label": "{} boxes of other labels than the persons' are left out",
    "jump": "the frame numbers jump {} times by more than the largest gap within a tracklet",
    "image": "{} frames have boxes but no readable image; their boxes have no crop",
    "end": "the video ends before {} frames that have boxes; their boxes have no crop",
    "reused": "{} times an id comes back after the largest gap and begins a new tracklet",
    "file": "{} crops cannot be read and are left out",
    "crop": "{} tracks have no usable crop and are left out",
    "short": "{} tracks have fewer boxes than asked for and are left out",
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
