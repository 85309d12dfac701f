"""Settings that decide which tracklets a video has and which crops each of them keeps."""

from __future__ import annotations

from dataclasses import dataclass

from passerby.errors import UserError


@dataclass(frozen=True)
class TrackletSettings:
    """Limits of a tracklet and its crops.

    Attributes:
        least_crops, most_crops: number of crops of a tracklet; a track with fewer good boxes has fewer.
        max_gap: seconds without a box after which the same id begins a new tracklet.
        least_boxes: tracks with fewer boxes are dropped.
        part: finished tracklets that are embedded and written at once.

    """

    least_crops: int = 3
    most_crops: int = 8
    max_gap: float = 2.0
    least_boxes: int = 1
    part: int = 64

    def __post_init__(self) -> None:
        if not 1 <= self.least_crops <= self.most_crops:
            raise UserError(f"crops per tracklet must be 1 <= least <= most, got {self.least_crops}, {self.most_crops}")
        if not self.max_gap > 0:
            raise UserError(f"the largest gap within a tracklet must be above 0 seconds, got {self.max_gap:g}")
        if self.least_boxes < 1 or self.part < 1:
            raise UserError("the least number of boxes, and of tracklets in a part, is 1")
