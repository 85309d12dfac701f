"""Functions behind `passerby search` and `passerby verify`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from passerby.encoders import UNGIVEN, GivenCamera, Model, images_of
from passerby.errors import UserError
from passerby.report.figure_files import require_ending, save_figure
from passerby.report.list_figures import Strip, draw_strips
from passerby.report.ranked_lists import ListImage, RankedList
from passerby.retrieval import (
    ELSEWHERE,
    SearchHit,
    image_distance,
    model_cameras,
    query_cameras,
    require_threshold,
    search_all,
)
from passerby.thresholds import accepted_distance, domain_note, require_no_threshold
from passerby.types import UNKNOWN, CameraNorm, Embeddings

MOST_DRAWN = 50
"""Queries on one picture."""


@dataclass(frozen=True)
class Answer:
    """Search result of one query image: its file, its camera if known and used, and the ranked images."""

    query: str
    camera: int | None
    hits: tuple[SearchHit, ...]

    def lines(self) -> list[str]:
        """Return one line for each image found."""
        return [
            f"{rank:>3}  distance {hit.distance:.4f}  {hit.path or f'row {hit.row}'}"
            for rank, hit in enumerate(self.hits, start=1)
        ]


@dataclass(frozen=True)
class SearchOptions:
    """Options of a search.

    Attributes:
        count: answers per image at most.
        threshold: the largest cosine distance that is accepted; None = all.
        cameras: `all`, or `other` than the image's own.
        camera: of all images, for `other` and for a model that uses cameras; None = from the file names or the table.
        pattern: template of cameras in file names, for `other`; None = as in c2 or cam2.
        cameras_of: training data set that has the camera, for a model that uses cameras; None = that of the table.
        accept: the false accept rate that the threshold belongs to; None = it was given as a distance.
        camera_norm: what is taken out of the vectors of each camera, by the statistics of the table.

    """

    count: int = 10
    threshold: float | None = None
    cameras: str = "all"
    camera: str | None = None
    pattern: str | None = None
    cameras_of: str | None = None
    accept: float | None = None
    camera_norm: CameraNorm = "none"


def calibrated(options: SearchOptions, run: Path, table: Embeddings) -> tuple[SearchOptions, list[str]]:
    """Return options with the threshold that a model has at the rate `accept`, and notes about it.

    Raises:
        UserError: the model is not calibrated for that rate, or a threshold or camera norm is given beside it.

    """
    if options.accept is None:
        return options, []
    require_no_threshold(options.threshold)
    distance, calibration = accepted_distance(run, options.accept)
    if options.camera_norm not in ("none", calibration.camera_norm):
        raise UserError(
            f"the model is calibrated with camera norm {calibration.camera_norm!r}, so --camera-norm "
            f"{options.camera_norm} does not fit its thresholds; calibrate it with that one"
        )
    note = domain_note(calibration, table.dataset)
    calibrated_options = replace(options, threshold=distance, camera_norm=calibration.camera_norm)
    return calibrated_options, [] if note is None else [note]


def search_table(model: Model, table: Embeddings, place: Path, options: SearchOptions) -> list[Answer]:
    """Search for an image, or for every image below a folder.

    Raises:
        UserError: no image, vectors of another model, or options that do not fit the table or each other.

    """
    require_threshold(options.threshold)
    unused = options.pattern is not None or (options.camera is not None and not model.cameras.count)
    if options.cameras == "all" and unused:
        raise UserError("--camera and --pattern set the query's camera for --other-cameras; add --other-cameras")
    listed = images_of(place)
    if not listed:
        raise UserError(f"no image in {place}")
    images = np.array([str(path) for path, _ in listed])
    cameras = None
    if options.cameras == "other":
        cameras = query_cameras(table, images, camera=options.camera, pattern=options.pattern)
    table_cameras = cameras
    if options.camera_norm != "none" and cameras is None:
        table_cameras = query_cameras(table, images, pattern=options.pattern, untold="unknown")
    lists = search_all(
        model,
        table,
        images,
        count=options.count,
        threshold=options.threshold,
        other_than=cameras,
        cam=model_cameras(model, table, images, camera=options.camera, dataset=options.cameras_of),
        camera_norm=options.camera_norm,
        table_cam=table_cameras,
    )
    numbers = [ELSEWHERE] * len(images) if cameras is None else cameras.tolist()
    known = [None if camera == ELSEWHERE else camera for camera in numbers]
    return [
        Answer(image, camera, tuple(hits)) for image, camera, hits in zip(images.tolist(), known, lists, strict=True)
    ]


def answers_json(answers: Sequence[Answer], options: SearchOptions) -> dict[str, object]:
    """Return answers as plain JSON values."""
    return {
        "options": asdict(options),
        "queries": [
            {
                "query": answer.query,
                "camera": answer.camera,
                "found": [{"rank": rank, **asdict(hit)} for rank, hit in enumerate(answer.hits, start=1)],
            }
            for answer in answers
        ],
    }


def draw_answers(answers: Sequence[Answer], path: Path) -> None:
    """Write a picture with a row for each of the first 50 images that were searched for.

    Raises:
        UserError: an ending that is no kind of picture.

    """
    require_ending(path)
    strips = []
    for answer in answers[:MOST_DRAWN]:
        camera = UNKNOWN if answer.camera is None else answer.camera
        shots = tuple(
            ListImage(hit.path, hit.pid, hit.cam, rank, "found", caption=f"{rank}:  {hit.distance:.3f}")
            for rank, hit in enumerate(answer.hits, start=1)
        )
        query = ListImage(answer.query, UNKNOWN, camera, 0, "query")
        words = (
            f"{Path(answer.query).name}: {len(shots) or 'no'} image{'' if len(shots) == 1 else 's'} by cosine distance"
        )
        strips.append(Strip(RankedList(query, shots, (), len(shots)), words.replace("$", r"\$")))
    save_figure(draw_strips(strips), path)


@dataclass(frozen=True)
class Verdict:
    """Cosine distance of two images, in [0, 2], and the threshold of the decision, if any."""

    distance: float
    threshold: float | None

    @property
    def same(self) -> bool | None:
        """Whether both show one person; None without a threshold."""
        return None if self.threshold is None else self.distance <= self.threshold

    def __str__(self) -> str:
        """One sentence."""
        apart = f"distance {self.distance:.4f}"
        if self.threshold is None:
            return f"{apart}; a decision needs --threshold"
        return f"{apart}, {'same person' if self.same else 'different people'} at threshold {self.threshold:g}"

    def to_json(self) -> dict[str, object]:
        """Return plain JSON values."""
        return {**asdict(self), "same": self.same}


def verify_images(
    model: Model, first: Path, second: Path, *, threshold: float | None = None, camera: GivenCamera = UNGIVEN
) -> Verdict:
    """Compare two images and, with a threshold, decide between same and different person.

    Args:
        model: makes the vectors.
        first: a file.
        second: another file.
        threshold: largest cosine distance of one person; None = no decision.
        camera: that of both images or of each, for a model that uses cameras.

    Raises:
        UserError: an image that cannot be read, or a threshold that is no cosine distance.

    """
    require_threshold(threshold)
    cam = camera.rows(model, camera.fill(np.full(2, UNKNOWN)))
    return Verdict(image_distance(model, first, second, cam=cam), threshold)
