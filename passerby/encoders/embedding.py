"""Embed a data set, or image files and folders, by a trained model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from passerby.data.decoding import ImageError, decode
from passerby.data.joining import number_cameras
from passerby.encoders.cameras import UNGIVEN, GivenCamera
from passerby.encoders.listing import list_dataset, list_images, note_cameras, read_split_names
from passerby.encoders.model import Model, Progress
from passerby.errors import UserError
from passerby.inference.embed import WHOLE, View
from passerby.inference.tested import label_vectors, tested_split, tested_view
from passerby.types import Dataset, Embeddings, Floats, Ints, SplitName, Words
from passerby.types.listed import ListedImages

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
    if set(read_split_names(splits)) == set(TESTED) and leave_out is None:
        dataset = number_cameras(dataset, model.cameras, name=GivenCamera(None, cameras_of).dataset_of(model))
        return _embed_tested(model, dataset, view=view, progress=progress, say=say)
    images = list_dataset(model, dataset, splits=splits, cameras_of=cameras_of, say=say)
    return _embed_listed(model, images, progress=progress, leave_out=leave_out)


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
    note_cameras(model, split.cam_row, say)
    vectors = model.vectors(split.path, cam=split.cam_row, view=view, progress=progress)
    return label_vectors(vectors, dataset, feature=model.feature, flip=model.flip, input_mask=view.input_mask)


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
    images = list_images(model, places, camera=camera, say=say)
    return _embed_listed(model, images, progress=progress, leave_out=leave_out)


def _embed_listed(
    model: Model, images: ListedImages, *, progress: Progress | None, leave_out: Callable[[str], None] | None
) -> Embeddings:
    vectors, rows = readable_vectors(model, images.path, images.cam_row, progress=progress, leave_out=leave_out)
    if not len(rows):
        raise UserError(f"none of {len(images):,} images can be read; see them with `passerby data check`")
    return images.table(vectors, rows, feature=model.feature, flip=model.flip)


def readable_vectors(
    model: Model,
    names: Words,
    cam: Ints,
    *,
    progress: Progress | None = None,
    leave_out: Callable[[str], None] | None,
) -> tuple[Floats, Ints]:
    """Return the vectors (M, D) of the images that can be read, and their rows (M,), none where no image can be read.

    Only a chunk of files in which the model meets a damaged one is looked through, so sound files are read once.

    Args:
        model: makes the vectors.
        names: (N,) files.
        cam: (N,) rows of the cameras of the model.
        progress: called with (images done, of how many).
        leave_out: called with a sentence for each image that cannot be read; None = such an image is refused.

    Raises:
        UserError: an image that cannot be read and may not be left out, or an unknown camera that the model refuses.

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
        return np.empty((0, 0), np.float32), np.empty(0, np.int64)
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
