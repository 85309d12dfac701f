"""A folder of crops to tracklets: the best crops of each are embedded where they lie."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from passerby.data.decoding import ImageError, decode
from passerby.encoders import Model, Progress
from passerby.errors import UserError
from passerby.tracking.candidates import BoxCandidate, Candidates
from passerby.tracking.folder import TrackletFolder, TrackletOrigin
from passerby.tracking.notes import Notes
from passerby.tracking.quality import FULL_AREA, sharpness
from passerby.tracking.readers import CropTrack
from passerby.tracking.settings import TrackletSettings
from passerby.tracking.tracks import LEAST_SIDE, BoxTrack
from passerby.types import Tracklets


@dataclass
class _LooseTrack(BoxTrack):
    """A track without frames, whose id alone is its name."""

    @property
    def name(self) -> str:
        return self.id


def write_crop_tracklets(
    tracks: Sequence[CropTrack],
    model: Model,
    folder: TrackletFolder,
    *,
    origin: TrackletOrigin,
    rate: float | None,
    start: float = 0.0,
    settings: TrackletSettings,
    notes: Notes,
    progress: Progress | None = None,
) -> Tracklets:
    """Return the tracklets of a folder of crops, which are written to another folder.

    Args:
        tracks: crops by tracklet.
        model: makes the vectors.
        folder: of the result; where an earlier run left it unfinished, the run continues.
        origin: camera (`""` = those of the crops' names), clip and stamp.
        rate: frames per second of the numbers in the names; None = no times.
        start: seconds of number 0.
        settings: limits of a tracklet and its crops.
        notes: counts what is left out.
        progress: called with (tracklets done, of how many).

    Raises:
        UserError: no tracklet, or no camera.

    """
    if not origin.camera and not all(track.camera for track in tracks):
        raise UserError("the names of the crops hold no camera; give it by --camera NAME")
    if folder.progress.complete:
        return folder.finish()
    begin = folder.progress.resume_frame or 0
    for number in range(begin, len(tracks), settings.part):
        part = tracks[number : number + settings.part]
        found = [_track(track, number + row, rate, start, origin, notes) for row, track in enumerate(part)]
        usable = [track for track in found if track.candidates.best and track.count >= settings.least_boxes]
        notes.add("crop", sum(not track.candidates.best for track in found))
        notes.add("short", len(found) - len(usable) - sum(not track.candidates.best for track in found))
        crops = [track.candidates.choose(settings.least_crops, settings.most_crops) for track in usable]
        if usable:
            folder.write(usable, crops, origin=origin, model=model, open_from=number + len(part))
        if progress is not None:
            progress(number + len(part), len(tracks))
    if not folder.progress.parts:
        raise UserError(f"no tracklet with a usable crop{''.join(f'; {text}' for text in notes.sentences())}")
    return folder.finish()


def _track(
    track: CropTrack, number: int, rate: float | None, start: float, origin: TrackletOrigin, notes: Notes
) -> _LooseTrack:
    """Return a tracklet whose frames are its place among all, so that a run continues after the last part."""
    times = [start + value / rate if rate and value >= 0 else math.nan for value in track.numbers]
    times = times if not any(map(math.isnan, times)) else [math.nan] * len(times)
    candidates = Candidates(0)
    for place, (path, time) in enumerate(zip(track.paths, times, strict=True)):
        try:
            pixels = decode(path)
        except ImageError:
            notes.add("file")
            continue
        height, width = pixels.shape[:2]
        if min(height, width) >= LEAST_SIDE:
            quality = min(math.sqrt(height * width / FULL_AREA), 1) * max(sharpness(pixels), 1e-6)
            candidates.add(BoxCandidate(place, time, quality, b"", str(path)))
    camera = origin.camera or track.camera
    return _LooseTrack(track.id, track.pid, number, number, times[0], times[-1], len(track.paths), candidates, camera)
