"""Readers of tracks, one file per format."""

from __future__ import annotations

from pathlib import Path

from passerby.data.image_files import image_names
from passerby.tracking.frames import Frames, ImageFrames, find_frames
from passerby.tracking.notes import Notes
from passerby.tracking.readers.crops import CropTrack, read_crops
from passerby.tracking.readers.formats import TrackFile, read_track_file
from passerby.tracking.readers.places import Clip, find_clip, holds_tracks
from passerby.tracking.readers.sites import CLOCKS, SiteClip, find_site
from passerby.tracking.readers.source import ASSUMED_RATE, ClipBoxes

__all__ = [
    "ASSUMED_RATE",
    "CLOCKS",
    "ClipBoxes",
    "CropTrack",
    "SiteClip",
    "find_site",
    "holds_tracks",
    "open_source",
    "read_crops",
]


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
    file = read_track_file(clip.tracks, true_ids=true_ids, notes=notes)
    images = _frames_of(clip, file, rate or clip.rate)
    return ClipBoxes(
        clip.name,
        file.boxes,
        images,
        rate or clip.rate or images.rate,
        file.first,
        file.last,
        file.begin,
        tracked=file.tracked,
    )


def _frames_of(clip: Clip, file: TrackFile, rate: float | None) -> Frames:
    """Return the frames; files that number them from 0 in the order of their names need no numbers in the names."""
    if not clip.frames.is_dir() or file.names is None:
        return find_frames(clip.frames, rate=rate, first=file.begin)
    folder, names = clip.frames, {number: name for number, name in file.names.items() if name}
    if not names:
        return ImageFrames(folder, names=dict(enumerate(image_names(folder))), rate=rate)
    if not any((folder / name).is_file() for name in names.values()):
        names = {number: Path(name).name for number, name in names.items()}
    return ImageFrames(folder, names=names, rate=rate)
