"""Generation of a site of video clips: several cameras whose views do not overlap, and people who walk between them.

DIR/CAMERA/img1/*.jpg or video.mp4, gt/gt.txt, seqinfo.ini   a MOT folder per camera; ids are true identities
DIR/clocks.yaml       when each clip begins
DIR/topology.yaml     least travel times between the cameras
DIR/visits.csv        each person's visits in seconds of the common clock

The same request gives the same bytes, except for a video file, whose bytes depend on the codec.
"""

from __future__ import annotations

import csv
import io
import math
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import yaml

from passerby.data.synthetic.cameras import CLIMATES, draw_camera
from passerby.data.synthetic.frame import CameraView, Figure, PersonBox, as_video_camera
from passerby.data.synthetic.manifest import MANIFEST, STARTED, is_finished
from passerby.data.synthetic.photograph import Bytes, encode_picture
from passerby.data.synthetic.shot import STEP_SECONDS
from passerby.data.synthetic.site import SITES
from passerby.data.synthetic.video import write_video
from passerby.data.synthetic.visits import CAMERA_NAMES, ClipSize, Visit, Way, draw_visits, draw_ways
from passerby.data.synthetic.wardrobe import Appearance, draw_appearance, draw_lookalike
from passerby.errors import UserError, did_you_mean
from passerby.files import write_file, write_json

DEFAULT_SIZE = ClipSize()
EDITION = 1
"""Raised whenever the same seed begins to give other clips."""
OPENING = 8 * 3600
"""Time of day at which the clips begin, seconds."""
LATEST = 4
"""Seconds within which all of them begin."""
LOOKALIKES = 0.1
"""Share of the people who wear nearly the clothes of another one."""
GAIT = 2.4 / STEP_SECONDS
"""Radians of the gait per second."""
CLOCKS, TOPOLOGY, VISITS = "clocks.yaml", "topology.yaml", "visits.csv"
_CAMERA, _PERSON, _WALK, _PLAN, _FRAME, _STAGE = range(10, 16)

FrameFiles = Literal["images", "video"]


@dataclass(frozen=True, eq=False)
class PlannedSite:
    """Everything of a site but the pictures.

    Attributes:
        people: appearance of each identity.
        visits: of all people.
        ways: between all pairs of cameras.
        starts: seconds of the clock at which the clip of each camera begins, from the opening.

    """

    people: list[Appearance]
    visits: list[Visit]
    ways: list[Way]
    starts: list[int]


def make_clips(
    directory: Path,
    site: str,
    *,
    seed: int,
    size: ClipSize = DEFAULT_SIZE,
    frames: FrameFiles = "images",
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Generate the clips of a site, unless they exist already, and return their folder.

    Cameras and people are others than those of the images of the same site and seed.

    Args:
        directory: where to write; made when missing.
        site: `"plaza"`, `"campus"` or `"station"`: kind of cameras, light and clothes.
        seed: any whole number >= 0.
        size: how many people, cameras and frames.
        frames: a folder of JPEG files, or a video file (PyAV).
        progress: called with (frames done, frames in all).

    Raises:
        UserError: no such site, a size that is not possible, a directory that holds anything else, or PyAV is missing.

    """
    _check_request(site, seed, size)
    directory = Path(directory)
    request: dict[str, object] = {
        "kind": "video", "site": site, "seed": seed, **asdict(size), "frames": frames, "edition": EDITION,
    }  # fmt: skip
    if is_finished(directory, request, _describe):
        return directory
    write_json(directory / STARTED, request)
    rngs = _Generators(site, seed)
    cameras = [
        as_video_camera(draw_camera(rngs(_CAMERA, k), CLIMATES[site], number=k + 1), rngs(_CAMERA, k, 1), size.view)
        for k in range(size.cameras)
    ]
    ways = draw_ways(rngs(_PLAN), size.cameras)
    people = _dress(site, size.people, rngs)
    visits = draw_visits(size.people, cameras, ways, size, lambda person: rngs(_WALK, person))
    starts = [int(start) for start in rngs(_PLAN, 1).integers(0, LATEST, size.cameras)]
    plan = PlannedSite(people, visits, ways, starts)
    done = 0
    seen: list[SeenVisit] = []
    for number, camera in enumerate(cameras):
        stage = CameraView(camera, size.view, rngs(_STAGE, number))
        folder = directory / CAMERA_NAMES[number]
        boxes = []
        for each in _write_frames(folder, stage, plan, number, size, frames, rngs):
            boxes.append(each)
            done += 1
            if progress is not None:
                progress(done, size.cameras * size.count_frames)
        _write_tracks(folder, boxes, size, frames)
        seen += _seen_visits(number, boxes, plan, size)
    _write_texts(directory, plan, seen)
    write_file(directory / "README.md", _readme(site, seed, size))
    write_json(directory / MANIFEST, request)
    (directory / STARTED).unlink()
    return directory


class _Generators:
    """Random generators of a site, one for each purpose."""

    def __init__(self, site: str, seed: int) -> None:
        self.key = (seed, SITES.index(site))

    def __call__(self, *purpose: int) -> np.random.Generator:
        return np.random.Generator(np.random.PCG64(np.random.SeedSequence((*self.key, *purpose))))


def _dress(site: str, count: int, rngs: _Generators) -> list[Appearance]:
    """Return the appearance of each identity; some look like an earlier one."""
    season = CLIMATES[site].season
    people: list[Appearance] = []
    for person in range(count):
        rng = rngs(_PERSON, person)
        if people and rng.random() < LOOKALIKES:
            people.append(draw_lookalike(people[int(rng.integers(len(people)))], rng, season))
        else:
            people.append(draw_appearance(rng, season))
    return people


def _write_frames(
    folder: Path,
    stage: CameraView,
    plan: PlannedSite,
    camera: int,
    size: ClipSize,
    files: FrameFiles,
    rngs: _Generators,
) -> Iterator[list[PersonBox]]:
    """Render and write all frames of a camera, and yield the boxes of each, in order."""
    visits = [visit for visit in plan.visits if visit.camera == camera]
    quality = stage.camera.response.quality

    def render(frame: int) -> tuple[Bytes, list[PersonBox]]:
        figures = _figures(visits, plan.people, plan.starts[camera] + frame / size.rate)
        return stage.photograph(figures, frame, rngs(_FRAME, camera, frame))

    def render_file(frame: int) -> list[PersonBox]:
        picture, boxes = render(frame)
        write_file(folder / "img1" / f"{frame + 1:06d}.jpg", encode_picture(picture, quality))
        return boxes

    workers = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with ThreadPoolExecutor(workers) as pool:
        if files == "images":
            (folder / "img1").mkdir(parents=True, exist_ok=True)
            yield from pool.map(render_file, range(size.count_frames))
            return
        folder.mkdir(parents=True, exist_ok=True)
        with write_video(folder / "video.mp4", rate=size.rate, view=size.view) as add:
            for start in range(0, size.count_frames, 8 * workers):  # few frames are in memory at one time
                stop = min(start + 8 * workers, size.count_frames)
                for picture, boxes in pool.map(render, range(start, stop)):
                    add(picture)
                    yield boxes


def _figures(visits: list[Visit], people: list[Appearance], time: float) -> list[Figure]:
    figures = []
    for visit in visits:
        if visit.begin <= time <= visit.end:
            x, y, heading = visit.at(time)
            pose = replace(visit.pose, phase=visit.pose.phase + GAIT * (time - visit.begin))
            figures.append(Figure(visit.person, people[visit.person], x, y, heading, pose))
    return figures


def _write_tracks(folder: Path, boxes: list[list[PersonBox]], size: ClipSize, files: FrameFiles) -> None:
    """Write the ground truth (frame, id, x, y, w, h, 1, class 1, visible share) and the settings of a clip."""
    lines = [
        ",".join(
            (
                *(str(frame), str(box.person + 1)),
                *(f"{value:.1f}" for value in (box.left, box.top, box.width, box.height)),
                *("1", "1", f"{box.visible:.2f}\n"),
            )
        )
        for frame, rows in enumerate(boxes, start=1)
        for box in rows
    ]
    (folder / "gt").mkdir(exist_ok=True)
    write_file(folder / "gt" / "gt.txt", "".join(lines))
    place = "imDir=img1\nimExt=.jpg\n" if files == "images" else ""
    write_file(
        folder / "seqinfo.ini",
        f"[Sequence]\nname={folder.name}\nframeRate={size.rate}\nseqLength={len(boxes)}\n"
        f"imWidth={size.width}\nimHeight={size.height}\n{place}",
    )


@dataclass(frozen=True)
class SeenVisit:
    """A visit of which there are boxes: person, name of the camera, first and last second of the day."""

    person: int
    camera: str
    first: float
    last: float


def _seen_visits(camera: int, boxes: list[list[PersonBox]], plan: PlannedSite, size: ClipSize) -> list[SeenVisit]:
    """Return the visits at a camera of which there are boxes."""
    seen = []
    for visit in plan.visits:
        times = [
            plan.starts[camera] + frame / size.rate
            for frame, row in enumerate(boxes)
            if visit.camera == camera and any(box.person == visit.person for box in row)
        ]
        times = [time for time in times if visit.begin <= time <= visit.end]
        if times:
            name = CAMERA_NAMES[camera]
            seen.append(SeenVisit(visit.person + 1, name, OPENING + times[0], OPENING + times[-1]))
    return seen


def _write_texts(directory: Path, plan: PlannedSite, visits: list[SeenVisit]) -> None:
    clocks = {CAMERA_NAMES[number]: _time_of_day(OPENING + start) for number, start in enumerate(plan.starts)}
    write_file(directory / CLOCKS, yaml.safe_dump(clocks, sort_keys=False))
    travel = [
        {"cameras": [CAMERA_NAMES[way.first], CAMERA_NAMES[way.second]], "least": math.floor(10 * way.least) / 10}
        for way in plan.ways
    ]
    write_file(directory / TOPOLOGY, yaml.safe_dump({"travel": travel}, sort_keys=False, default_flow_style=None))
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(["person", "camera", "first", "last"])
    for visit in sorted(visits, key=lambda visit: (visit.person, visit.first)):
        writer.writerow([visit.person, visit.camera, f"{visit.first:.1f}", f"{visit.last:.1f}"])
    write_file(directory / VISITS, stream.getvalue())


def _time_of_day(seconds: int) -> str:
    return f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"


def _check_request(site: str, seed: int, size: ClipSize) -> None:
    if site not in SITES:
        raise UserError(f"no site {site!r}; known: {', '.join(SITES)}{did_you_mean(site, SITES)}")
    if seed < 0:
        raise UserError(f"the seed must be a whole number >= 0, got {seed}")
    if not 1 <= size.cameras <= len(CAMERA_NAMES):
        raise UserError(f"a site of clips has 1 to {len(CAMERA_NAMES)} cameras, got {size.cameras}")
    if size.people < 2 or not 5 <= size.seconds <= 3600:
        raise UserError(
            f"a site of clips has at least 2 people and 5 to 3600 seconds, got {size.people} and {size.seconds:g}"
        )


def _describe(request: dict[str, object]) -> str:
    if request.get("kind") != "video":
        return "something else"
    return (
        f"clips of {request.get('site')} with seed {request.get('seed')} ({request.get('people')} people, "
        f"{request.get('cameras')} cameras, {request.get('seconds')} s, frames as {request.get('frames')}, edition "
        f"{request.get('edition')})"
    )


def _readme(site: str, seed: int, size: ClipSize) -> str:
    return f"""# Generated clips: {site}

{size.people} people walk between {size.cameras} cameras whose views do not overlap; {size.seconds:g} seconds of each,
{size.rate} frames per second. **No real person is shown**: every figure, garment and background is computed.

Made by `passerby data make DIR --kind video --site {site} --seed {seed}` (edition {EDITION}).

- `CAMERA/`: a MOT folder with frames, `seqinfo.ini` and `gt/gt.txt`. An id is the true identity, the same at every
  camera. A person who leaves and returns has the same id again.
- `{CLOCKS}`: when each clip begins.
- `{TOPOLOGY}`: least seconds between the cameras, for `passerby associate --topology`.
- `{VISITS}`: first and last second of each visit, on the common clock (seconds of the day).
"""
