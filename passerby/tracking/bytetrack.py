"""Tracks from detections without ids, by the ByteTrack of the package `trackers` (extra `trackers`)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from passerby.errors import UserError
from passerby.tracking.boxes import FrameBoxes
from passerby.tracking.readers.source import ASSUMED_RATE, ClipBoxes

LOWEST_NEW = 0.5
"""Share of the largest confidence of a clip's detections from which a box may begin a track."""


def track_detections(source: ClipBoxes) -> ClipBoxes:
    """Return a clip whose boxes have the ids of ByteTrack; boxes that it leaves without one are left out.

    Confidences are taken as they are where they lie in [0, 1], and as 1 elsewhere.

    Reference:
        Zhang et al., "ByteTrack: Multi-Object Tracking by Associating Every Detection Box", ECCV 2022.

    Raises:
        UserError: the package is not installed.

    """
    _import_trackers()
    return replace(source, boxes=lambda: _tracked(source), tracked=True)


def _import_trackers() -> tuple[Any, Any]:
    try:
        import supervision
        import trackers
    except ImportError as error:
        raise UserError(
            "the boxes have no track ids (id -1): pip install 'passerby[trackers]' makes them by ByteTrack, or give a "
            "file of tracks"
        ) from error
    return supervision, trackers


def _tracked(source: ClipBoxes) -> Iterator[FrameBoxes]:
    """Run the tracker over all frames from the first, those without boxes too, so that lost tracks age."""
    supervision, trackers = _import_trackers()
    tracker = trackers.ByteTrackTracker(frame_rate=source.rate or ASSUMED_RATE, track_activation_threshold=LOWEST_NEW)
    empty = supervision.Detections.empty()
    number = source.first
    for boxes in source.boxes():
        for _ in range(min(boxes.frame - number, MOST_EMPTY)):
            tracker.update(empty)
        number = boxes.frame + 1
        tracked = _update(tracker, supervision, boxes)
        if len(tracked):
            yield tracked


MOST_EMPTY = 1000
"""Frames without boxes that are shown to the tracker one by one; no track outlives so many."""


def _update(tracker: Any, supervision: Any, boxes: FrameBoxes) -> FrameBoxes:
    inside = (boxes.score >= 0) & (boxes.score <= 1)
    detections = supervision.Detections(
        xyxy=boxes.corners.astype(np.float32),
        confidence=np.where(inside, boxes.score, 1.0).astype(np.float32),
        class_id=np.zeros(len(boxes), dtype=int),
        data={"row": np.arange(len(boxes))},
    )
    tracked = tracker.update(detections)
    ids = np.asarray(tracked.tracker_id)
    rows = np.asarray(tracked.data["row"])[ids != -1]
    return replace(boxes.select(rows), ids=ids[ids != -1].astype(np.str_))
