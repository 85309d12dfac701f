"""Check of a data set: its contents, problems and warnings.

A *problem* prevents training or evaluation; a *warning* makes scores doubtful or worse. Every file is checked before
the report is returned, so that all faults are listed at once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from passerby.data.ahead import ahead, reading_threads
from passerby.data.duplicates import contradictions, same_content
from passerby.data.fitness import uses
from passerby.data.inspect import ImageFile, inspect_file
from passerby.types import UNKNOWN, Cameras, Dataset, Ints, Split, camera_rule

SMALL = 16
"""An image with a side below this many pixels shows next to nothing."""


@dataclass(frozen=True, eq=False)
class SkippedQueries:
    """Queries that an evaluation leaves out, by reason; rows of the query split.

    Attributes:
        unknown: the identity of the query is not known.
        absent: the gallery has no image of the identity.
        same_camera: the gallery has the identity, but only where the rule does not look: in the camera of the query
            (`standard`) or in the very same file (`ignore`).

    """

    unknown: Ints
    absent: Ints
    same_camera: Ints

    @property
    def count(self) -> int:
        """Number of queries that are left out."""
        return len(self.unknown) + len(self.absent) + len(self.same_camera)


def skipped_queries(query: Split, gallery: Split, *, cameras: Cameras) -> SkippedQueries:
    """Return the queries for which no gallery image can count as a match.

    Cameras are compared as numbers, so two unknown cameras (-1) count as the same one, unless no camera is known.
    """
    cameras = camera_rule(query, gallery, cameras)
    if cameras == "standard":
        query_group, gallery_group = query.cam.tolist(), gallery.cam.tolist()
    else:
        query_group, gallery_group = query.path.tolist(), gallery.path.tolist()
    query_pid, gallery_pid = query.pid.tolist(), gallery.pid.tolist()
    images, left_out = Counter(gallery_pid), Counter(zip(gallery_pid, gallery_group, strict=True))
    is_present = np.array([images[pid] > 0 for pid in query_pid], dtype=np.bool_)
    remaining = [images[pid] - left_out[pid, place] for pid, place in zip(query_pid, query_group, strict=True)]
    has_match, is_known = np.array(remaining, dtype=np.int64) > 0, query.pid != UNKNOWN
    return SkippedQueries(
        unknown=np.flatnonzero(~is_known),
        absent=np.flatnonzero(is_known & ~is_present),
        same_camera=np.flatnonzero(is_known & is_present & ~has_match),
    )


@dataclass(frozen=True)
class SplitFacts:
    """Counts of one split."""

    name: str
    count_images: int
    count_identities: int
    count_cameras: int


@dataclass(frozen=True)
class CameraFacts:
    """Counts of one camera, in training and in query and gallery together; cam -1 = unknown."""

    cam: int
    train_identities: int
    train_images: int
    test_identities: int
    test_images: int


@dataclass(frozen=True)
class Sizes:
    """Pixels of the readable images: smallest, median, largest."""

    width: tuple[int, int, int]
    height: tuple[int, int, int]


@dataclass(frozen=True, eq=False)
class CheckReport:
    """Results of a check.

    Attributes:
        dataset: the checked data set.
        cameras: the camera rule of the check.
        splits: train, query, gallery.
        per_camera: one entry per camera.
        sizes: of the images, None when none can be read.
        broken: files that cannot be used.
        animated: files of several frames or pages.
        small: readable images with a side below `SMALL` pixels.
        duplicates: pairs (query, gallery) of paths with the same content.
        leaked_duplicates: pairs (train, test) of paths with the same content.
        contradictions: pairs of paths with the same content and different identities.
        leaked: identities that are both trained on and tested.
        lonely: training identities with a single image.
        one_camera: training identities with several images, all from one camera, where there are several cameras.
        without_mask: images without the mask that their split promises.
        skipped: queries that an evaluation would leave out.

    """

    dataset: Dataset
    cameras: Cameras
    splits: tuple[SplitFacts, ...]
    per_camera: tuple[CameraFacts, ...]
    sizes: Sizes | None
    broken: tuple[ImageFile, ...]
    animated: tuple[str, ...]
    small: tuple[str, ...]
    duplicates: tuple[tuple[str, str], ...]
    leaked_duplicates: tuple[tuple[str, str], ...]
    contradictions: tuple[tuple[str, str], ...]
    leaked: tuple[int, ...]
    lonely: tuple[int, ...]
    one_camera: tuple[int, ...]
    without_mask: tuple[str, ...]
    skipped: SkippedQueries

    @property
    def problems(self) -> tuple[str, ...]:
        """Sentences on faults that make training or evaluation impossible."""
        train, query, gallery = self.dataset.train, self.dataset.query, self.dataset.gallery
        sentences: list[str] = []
        if not len(train) and not len(query) and not len(gallery):
            sentences.append("There is no image.")
        if len(query) and len(gallery) and self.skipped.count == len(query):
            sentences.append(f"No query can be evaluated: {_why_skipped(self)}.")
        if train.count_identities == 1:
            sentences.append("Training has one identity only; it needs two or more.")
        if self.broken:
            some_of = _examples([f"{file.path} {file.fault}" for file in self.broken])
            sentences.append(f"{_count(len(self.broken), 'file')} cannot be used: {some_of}.")
        return tuple(sentences)

    @property
    def uses(self) -> tuple[str, ...]:
        """Sentences on the possible uses of the data set, and on missing data for other uses."""
        scored = len(self.dataset.query) - self.skipped.count if len(self.dataset.gallery) else 0
        return uses(self.dataset, count_scored=scored)

    @property
    def warnings(self) -> tuple[str, ...]:
        """Sentences on faults that make training or scores worse, or doubtful."""
        return (*_training_warnings(self), *_test_warnings(self), *_content_warnings(self))


def check_dataset(dataset: Dataset, *, cameras: Cameras, decode: bool = True) -> CheckReport:
    """Check every file and every label of a data set.

    Args:
        dataset: as read.
        cameras: the rule that it is to be evaluated with.
        decode: read every pixel; False reads the headers only, which is faster and does not find cut files.

    """
    train, query, gallery = dataset.train, dataset.query, dataset.gallery
    every = (train, query, gallery)
    paths = list(dict.fromkeys(path for split in every for path in split.path.tolist()))
    threads = reading_threads()
    inspected = ahead(partial(inspect_file, decode=decode), paths, workers=threads, depth=4 * max(1, threads))
    files = dict(zip(paths, inspected, strict=True))
    readable = [file for file in files.values() if not file.fault]
    tested = set(query.pid.tolist()) | set(gallery.pid.tolist())
    images, cameras_per_identity = _images_per_identity(train), _cameras_per_identity(train)
    return CheckReport(
        dataset=dataset,
        cameras=cameras,
        splits=tuple(
            SplitFacts(name, len(split), split.count_identities, split.count_cameras)
            for name, split in zip(("train", "query", "gallery"), every, strict=True)
        ),
        per_camera=_camera_facts(dataset),
        sizes=_sizes(readable),
        broken=tuple(file for file in files.values() if file.fault),
        animated=tuple(file.path for file in readable if file.frames > 1),
        small=tuple(file.path for file in readable if min(file.width, file.height) < SMALL),
        duplicates=same_content([query], [gallery], files),
        leaked_duplicates=same_content([train], [query, gallery], files),
        contradictions=contradictions(every, files),
        leaked=tuple(sorted(set(train.pid.tolist()) & tested - {UNKNOWN})),
        lonely=tuple(pid for pid, count in images.items() if count == 1),
        one_camera=tuple(
            pid
            for pid, cameras_of in cameras_per_identity.items()
            if images[pid] > 1 and len(cameras_of) == 1 and UNKNOWN not in cameras_of and train.count_cameras > 1
        ),
        without_mask=_without_mask(every),
        skipped=skipped_queries(query, gallery, cameras=cameras),
    )


def _images_per_identity(split: Split) -> Mapping[int, int]:
    return dict(sorted(Counter(pid for pid in split.pid.tolist() if pid != UNKNOWN).items()))


def _cameras_per_identity(split: Split) -> Mapping[int, set[int]]:
    cameras: dict[int, set[int]] = {}
    for pid, cam in zip(split.pid.tolist(), split.cam.tolist(), strict=True):
        if pid != UNKNOWN:
            cameras.setdefault(pid, set()).add(cam)
    return dict(sorted(cameras.items()))


def _camera_facts(dataset: Dataset) -> tuple[CameraFacts, ...]:
    train = dataset.train
    test_pid = np.concatenate([dataset.query.pid, dataset.gallery.pid])
    test_cam = np.concatenate([dataset.query.cam, dataset.gallery.cam])
    facts: list[CameraFacts] = []
    for cam in sorted({*train.cam.tolist(), *test_cam.tolist()}):
        trained, tested = train.pid[train.cam == cam], test_pid[test_cam == cam]
        counts = [len(np.unique(pids[pids != UNKNOWN])) for pids in (trained, tested)]
        facts.append(CameraFacts(cam, counts[0], len(trained), counts[1], len(tested)))
    return tuple(facts)


def _sizes(readable: Sequence[ImageFile]) -> Sizes | None:
    if not readable:
        return None
    width, height = (sorted(side) for side in zip(*((file.width, file.height) for file in readable), strict=True))
    middle = len(readable) // 2
    return Sizes((width[0], width[middle], width[-1]), (height[0], height[middle], height[-1]))


def _without_mask(splits: Iterable[Split]) -> tuple[str, ...]:
    return tuple(
        path
        for split in splits
        if split.mask_path is not None
        for path, mask in zip(split.path.tolist(), split.mask_path.tolist(), strict=True)
        if not mask or not Path(mask).is_file()
    )


def _count(number: int, noun: str) -> str:
    plural = f"{noun[:-1]}ies" if noun.endswith("y") else f"{noun}s"
    return f"{number:,} {noun if number == 1 else plural}"


def _examples(words: Sequence[str]) -> str:
    return ", ".join(words[:3]) + (f" and {len(words) - 3:,} more" if len(words) > 3 else "")


def _why_skipped(report: CheckReport) -> str:
    skipped, path = report.skipped, report.dataset.query.path
    exclusion = "the camera of the query" if report.cameras == "standard" else "the query's own file"
    reasons = [
        (skipped.unknown, "of unknown identity"),
        (skipped.absent, "with no image of the identity in the gallery"),
        (skipped.same_camera, f"with gallery images of the identity only in {exclusion}"),
    ]
    parts = [f"{len(rows):,} {reason} (such as {path[rows[0]]})" for rows, reason in reasons if len(rows)]
    hint = "; `cameras: ignore` counts images of the same camera" if len(skipped.same_camera) else ""
    return ", ".join(parts) + (hint if report.cameras == "standard" else "")


def _training_warnings(report: CheckReport) -> list[str]:
    train = report.dataset.train
    unknown = int((train.pid == UNKNOWN).sum())
    sentences: list[str] = []
    if not len(train):
        sentences.append("There is nothing to train on.")
    if unknown:
        sentences.append(
            f"{_count(unknown, 'training image')} of unknown identity: only training without labels uses these."
        )
    if report.lonely:
        numbers = _examples([str(pid) for pid in report.lonely])
        sentences.append(
            f"{_count(len(report.lonely), 'training identity')} with a single image, which has no pair: {numbers}."
        )
    if report.one_camera:
        numbers = _examples([str(pid) for pid in report.one_camera])
        sentences.append(
            f"{_count(len(report.one_camera), 'training identity')} seen by one camera only, which gives no pair "
            f"across cameras: {numbers}."
        )
    return sentences


def _test_warnings(report: CheckReport) -> list[str]:
    query, gallery = report.dataset.query, report.dataset.gallery
    unknown = int((gallery.pid == UNKNOWN).sum())
    sentences: list[str] = []
    if len(query) and not len(gallery):
        sentences.append("There is no gallery, so nothing can be evaluated.")
    if len(gallery) and not len(query):
        sentences.append("There is no query, so nothing can be evaluated.")
    if len(gallery) and 0 < report.skipped.count < len(query):
        count = f"{report.skipped.count:,} of {_count(len(query), 'query')}"
        sentences.append(f"{count} would be left out of an evaluation: {_why_skipped(report)}.")
    if unknown:
        sentences.append(f"{_count(unknown, 'gallery image')} of unknown identity: an evaluation leaves these out.")
    if report.leaked:
        numbers = _examples([str(pid) for pid in report.leaked])
        sentences.append(
            f"{_count(len(report.leaked), 'identity')} both in training and in the test, so scores are "
            f"inflated: {numbers}."
        )
    return sentences


def _content_warnings(report: CheckReport) -> list[str]:
    pairs = (
        (report.duplicates, "Query and gallery files with the same image"),
        (report.leaked_duplicates, "Training and test files with the same image"),
        (report.contradictions, "Images with two identities"),
    )
    sentences = [
        f"{title}: {len(paths):,} ({_examples([f'{a} = {b}' for a, b in paths])})." for paths, title in pairs if paths
    ]
    if report.small:
        sentences.append(
            f"{_count(len(report.small), 'image')} with a side below {SMALL} pixels: {_examples(report.small)}."
        )
    if report.animated:
        sentences.append(
            f"{_count(len(report.animated), 'file')} with several frames or pages, of which the first one is used: "
            f"{_examples(report.animated)}."
        )
    if report.without_mask:
        sentences.append(
            f"{_count(len(report.without_mask), 'image')} without a mask: {_examples(report.without_mask)}."
        )
    return sentences


def describe_dataset(dataset: Dataset) -> str:
    """Return a short table of the three splits, with the notes of the reader."""
    rows = [
        f"  {name:8}{len(split):>8,}{split.count_identities:>12,}{split.count_cameras:>9,}{_count_masks(split):>8,}"
        for name, split in (("train", dataset.train), ("query", dataset.query), ("gallery", dataset.gallery))
    ]
    notes = [f"  note: {note}" for note in dataset.notes]
    title = f"  {'split':8}{'images':>8}{'identities':>12}{'cameras':>9}{'masks':>8}"
    return "\n".join([dataset.title, *notes, title, *rows])


def _count_masks(split: Split) -> int:
    return 0 if split.mask_path is None else int((split.mask_path != "").sum())


def render_check(report: CheckReport) -> str:
    """Return the report as plain text."""
    titles = ("camera", "train ids", "images", "test ids", "images")
    cameras = [
        (f.cam, f"{f.train_identities:,}", f"{f.train_images:,}", f"{f.test_identities:,}", f"{f.test_images:,}")
        for f in report.per_camera
    ]
    lines = [describe_dataset(report.dataset), ""]
    lines += ["  " + "".join(f"{cell:>14}" for cell in row) for row in (titles, *cameras)]
    if report.sizes is not None:
        sides = (("width", report.sizes.width), ("height", report.sizes.height))
        lines += [f"  {side} {low} to {high} pixels, median {middle}" for side, (low, middle, high) in sides]
    if report.uses:
        lines += ["", "  fit for:", *(f"    {sentence}" for sentence in report.uses)]
    for title, sentences in (("problem", report.problems), ("warning", report.warnings)):
        if sentences:
            lines += ["", f"  {_count(len(sentences), title)}:", *(f"    {sentence}" for sentence in sentences)]
    if not report.problems and not report.warnings:
        lines += ["", "  no problem and no warning"]
    return "\n".join(lines)
