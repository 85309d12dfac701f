"""Open tracks: what of the boxes so far a tracklet will need, in bounded memory per track."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import simplejpeg

from passerby.data.decoding import Pixels
from passerby.inference.boxes import crop_boxes
from passerby.tracking.boxes import FrameBoxes
from passerby.tracking.candidates import BoxCandidate, Candidates
from passerby.tracking.notes import Notes
from passerby.tracking.quality import box_quality, sharpness
from passerby.tracking.settings import TrackletSettings
from passerby.types import Doubles, Ints

JPEG_QUALITY = 95
LARGEST_HEIGHT = 512
"""Crops are reduced by whole factors to less than twice this height before they are kept."""
LEAST_SIDE = 4
"""Smallest side of a crop in pixels."""


@dataclass
class BoxTrack:
    """A track that is open, or finished.

    Attributes:
        id: as the source names it.
        pid: true identity of its first box, -1 = unknown.
        first_frame, last_frame: numbers of its first and last frame.
        first, last: their seconds.
        count: boxes.
        candidates: the best boxes.
        camera: its camera where a source has several, `""` = that of the clip.

    """

    id: str
    pid: int
    first_frame: int
    last_frame: int
    first: float
    last: float
    count: int
    candidates: Candidates
    camera: str = ""

    @property
    def name(self) -> str:
        """Its id and first frame: different for tracks that share an id."""
        return f"{self.id}@{self.first_frame}"


@dataclass(frozen=True)
class Written:
    """A tracklet that an earlier run wrote, whose boxes are passed over when its frames are read again."""

    id: str
    first_frame: int
    last_frame: int


class OpenTracks:
    """The tracks that may still continue, by id."""

    def __init__(self, settings: TrackletSettings, notes: Notes, written: Iterable[Written] = ()) -> None:
        self.settings = settings
        self.notes = notes
        self.tracks: dict[str, BoxTrack] = {}
        self._written = list(written)
        self._last_time: float | None = None
        self._closed: set[str] = set()

    def add(
        self, boxes: FrameBoxes, time: float, *, size: tuple[int, int], load: Callable[[], Pixels | None]
    ) -> list[BoxTrack]:
        """Take the boxes of the next frame, and return the tracks that ended before it, in order of their last box.

        Args:
            boxes: those of the frame; frames come in ascending order.
            time: seconds.
            size: width and height of the frame.
            load: returns its RGB pixels, or None where there are none; called only when a crop is wanted.

        """
        finished = self._close(time)
        self._note_jump(time)
        boxes = boxes.select(np.array([not self._is_written(id_, boxes.frame) for id_ in boxes.ids], dtype=np.bool_))
        if not len(boxes):
            return finished
        quality = box_quality(boxes.corners, size)
        self.notes.add("outside", int((_inside(boxes.corners, size) == 0).sum()))
        wanted = []
        for row, id_ in enumerate(boxes.ids):
            track = self._continue(str(id_), int(boxes.pid[row]), boxes.frame, time)
            if track.candidates.is_wanted(boxes.frame, float(quality[row])):
                wanted.append(row)
        if wanted:
            self._add_crops(boxes, time, quality, np.array(wanted), load)
        return finished

    def close_all(self) -> list[BoxTrack]:
        """Return all open tracks, in order of their last box: the end of the video."""
        return self._remove(list(self.tracks.values()))

    def _close(self, time: float) -> list[BoxTrack]:
        return self._remove([track for track in self.tracks.values() if time - track.last > self.settings.max_gap])

    def _remove(self, tracks: list[BoxTrack]) -> list[BoxTrack]:
        for track in tracks:
            del self.tracks[track.id]
            self._closed.add(track.id)
        return sorted(tracks, key=lambda track: (track.last_frame, track.first_frame, track.id))

    def _is_written(self, id_: str, frame: int) -> bool:
        return any(old.id == id_ and old.first_frame <= frame <= old.last_frame for old in self._written)

    def _note_jump(self, time: float) -> None:
        if self._last_time is not None and time - self._last_time > self.settings.max_gap:
            self.notes.add("jump")
        self._last_time = time

    def _continue(self, id_: str, pid: int, frame: int, time: float) -> BoxTrack:
        track = self.tracks.get(id_)
        if track is None:
            track = BoxTrack(id_, pid, frame, frame, time, time, 0, Candidates(frame))
            self.tracks[id_] = track
            self.notes.add("reused", int(id_ in self._closed))
            self._closed.discard(id_)
        track.last_frame, track.last = frame, time
        track.count += 1
        return track

    def _add_crops(
        self, boxes: FrameBoxes, time: float, quality: Doubles, rows: Ints, load: Callable[[], Pixels | None]
    ) -> None:
        pixels = load()
        if pixels is None:
            return
        crops, valid = crop_boxes(pixels[:, :, ::-1], boxes.corners[rows])
        for row, crop in zip(rows[valid], crops, strict=True):
            if min(crop.shape[:2]) < LEAST_SIDE:
                continue
            candidates = self.tracks[str(boxes.ids[row])].candidates
            value = float(quality[row]) * sharpness(crop)
            if candidates.is_wanted(boxes.frame, value):
                candidates.add(BoxCandidate(boxes.frame, time, value, encode_crop(crop)))


def _inside(corners: Doubles, size: tuple[int, int]) -> Doubles:
    """Return the area (N,) of each box inside of the frame."""
    inside = np.clip(corners, 0, (*size, *size))
    areas: Doubles = np.prod(inside[:, 2:] - inside[:, :2], axis=1)
    return areas


def encode_crop(crop: Pixels) -> bytes:
    """Return a crop as a JPEG file."""
    factor = crop.shape[0] // LARGEST_HEIGHT
    if factor > 1:
        crop = crop[: crop.shape[0] // factor * factor, : crop.shape[1] // factor * factor]
        shape = (crop.shape[0] // factor, factor, crop.shape[1] // factor, factor, 3)
        crop = crop.reshape(shape).mean(axis=(1, 3)).round().astype(np.uint8)
    content: bytes = simplejpeg.encode_jpeg(np.ascontiguousarray(crop), quality=JPEG_QUALITY, colorsubsampling="444")
    return content
