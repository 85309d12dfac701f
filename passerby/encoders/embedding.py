"""Embed a data set, or image files and folders, by a trained model."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from passerby.data.decoding import ImageError, decode
from passerby.data.image_files import images_below, why_none
from passerby.data.joining import number_cameras
from passerby.data.names import existing_form, require_text
from passerby.data.readers.cameras import read_cameras
from passerby.data.readers.named_images import number_names
from passerby.encoders.cameras import UNGIVEN, GivenCamera, unknown_camera_note
from passerby.encoders.model import Model, Progress, require_maskless
from passerby.errors import UserError, did_you_mean
from passerby.inference.embed import WHOLE, View
from passerby.inference.tested import label_vectors, tested_split, tested_view
from passerby.types import UNKNOWN, Dataset, Embeddings, Floats, Ints, SplitName, Words

TESTED: tuple[SplitName, ...] = ("query", "gallery")
CHUNK = 1024
"""Images between two looks for damaged files."""


def embed_dataset(
    model: Model,
    dataset: Dataset,
    *,
    splits: Sequence[SplitName] = TESTED,
    view: View | None = None,
    cameras_of: str | None = None,
    progress: Progress | None = None,
    leave_out: Callable[[str], None] | None = None,
    say: Callable[[str], None] | None = None,
) -> Embeddings:
    """Embed splits of a data set, with identities, cameras and roles; the role of training images is `""`.

    Args:
        model: makes the vectors.
        dataset: as read.
        splits: any of `train`, `query` and `gallery`; each is embedded once, in the order train, query, gallery.
        view: what the model is shown of query and gallery; None = as its recipe tests it.
        cameras_of: training data set whose cameras the images have; None = that of the name of the data set.
        progress: called with (images done, of how many).
        leave_out: called with a sentence for each image that cannot be read, which is then left out; None = such an
            image is refused.
        say: called with notes on cameras; None drops them.

    Raises:
        UserError: no split, an image that cannot be read, an unknown camera that the model refuses, or a model that
            needs masks where more than query and gallery is embedded or images may be left out.

    """
    splits = read_split_names(splits)
    if not splits:
        raise UserError("no split to embed; give train, query or gallery")
    dataset = number_cameras(dataset, model.cameras, name=GivenCamera(None, cameras_of).dataset_of(model))
    if set(splits) == set(TESTED) and leave_out is None:
        return _embed_tested(model, dataset, view=view, progress=progress, say=say)
    require_maskless(model)
    parts = {name: getattr(dataset, name) for name in ("train", "query", "gallery") if name in splits}
    role = np.repeat(["" if name == "train" else name for name in parts], [len(split) for split in parts.values()])
    names, pid, cam, row = (
        np.concatenate([getattr(split, column) for split in parts.values()])
        for column in ("path", "pid", "cam", "cam_row")
    )
    if not len(names):
        raise UserError(f"{dataset.name} has no images in {', '.join(parts)}")
    _note_cameras(model, row, say)
    vectors, rows = _readable_vectors(model, names, row, progress=progress, leave_out=leave_out)
    return Embeddings(
        vectors, pid[rows], cam[rows], role[rows], names[rows], dataset.name, feature=model.feature, flip=model.flip
    )


def _embed_tested(
    model: Model,
    dataset: Dataset,
    *,
    view: View | None,
    progress: Progress | None,
    say: Callable[[str], None] | None,
) -> Embeddings:
    if view is None:
        view = WHOLE if model.recipe is None else tested_view(dataset, model.recipe.input_mask)
    split = tested_split(dataset)
    _note_cameras(model, split.cam_row, say)
    vectors = model.vectors(split.path, cam=split.cam_row, view=view, progress=progress)
    return label_vectors(vectors, dataset, feature=model.feature, flip=model.flip, input_mask=view.input_mask)


def _note_cameras(model: Model, rows: Ints, say: Callable[[str], None] | None) -> None:
    note = unknown_camera_note(model, rows)
    if note is not None and say is not None:
        say(note)


def read_split_names(splits: Sequence[str]) -> list[SplitName]:
    """Return names of splits, or raise `UserError` where one is none of train, query and gallery."""
    allowed: dict[str, SplitName] = {"train": "train", "query": "query", "gallery": "gallery"}
    for name in splits:
        if name not in allowed:
            raise UserError(f"split {name!r} is not one of {', '.join(allowed)}{did_you_mean(name, allowed)}")
    return [allowed[name] for name in splits]


def embed_images(
    model: Model,
    places: Sequence[Path],
    *,
    camera: GivenCamera = UNGIVEN,
    progress: Progress | None = None,
    leave_out: Callable[[str], None] | None = None,
    say: Callable[[str], None] | None = None,
) -> Embeddings:
    """Embed image files and all images below folders, without identities, with cameras where most paths hold one.

    Hidden files and folders of masks are left out, and links are followed, as in every listing of images.

    Args:
        model: makes the vectors.
        places: files and folders.
        camera: that of the images, for a model that uses cameras; without a number those in the names are taken.
        progress: called with (images done, of how many).
        leave_out: called with a sentence for each image that cannot be read, which is then left out; None = such an
            image is refused.
        say: called with notes on cameras; None drops them.

    Raises:
        UserError: a place that is not there, no image in all of them, none that can be read, or an unknown camera
            that the model refuses.

    """
    require_maskless(model)
    images = [image for place in places for image in images_of(place)]
    if not images:
        raise UserError(f"no image in {', '.join(map(str, places))}{why_none()}")
    names, below = np.array([str(path) for path, _ in images]), [name for _, name in images]
    words = read_cameras(below, below).names
    numbers = number_names(words)
    cam = camera.fill(np.array([numbers[word] for word in words]))
    cam_row = camera.rows(model, cam)
    _note_cameras(model, cam_row, say)
    vectors, rows = _readable_vectors(model, names, cam_row, progress=progress, leave_out=leave_out)
    unknown, blank = np.full(len(rows), UNKNOWN), np.full(len(rows), "")
    return Embeddings(vectors, unknown, cam[rows], blank, names[rows], feature=model.feature, flip=model.flip)


def images_of(place: Path) -> list[tuple[Path, str]]:
    """Return the images of a file or folder, each with its name below the folder."""
    require_text(str(place))
    place = existing_form(place)
    if os.path.isdir(place):  # noqa: PTH112 - unlike Path.is_dir, it raises nothing
        return [(place / name, name) for name in images_below(place)]
    if not os.path.exists(place):  # noqa: PTH110
        raise UserError(f"no file or folder {place}")
    return [(place, place.name)]


def _readable_vectors(
    model: Model, names: Words, cam: Ints, *, progress: Progress | None, leave_out: Callable[[str], None] | None
) -> tuple[Floats, Ints]:
    """Return the vectors of the images that can be read, and their rows.

    Only a chunk of files in which the model meets a damaged one is looked through, so sound files are read once.
    """
    if leave_out is None:
        return model.vectors(names, cam=cam, progress=progress), np.arange(len(names))
    vectors: list[Floats] = []
    rows: list[Ints] = []
    for start in range(0, len(names), CHUNK):
        chunk = np.arange(start, min(start + CHUNK, len(names)))
        tell = None if progress is None else partial(_advance, progress, start, len(names))
        try:
            part = model.vectors(names[chunk], cam=cam[chunk], progress=tell)
        except ImageError:
            chunk = chunk[[_is_readable(names[row], leave_out) for row in chunk]]
            if not len(chunk):
                continue
            part = model.vectors(names[chunk], cam=cam[chunk], progress=tell)
        vectors.append(part)
        rows.append(chunk)
    if not rows:
        raise UserError(f"none of {len(names):,} images can be read; see them with `passerby data check`")
    return np.concatenate(vectors), np.concatenate(rows)


def _advance(progress: Progress, start: int, count: int, done: int, _: int) -> None:
    progress(start + done, count)


def _is_readable(path: str, leave_out: Callable[[str], None]) -> bool:
    try:
        decode(path)
    except ImageError as error:
        leave_out(str(error))
        return False
    return True
