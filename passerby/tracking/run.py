"""A whole clip to tracklets: read, choose, embed, write; continue where an earlier run was killed."""

from __future__ import annotations

from functools import partial

from passerby.data.decoding import Pixels
from passerby.encoders import Model, Progress
from passerby.tracking.folder import TrackletFolder, TrackletOrigin
from passerby.tracking.notes import Notes
from passerby.tracking.readers import ClipBoxes
from passerby.tracking.settings import TrackletSettings
from passerby.tracking.writer import FrameWriter
from passerby.types import Tracklets


def write_tracklets(
    source: ClipBoxes,
    model: Model,
    parts: TrackletFolder,
    *,
    origin: TrackletOrigin,
    start: float = 0.0,
    settings: TrackletSettings,
    notes: Notes,
    progress: Progress | None = None,
) -> Tracklets:
    """Return the tracklets of a clip, which are written to a folder.

    Args:
        source: boxes and frames.
        model: makes the vectors.
        parts: the folder; where an earlier run left it unfinished, the run continues, with the same result.
        origin: camera, clip and stamp.
        start: seconds of the clip's beginning.
        settings: limits of a tracklet and its crops.
        notes: counts what is left out.
        progress: called with (frames done, of how many).

    Raises:
        UserError: no tracklet.

    """
    if parts.progress.complete:
        return parts.finish()
    writer = FrameWriter(model, parts, origin=origin, settings=settings, notes=notes)
    resume = parts.progress.resume_frame
    time = start
    for boxes in source.boxes():
        time = max(time, start + source.time(boxes.frame))  # a damaged time stamp does not run backwards
        if resume is not None and boxes.frame < resume:
            continue
        size = source.frames.size(boxes.frame)
        if size is None:
            notes.add("image")
            continue
        writer.add(boxes, time, size=size, load=partial(_load, source, boxes.frame, notes))
        if progress is not None:
            progress(boxes.frame - source.first + 1, source.last - source.first + 1)
    return writer.finish()


def _load(source: ClipBoxes, number: int, notes: Notes) -> Pixels | None:
    pixels = source.frames.pixels(number)
    if pixels is None:
        notes.add("end" if source.frames.has_ended(number) else "image")
    return pixels
