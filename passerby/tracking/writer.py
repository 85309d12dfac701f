"""Tracklets from a stream of frames with boxes and track ids."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self, runtime_checkable

import numpy as np
import numpy.typing as npt

from passerby.data.decoding import Pixels
from passerby.encoders import Model, load_model, model_stamp
from passerby.errors import UserError
from passerby.tracking.boxes import FrameBoxes
from passerby.tracking.folder import TrackletFolder, TrackletOrigin
from passerby.tracking.notes import Notes
from passerby.tracking.settings import TrackletSettings
from passerby.tracking.tracks import BoxTrack, OpenTracks
from passerby.types import Tracklets

STANDARD = TrackletSettings()


class TrackedDetections(Protocol):
    """Boxes with track ids, for example `supervision.Detections` after a tracker."""

    @property
    def xyxy(self) -> npt.NDArray[np.generic]:
        """(N, 4) left, top, right, bottom in pixels."""
        ...

    @property
    def tracker_id(self) -> npt.NDArray[np.generic] | None:
        """(N,) ids of tracks; -1 = not tracked yet."""
        ...


@runtime_checkable
class LoadedModel(Protocol):
    """A loaded model and its place, for example the `Encoder` of `passerby.load_model`."""

    @property
    def model(self) -> Model:
        """The model."""

    @property
    def path(self) -> Path | None:
        """Where it was loaded from; None = unknown."""


class FrameWriter:
    """Tracklets from boxes of ascending frames, embedded and written in parts; memory is bounded per open track.

    Args:
        model: makes the vectors.
        parts: the folder.
        origin: of the tracklets.
        settings: limits of a tracklet and its crops.
        notes: counts what is left out.

    """

    def __init__(
        self, model: Model, parts: TrackletFolder, *, origin: TrackletOrigin, settings: TrackletSettings, notes: Notes
    ) -> None:
        self.model = model
        self.parts = parts
        self.origin = origin
        self.settings = settings
        self.notes = notes
        self._open = OpenTracks(settings, notes, parts.progress.written)
        self._finished: list[BoxTrack] = []

    def add(self, boxes: FrameBoxes, time: float, *, size: tuple[int, int], load: Callable[[], Pixels | None]) -> None:
        """Take the boxes of the next frame; see `OpenTracks.add`."""
        self._finished += self._open.add(boxes, time, size=size, load=load)
        if len(self._finished) >= self.settings.part:
            self._write()

    def finish(self) -> Tracklets:
        """Write the tracks that are still open, join all parts and return the tracklets.

        Raises:
            UserError: there is no tracklet.

        """
        self._finished += self._open.close_all()
        self._write()
        if not self.parts.progress.parts:
            raise UserError(f"no tracklet with a usable crop{_reasons(self.notes)}")
        return self.parts.finish()

    def _write(self) -> None:
        tracks, crops = [], []
        for track in self._finished:
            chosen = track.candidates.choose(self.settings.least_crops, self.settings.most_crops)
            if track.count < self.settings.least_boxes:
                self.notes.add("short")
            elif not chosen:
                self.notes.add("crop")
            else:
                tracks.append(track)
                crops.append(chosen)
        self._finished = []
        if tracks:
            first = min((track.first_frame for track in self._open.tracks.values()), default=None)
            self.parts.write(tracks, crops, origin=self.origin, model=self.model, open_from=first)


def _reasons(notes: Notes) -> str:
    return "".join(f"; {sentence}" for sentence in notes.sentences())


def _open(model: LoadedModel | Model | str | Path) -> tuple[Model, str]:
    """Return a model and its stamp, `""` where its file is unknown."""
    if isinstance(model, str | Path):
        return load_model(model), model_stamp(model)
    if isinstance(model, LoadedModel):
        return model.model, "" if model.path is None else model_stamp(model.path)
    return model, ""


class TrackletWriter:
    """Tracklets from the frames and tracked boxes of a Python program, frame by frame.

    Args:
        model: of `passerby.load_model`, or a path that it takes.
        out: a new folder for the crops and `tracklets.npz`. A stream that was killed cannot continue, as its frames are
            gone: what it wrote stays in parts in its folder, and a new stream needs another one.
        camera: name of the camera.
        clip: name of the stream; a camera with several needs different ones.
        has_clock: whether the times given to `add` are of a clock that all cameras share.
        stamp: name of the model, which keeps vectors of different models apart; `""` = by its file.
        settings: limits of a tracklet and its crops.

    Raises:
        UserError: the folder holds tracklets already, or there is no such model.

    """

    def __init__(
        self,
        model: LoadedModel | Model | str | Path,
        out: str | Path,
        *,
        camera: str,
        clip: str = "stream",
        has_clock: bool = False,
        stamp: str = "",
        settings: TrackletSettings = STANDARD,
    ) -> None:
        model, file_stamp = _open(model)
        origin = TrackletOrigin(camera, clip, has_clock, model=stamp or file_stamp)
        parts = TrackletFolder(out, asdict(origin) | asdict(settings) | {"source": "stream"})
        if parts.progress.parts:
            raise UserError(f"{out} holds the tracklets of an earlier stream, which cannot continue; give a new folder")
        self.notes = Notes()
        self.tracklets: Tracklets | None = None
        self._writer = FrameWriter(model, parts, origin=origin, settings=settings, notes=self.notes)
        self._frame = 0
        self._time = -np.inf

    def add(self, frame: npt.NDArray[np.uint8], detections: TrackedDetections, time: float) -> None:
        """Take the tracked boxes of the next frame.

        Args:
            frame: (H, W, 3) uint8 in the order blue, green, red, as OpenCV reads it.
            detections: boxes with ids; those with the id -1 are left out.
            time: seconds, larger than that of the frame before.

        Raises:
            UserError: a frame or detections of another kind, or a time that does not ascend.

        """
        if not np.isfinite(time) or time <= self._time:
            raise UserError(f"times must be finite and ascend, got {time:g} after {self._time:g}")
        if not isinstance(frame, np.ndarray) or frame.ndim != 3 or frame.shape[2] != 3 or frame.dtype != np.uint8:
            shape = getattr(frame, "shape", type(frame).__name__)
            raise UserError(f"a frame is a uint8 array (H, W, 3) in the order blue, green, red, got {shape}")
        boxes = self._boxes(detections)
        self._time = time
        self._frame += 1
        size = (frame.shape[1], frame.shape[0])
        self._writer.add(boxes, time, size=size, load=lambda: frame[:, :, ::-1])

    def _boxes(self, detections: TrackedDetections) -> FrameBoxes:
        ids, corners = getattr(detections, "tracker_id", None), getattr(detections, "xyxy", None)
        if corners is None or (ids is None and len(corners)):
            raise UserError("detections need `xyxy` and `tracker_id`; let a tracker number them first")
        numbers = np.asarray([] if ids is None else ids)
        places = np.asarray(corners, np.float64).reshape(-1, 4)
        if numbers.shape != (len(places),):
            raise UserError(f"`tracker_id` has the shape {numbers.shape}, expected ({len(places)},)")
        tracked = numbers != -1
        self.notes.add("without_id", int((~tracked).sum()))
        return FrameBoxes.of(self._frame, numbers[tracked].astype(np.str_), places[tracked], notes=self.notes)

    def close(self) -> Tracklets:
        """Write what is still open, and return all tracklets; a second call returns them again.

        Raises:
            UserError: there is no tracklet.

        """
        if self.tracklets is None:
            self.tracklets = self._writer.finish()
        return self.tracklets

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.close()
