"""A clip ready to be read: boxes by frame, its frames, and its times."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from passerby.tracking.boxes import FrameBoxes
from passerby.tracking.frames import Frames

ASSUMED_RATE = 25.0
"""Frames per second where neither the source nor the user gives any."""


@dataclass(frozen=True)
class ClipBoxes:
    """The boxes and frames of one clip.

    Attributes:
        clip: its name.
        boxes: returns an iterator over the frames with boxes, in ascending order, however often it is called.
        frames: the images.
        rate: frames per second, None = unknown.
        first, last: numbers of the first and the last frame with boxes.
        begin: number of the frame at time 0.
        tracked: whether the boxes have ids; detections need a tracker.

    """

    clip: str
    boxes: Callable[[], Iterator[FrameBoxes]]
    frames: Frames
    rate: float | None
    first: int
    last: int
    begin: int
    tracked: bool = True

    def time(self, number: int) -> float:
        """Return the seconds of a frame from the beginning of the clip."""
        stamp = self.frames.time(number)
        return (number - self.begin) / (self.rate or ASSUMED_RATE) if stamp is None else stamp
