"""Function behind `passerby tracklets`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from functools import cache, partial
from pathlib import Path

from rich.console import Console

from passerby.commands.embedding import open_model
from passerby.console import bar
from passerby.device import InferenceSettings
from passerby.encoders import Model, model_stamp
from passerby.errors import UserError
from passerby.tracking import TrackletSettings
from passerby.tracking.bytetrack import track_detections
from passerby.tracking.clock import read_start
from passerby.tracking.crop_run import write_crop_tracklets
from passerby.tracking.folder import TrackletFolder, TrackletOrigin
from passerby.tracking.notes import Notes
from passerby.tracking.readers import ASSUMED_RATE, CLOCKS, find_site, holds_tracks, open_source, read_crops
from passerby.tracking.run import write_tracklets
from passerby.types import Tracklets


@dataclass(frozen=True)
class TrackletsRequest:
    """Options of the command.

    Attributes:
        source: MOT folder, file of tracks, folder of crops, or folder of the clips of several cameras.
        camera: its name, None = as the names of crops, or those of the clips, say.
        out: folder of the result.
        run: the model.
        frames: folder of images or video, None = beside the tracks.
        start: time at which the clip begins, None = no clock.
        fps: frames per second, None = those of the source.
        dataset: name of the site.
        true_ids: whether the ids are true identities.
        settings: limits of a tracklet and its crops.
        given: `key=value` for the input of an ONNX file of another program.

    """

    source: Path
    camera: str | None
    out: Path
    run: Path
    frames: Path | None = None
    start: str | None = None
    fps: float | None = None
    dataset: str = ""
    true_ids: bool = False
    settings: TrackletSettings = field(default_factory=TrackletSettings)
    given: tuple[str, ...] = ()


def make_all_tracklets(
    request: TrackletsRequest, *, inference: InferenceSettings, console: Console
) -> list[tuple[Path, Tracklets]]:
    """Return the folder and the tracklets of each camera: one, or all of a site, each in a folder of its name.

    Args:
        request: options; of a site, the name of the camera and the frames come from its folder.
        inference: how the model is run.
        console: where notes and progress go.

    Raises:
        UserError: as `make_tracklets`, or an option that a site has no use for.

    """
    load = cache(partial(open_model, request.run, request.given, console, inference=inference))
    clips = [] if request.camera is not None else find_site(request.source)
    if not clips:
        return [(request.out, make_tracklets(request, load, console=console))]
    if request.frames is not None:
        raise UserError(f"--frames has no effect on {request.source}, which holds {len(clips)} cameras")
    without = [] if request.start is not None else [clip.camera for clip in clips if clip.start is None]
    if without:
        _print(
            f"no clock for {', '.join(without)}: times compare within each of these clips only; "
            f"{request.source / CLOCKS} may hold when each begins, such as `{without[0]}: 08:00:00`",
            console,
        )
    tables = []
    for clip in clips:
        one = replace(
            request,
            source=clip.source,
            camera=clip.camera,
            out=request.out / clip.camera,
            start=clip.start if request.start is None else request.start,
        )
        _print(f"camera {clip.camera}", console)
        try:
            tables.append((one.out, make_tracklets(one, load, console=console)))
        except UserError as error:
            raise UserError(f"camera {clip.camera}: {error}") from error
    return tables


def make_tracklets(request: TrackletsRequest, load: Callable[[], Model], *, console: Console) -> Tracklets:
    """Return the tracklets of a clip, which are written to the folder of the request.

    Args:
        request: options.
        load: opens the model, once all else is known to be right.
        console: where notes and progress go.

    Raises:
        UserError: something is not there, cannot be read, or gives no tracklet.

    """
    if request.camera is not None and not request.camera.strip():
        raise UserError("--camera is empty; give the camera a name")
    if request.fps is not None and not 0 < request.fps < 1e6:
        raise UserError(f"--fps is {request.fps:g}; it must be above 0")
    start = None if request.start is None else read_start(request.start)
    make = _of_boxes if holds_tracks(request.source) else _of_crops
    notes = Notes()
    table = make(request, start, load, notes=notes, console=console)
    for sentence in notes.sentences():
        _print(sentence, console)
    return table


def _of_boxes(
    request: TrackletsRequest, start: float | None, load: Callable[[], Model], *, notes: Notes, console: Console
) -> Tracklets:
    if request.camera is None:
        raise UserError("give the name of the camera by --camera NAME")
    source = open_source(
        request.source, frames=request.frames, rate=request.fps, true_ids=request.true_ids, notes=notes
    )
    if source.rate is None and start is not None:
        raise UserError("the source has no frame rate, so --start needs --fps")
    if source.rate is None:
        _print(f"no frame rate; {ASSUMED_RATE:g} frames per second are assumed (--fps)", console)
    if not source.tracked:
        source = track_detections(source)
        _print("the boxes have no ids; ByteTrack tracks them", console)
    origin = TrackletOrigin(request.camera, source.clip, start is not None, request.dataset, model_stamp(request.run))
    folder = _open_folder(request, origin, console)
    model = load()
    with bar("tracklets", console) as advance:
        return write_tracklets(
            source,
            model,
            folder,
            origin=origin,
            start=start or 0.0,
            settings=request.settings,
            notes=notes,
            progress=advance,
        )


def _of_crops(
    request: TrackletsRequest, start: float | None, load: Callable[[], Model], *, notes: Notes, console: Console
) -> Tracklets:
    if request.frames is not None:
        raise UserError(f"--frames is for boxes; {request.source} is a folder of crops")
    if start is not None and request.fps is None:
        raise UserError("crops have no frame rate, so --start needs --fps")
    tracks = read_crops(request.source, true_ids=request.true_ids)
    clip = request.source.resolve().name
    has_clock = start is not None
    origin = TrackletOrigin(request.camera or "", clip, has_clock, request.dataset, model_stamp(request.run))
    folder = _open_folder(request, origin, console)
    model = load()
    with bar("tracklets", console) as advance:
        return write_crop_tracklets(
            tracks,
            model,
            folder,
            origin=origin,
            rate=request.fps,
            start=start or 0.0,
            settings=request.settings,
            notes=notes,
            progress=advance,
        )


def _open_folder(request: TrackletsRequest, origin: TrackletOrigin, console: Console) -> TrackletFolder:
    folder = TrackletFolder(request.out, _fingerprint(request, origin))
    if folder.progress.parts and not folder.progress.complete:
        _print(f"{folder.progress.count} tracklets are in {request.out} already; going on", console)
    return folder


def _fingerprint(request: TrackletsRequest, origin: TrackletOrigin) -> dict[str, object]:
    places = {
        "source": str(request.source.resolve()),
        "frames": None if request.frames is None else str(request.frames.resolve()),
    }
    options = {"start": request.start, "fps": request.fps, "true_ids": request.true_ids, "input": list(request.given)}
    return asdict(origin) | asdict(request.settings) | places | options


def _print(sentence: str, console: Console) -> None:
    console.print(sentence, highlight=False, markup=False, soft_wrap=True)
