"""Listing of a data set's folder: images with the labels from their file names, and their masks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from passerby.data.image_files import MASK_FOLDER, folder_names, image_names
from passerby.data.names import existing_form, nfc, require_text
from passerby.data.readers.numbers import fitting, ordered
from passerby.errors import UserError
from passerby.types import Split


@dataclass(frozen=True, slots=True)
class Shot:
    """One image with the labels from its file name.

    Attributes:
        path: the part below the folder of the data set, with forward slashes.
        pid, cam: numbers, -1 = unknown.
        frame: number in the recording, of any size, or None.
        clothes: number of the clothes, -1 = unknown, or None where the data set does not tell clothes.
        tracklet: number of the tracklet, or None where the data set has none.

    """

    path: str
    pid: int
    cam: int
    frame: int | None = None
    clothes: int | None = None
    tracklet: int | None = None


def existing_folder(root: str, *, kind: str, expected: str) -> Path:
    """Return `root` as a path with `~` expanded; an error names the expected contents.

    Raises:
        UserError: there is no such folder, or its name is not UTF-8.

    """
    require_text(root)
    path = existing_form(Path(root).expanduser())
    if path.is_dir():
        return path
    problem = "is a file, not a folder" if path.exists() else "does not exist"
    raise UserError(f"{kind}: {path} {problem}; expected {expected} there")


def locate(root: str, *, kind: str, holds: Callable[[Path], bool], expected: str) -> Path:
    """Return the folder that has the layout: `root` itself or the only such folder one level below.

    Args:
        root: what the user gave.
        kind: named at the start of an error.
        holds: whether a folder has the layout.
        expected: the layout in words, for the error.

    Raises:
        UserError: no such folder, the layout is not there, or several folders below `root` have it.

    """
    path = existing_folder(root, kind=kind, expected=expected)
    if holds(path):
        return path
    below = folder_names(path)
    matching = [name for name in below if holds(path / name)]
    if len(matching) == 1:
        return path / matching[0]
    if matching:
        raise UserError(f"{kind}: {path} holds several such folders ({', '.join(matching)}); give one of them as root")
    raise UserError(f"{kind}: expected {expected} in {path} or one level below, found {some(below, 'no folder')}")


def some(names: Sequence[str], nothing: str) -> str:
    """Return the first five names in words, or `nothing`.

    >>> some(["a", "b", "c", "d", "e", "f", "g"], "no folder")
    'a, b, c, d, e and 2 more'
    """
    further = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return ", ".join(names[:5]) + further if names else nothing


def split_of(shots: Sequence[Shot], folder: Path, *, masks: str | None = None) -> Split:
    """Return the columns of `shots`, whose paths are below `folder`, with their masks where there are any.

    Args:
        shots: the images with the labels from their names.
        folder: where the images are.
        masks: where their masks are; None looks inside and beside `folder`.

    Raises:
        UserError: there is no folder `masks`.

    """
    relative = [shot.path for shot in shots]
    mask_paths = find_masks(relative, folder, masks=masks)
    return columns(shots, [f"{folder}/{path}" for path in relative], masks=mask_paths)


def columns(shots: Sequence[Shot], paths: Sequence[str], *, masks: Sequence[str]) -> Split:
    """Return the columns of `shots` with their full paths; `masks` has one path or `""` for each.

    Raises:
        UserError: an identity or camera of more digits than a column can hold.

    """
    frames = [shot.frame for shot in shots if shot.frame is not None]
    clothes = [shot.clothes for shot in shots if shot.clothes is not None]
    tracklets = [shot.tracklet for shot in shots if shot.tracklet is not None]
    return Split(
        path=np.array(paths, dtype=np.str_),
        pid=fitting([shot.pid for shot in shots], "identity", paths),
        cam=fitting([shot.cam for shot in shots], "camera", paths),
        frame=ordered(frames) if shots and len(frames) == len(shots) else None,
        mask_path=np.array(masks, dtype=np.str_) if any(masks) else None,
        clothes=fitting(clothes, "clothes", paths) if shots and len(clothes) == len(shots) else None,
        tracklet=fitting(tracklets, "tracklet", paths) if shots and len(tracklets) == len(shots) else None,
    )


def find_masks(relative: Iterable[str], folder: Path, *, masks: str | None = None) -> list[str]:
    """Return for each image the path of its mask, or `""`.

    A mask has the image's relative path with the ending `.png`, below `folder/masks` or, beside the data set, below
    `folder/../masks/<name of folder>`; with `masks` given, below `masks` or `masks/<name of folder>` instead.

    Raises:
        UserError: there is no folder `masks`.

    """
    absolute = folder.absolute()
    places = [folder / MASK_FOLDER, absolute.parent / MASK_FOLDER / absolute.name]
    if masks is not None:
        mask_folder = existing_folder(
            masks, kind="masks", expected="one .png for each image, at the same relative path,"
        )
        places = [mask_folder, mask_folder / absolute.name]
    places = [place for place in places if place.is_dir()]
    below: dict[str, dict[str, str]] = {}
    paths: list[str] = []
    for path in relative:
        parent, _, name = path.rpartition("/")
        if parent not in below:
            below[parent] = _masks_below(places, parent)
        paths.append(below[parent].get(nfc(name.rpartition(".")[0]) + ".png", ""))
    return paths


def _masks_below(places: Sequence[Path], parent: str) -> dict[str, str]:
    folders = [folder for place in reversed(places) if (folder := existing_form(place / parent)).is_dir()]
    return {nfc(name): f"{folder}/{name}" for folder in folders for name in image_names(folder)}
