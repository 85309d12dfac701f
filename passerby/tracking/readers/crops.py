"""Folders of crops with tracklet ids in their names: MARS, one folder per tracklet, or `ID_NUMBER.jpg`.

The crops stay where they are; their boxes and frames are gone, so quality is size and sharpness alone.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from passerby.data.image_files import images_below, why_none
from passerby.data.readers.mars import NAMING, TEST
from passerby.errors import UserError
from passerby.tracking.readers.table import pid_of

FLAT = re.compile(r"(?P<id>.*[^_-])[_-](?P<number>\d+)", re.ASCII)


@dataclass(frozen=True)
class CropTrack:
    """The crops of one tracklet.

    Attributes:
        id: of the tracklet.
        camera: as the name says, `""` where it says none.
        pid: true identity, -1 = unknown.
        paths: image files, in the order of time.
        numbers: the number in each name, -1 = none.

    """

    id: str
    camera: str
    pid: int
    paths: tuple[Path, ...]
    numbers: tuple[int, ...]


@dataclass(frozen=True)
class _Crop:
    id: str
    camera: str
    pid: int
    number: int
    name: str


def read_crops(folder: Path, *, true_ids: bool) -> list[CropTrack]:
    """Return the tracklets of a folder, sorted by id.

    Of MARS, `bbox_test` is read; any folder of images with its names may be given instead. Its identities are true ones
    always, except junk and distractors.

    Args:
        folder: of the crops.
        true_ids: whether the ids are true identities.

    Raises:
        UserError: no image, or names of no known layout.

    """
    folder = folder / TEST if (folder / TEST).is_dir() else folder
    names = list(images_below(folder))
    if not names:
        raise UserError(f"{folder} holds no tracks and no image{why_none()}")
    crops = sorted(_parsed(folder, names, true_ids), key=lambda crop: (crop.id, crop.number, crop.name))
    return list(_tracks(folder, crops))


def _tracks(folder: Path, crops: list[_Crop]) -> Iterator[CropTrack]:
    for id_, group in itertools.groupby(crops, key=lambda crop: crop.id):
        track = list(group)
        paths = tuple(folder / crop.name for crop in track)
        yield CropTrack(id_, track[0].camera, track[0].pid, paths, tuple(crop.number for crop in track))


def _parsed(folder: Path, names: list[str], true_ids: bool) -> Iterator[_Crop]:
    is_mars = NAMING.regex.match(names[0].rpartition("/")[2]) is not None
    for name in names:
        place, _, file = name.rpartition("/")
        if is_mars:
            yield _mars(folder, name, file)
            continue
        stem = file.rpartition(".")[0]
        match = FLAT.fullmatch(stem)
        if place:
            digits = re.search(r"(\d+)$", stem, re.ASCII)
            yield _Crop(place, "", pid_of(place, true_ids, folder), int(digits[1]) if digits else -1, name)
        elif match is not None:
            yield _Crop(match["id"], "", pid_of(match["id"], true_ids, folder), int(match["number"]), name)
        else:
            raise UserError(
                f"{folder / name} names no tracklet; crops lie in one folder per tracklet, or are named "
                f"ID_NUMBER.jpg or like {NAMING.example} of MARS"
            )


def _mars(folder: Path, name: str, file: str) -> _Crop:
    match = NAMING.regex.match(file)
    if match is None:
        raise UserError(f"{folder / name} is not named like {NAMING.example} of MARS, as the others are")
    pid = -1 if match["pid"] in ("00-1", "0000") else int(match["pid"])
    id_ = f"{match['pid']}C{match['cam']}T{match['track']}"
    number = re.search(r"F(\d+)", file)
    return _Crop(id_, f"C{match['cam']}", pid, int(number[1]) if number else -1, name)
