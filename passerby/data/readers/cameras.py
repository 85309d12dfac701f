"""Cameras in the names of folders and files, as in `cam01/`, `CAM-A/`, `c2` or `camera_2`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from passerby.data.readers.listing import some

FOLDER = re.compile(
    r"(?i:(?:cam(?:era)?|view)[-_ ]?(\d+)|(?:cam(?:era)?|view)[-_ ]([a-z])|c[-_ ]?(\d+))|(?:[Cc]am(?:era)?|CAM)([A-Z])",
    re.ASCII,
)
"""The whole name of a folder of one camera."""

TOKEN = re.compile(r"(?<![a-z])(?:cam(?:era)?[-_ ]?|c)(\d+)(?=[st]\d|[^a-z0-9]|$)", re.ASCII | re.IGNORECASE)
"""Pattern of a camera in a name."""

ENOUGH = 0.75
"""Share of the images whose names must hold a camera. Above it the others have an unknown camera; below it, a camera in
a few names is rather chance, and no camera is known.
"""


def camera_of_folder(name: str) -> str:
    """Return the camera of a folder that is named by it alone, without leading zeros, or `""`.

    >>> camera_of_folder("cam01"), camera_of_folder("CAM-A"), camera_of_folder("camille")
    ('1', 'a', '')
    """
    match = FOLDER.fullmatch(name)
    return "" if match is None else _plain(next(group for group in match.groups() if group))


def camera_of(path: str) -> str:
    """Return the camera in the folders or the file name of a path, or `""`.

    >>> camera_of("anna/cam01/7.jpg"), camera_of("anna/x_c2.jpg"), camera_of("anna/7.jpg")
    ('1', '2', '')
    """
    for folder in reversed(path.split("/")[:-1]):
        if cam := camera_of_folder(folder):
            return cam
    token = TOKEN.search(path)
    return "" if token is None else _plain(token[1])


def _plain(word: str) -> str:
    return word.lower().lstrip("0") or "0"


@dataclass(frozen=True)
class CameraNames:
    """The cameras of some images.

    Attributes:
        names: one for each image, `""` = unknown.
        notes: images without a camera, where others have one.

    """

    names: list[str]
    notes: tuple[str, ...] = ()


def read_cameras(names: Sequence[str], paths: Sequence[str]) -> CameraNames:
    """Return the camera of each image; unknown for all unless at least `ENOUGH` of the names hold one.

    Args:
        names: where a camera is looked for: the path of each image or its end.
        paths: the images, for the notes.

    """
    cameras = [camera_of(name) for name in names]
    bare = [path for path, camera in zip(paths, cameras, strict=True) if not camera]
    count, count_known = len(cameras), len(cameras) - len(bare)
    if not bare or not count_known:
        return CameraNames(cameras)
    if count_known >= ENOUGH * count:
        note = (
            f"{len(bare):,} of {count:,} images have no camera in their name (as in c2 or cam2) and get the unknown "
            f"camera -1, which counts as one camera: {some(bare, '')}; rename them, or give a pattern with {{cam}}."
        )
        return CameraNames(cameras, (note,))
    note = (
        f"Only {count_known:,} of {count:,} images have a camera in their name (as in c2 or cam2), fewer than "
        f"{100 * ENOUGH:.0f} %, so all cameras are taken as unknown (without one: {some(bare, '')}); rename them, or "
        "give a pattern with {cam}."
    )
    return CameraNames([""] * count, (note,))
