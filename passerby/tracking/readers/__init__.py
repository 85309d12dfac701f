"""Readers of tracks, one file per format."""

from __future__ import annotations

from pathlib import Path

from passerby.tracking.frames import find_frames
from passerby.tracking.notes import Notes
from passerby.tracking.readers.mot import MotFile
from passerby.tracking.readers.places import find_clip
from passerby.tracking.readers.source import ASSUMED_RATE, ClipBoxes

__all__ = ["ASSUMED_RATE", "ClipBoxes", "open_source"]


def open_source(source: Path, *, frames: Path | None, rate: float | None, true_ids: bool, notes: Notes) -> ClipBoxes:
    """Return the boxes and frames of a clip.

    Args:
        source: a MOT folder or a file of tracks.
        frames: folder of images or video; None = beside the tracks.
        rate: frames per second, None = that of the source.
        true_ids: whether the ids are true identities, the same at all cameras.
        notes: counts what is left out.

    Raises:
        UserError: something is not there or cannot be read.

    """
    clip = find_clip(source, frames)
    file = MotFile(clip.tracks, true_ids=true_ids, notes=notes)
    content = file.content
    begin = min(content.first, 1)
    images = find_frames(clip.frames, rate=rate or clip.rate, first=begin)
    return ClipBoxes(
        clip.name,
        file.boxes,
        images,
        rate or clip.rate or images.rate,
        content.first,
        content.last,
        begin,
        tracked=content.tracked,
    )
