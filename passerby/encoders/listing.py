"""List the images of a data set, or of files and folders, that are to be embedded."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from passerby.data.image_files import images_below, why_none
from passerby.data.joining import number_cameras
from passerby.data.names import existing_form, require_text
from passerby.data.readers.cameras import read_cameras
from passerby.data.readers.named_images import number_names
from passerby.encoders.cameras import UNGIVEN, GivenCamera, unknown_camera_note
from passerby.encoders.model import Model, require_maskless
from passerby.errors import UserError, did_you_mean
from passerby.types import UNKNOWN, Dataset, Ints, SplitName
from passerby.types.listed import ListedImages


def list_dataset(
    model: Model,
    dataset: Dataset,
    *,
    splits: Sequence[SplitName],
    cameras_of: str | None = None,
    say: Callable[[str], None] | None = None,
) -> ListedImages:
    """Return the images of splits of a data set, in the order train, query, gallery; see `embed_dataset`.

    Raises:
        UserError: no split or no image in them, an unknown camera that the model refuses, or a model that needs masks.

    """
    splits = read_split_names(splits)
    if not splits:
        raise UserError("no split to embed; give train, query or gallery")
    dataset = number_cameras(dataset, model.cameras, name=GivenCamera(None, cameras_of).dataset_of(model))
    require_maskless(model)
    parts = {name: getattr(dataset, name) for name in ("train", "query", "gallery") if name in splits}
    role = np.repeat(["" if name == "train" else name for name in parts], [len(split) for split in parts.values()])
    path, pid, cam, row = (
        np.concatenate([getattr(split, column) for split in parts.values()])
        for column in ("path", "pid", "cam", "cam_row")
    )
    if not len(path):
        raise UserError(f"{dataset.name} has no images in {', '.join(parts)}")
    note_cameras(model, row, say)
    return ListedImages(path, pid, cam, role, row, dataset.name)


def list_images(
    model: Model, places: Sequence[Path], *, camera: GivenCamera = UNGIVEN, say: Callable[[str], None] | None = None
) -> ListedImages:
    """Return image files and all images below folders; see `embed_images`.

    Raises:
        UserError: a place that is not there, no image in all of them, an unknown camera that the model refuses, or a
            model that needs masks.

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
    note_cameras(model, cam_row, say)
    return ListedImages(names, np.full(len(names), UNKNOWN), cam, np.full(len(names), ""), cam_row)


def images_of(place: Path) -> list[tuple[Path, str]]:
    """Return the images of a file or folder, each with its name below the folder."""
    require_text(str(place))
    place = existing_form(place)
    if os.path.isdir(place):  # noqa: PTH112 - unlike Path.is_dir, it raises nothing
        return [(place / name, name) for name in images_below(place)]
    if not os.path.exists(place):  # noqa: PTH110
        raise UserError(f"no file or folder {place}")
    return [(place, place.name)]


def read_split_names(splits: Sequence[str]) -> list[SplitName]:
    """Return names of splits, or raise `UserError` where one is none of train, query and gallery."""
    allowed: dict[str, SplitName] = {"train": "train", "query": "query", "gallery": "gallery"}
    for name in splits:
        if name not in allowed:
            raise UserError(f"split {name!r} is not one of {', '.join(allowed)}{did_you_mean(name, allowed)}")
    return [allowed[name] for name in splits]


def note_cameras(model: Model, rows: Ints, say: Callable[[str], None] | None) -> None:
    """Call `say` with a note on images (N,) of unknown cameras, where there are any."""
    note = unknown_camera_note(model, rows)
    if note is not None and say is not None:
        say(note)
