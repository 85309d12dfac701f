"""VehicleID (Liu et al., "Deep Relative Distance Learning: Tell the Difference Between Similar Vehicles", CVPR 2016).

Identities are vehicles, and no camera is known. One image of each test identity is the gallery, chosen by a hash of the
image names that is the same on every machine, and the others are queries. In the paper it is drawn at random ten times
and scores are averaged: with `draw: null` all test images are queries and gallery, of which `test.gallery_draws: 10`
draws one of each identity; an image that is drawn is no query in that draw, since a query's own file never counts.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from passerby.data.image_files import image_names
from passerby.data.readers.layout import UNLIKE_PUBLISHED
from passerby.data.readers.listing import Shot, locate, split_of
from passerby.data.readers.numbers import whole_number
from passerby.data.readers.reader import ReaderSettings
from passerby.errors import UserError
from passerby.types import UNKNOWN, Dataset

IMAGES, LISTS, TRAIN = "image", "train_test_split", "train_list.txt"
EXPECTED = f"the folders {IMAGES} and {LISTS} with {TRAIN} and test_list_800.txt"


class VehicleID(ReaderSettings):
    """VehicleID as released, in the folder `VehicleID_V1.0`.

    Attributes:
        test: identities to test on: the small, medium or large list.
        draw: number of the drawing of gallery images, >= 0; None = all test images, for `test.gallery_draws`.

    """

    summary: ClassVar[str] = "VehicleID: 26,267 vehicles, no cameras, 221,763 images"

    kind: Literal["vehicleid"] = "vehicleid"
    root: str
    test: Literal[800, 1600, 2400] = 800
    draw: Annotated[int, Field(ge=0)] | None = 0

    def read(self, name: str) -> Dataset:
        """See `read_vehicleid`."""
        return read_vehicleid(self, name)


def is_vehicleid(folder: Path) -> bool:
    """Whether `folder` has the layout."""
    return (folder / IMAGES).is_dir() and (folder / LISTS / TRAIN).is_file()


def read_vehicleid(settings: VehicleID, name: str) -> Dataset:
    """Read VehicleID with one drawing of the gallery; a note names it.

    Raises:
        UserError: folders or lists are not there, a line is not `image identity`, or an image is missing.

    """
    folder = locate(settings.root, kind=settings.kind, holds=is_vehicleid, expected=EXPECTED)
    files = {file.rpartition(".")[0]: file for file in image_names(folder / IMAGES)}
    train = _read_list(folder / LISTS / TRAIN, files)
    tested = _read_list(folder / LISTS / f"test_list_{settings.test}.txt", files)
    if settings.draw is None:
        query = gallery = tested
        note = (
            f"VehicleID, test list of {settings.test}: all images are queries and gallery; test.gallery_draws: 10 "
            "draws the gallery as in the paper."
        )
    else:
        gallery_paths = _draw(tested, settings.draw)
        query = [shot for shot in tested if shot.path not in gallery_paths]
        gallery = [shot for shot in tested if shot.path in gallery_paths]
        note = (
            f"VehicleID, test list of {settings.test}: one image of each identity is the gallery, drawing "
            f"{settings.draw} by a hash of the names; published scores are means over ten random drawings (draw: null "
            f"and test.gallery_draws: 10), so {UNLIKE_PUBLISHED}."
        )
    train_split, query_split, gallery_split = (
        split_of(shots, folder, masks=settings.masks) for shots in (train, query, gallery)
    )
    return Dataset(
        name, train_split, query_split, gallery_split, (note, "VehicleID has no cameras, so all matches count.")
    )


def _draw(shots: Sequence[Shot], draw: int) -> frozenset[str]:
    """Return the path of one image of each identity."""
    smallest: dict[int, tuple[str, str]] = {}
    for shot in shots:
        rank = hashlib.sha256(f"{draw}/{shot.path}".encode()).hexdigest()
        smallest[shot.pid] = min(smallest.get(shot.pid, (rank, shot.path)), (rank, shot.path))
    return frozenset(path for _, path in smallest.values())


def _read_list(file: Path, files: dict[str, str]) -> list[Shot]:
    if not file.is_file():
        raise UserError(f"vehicleid: there is no {file}, which comes with the images")
    shots: list[Shot] = []
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), start=1):
        words = line.split()
        if not words:
            continue
        pid = whole_number(words[1]) if len(words) == 2 else None
        if pid is None:
            raise UserError(f"{file}, line {number}: {line[:80]!r} is not like '0000001 12345' (image, identity)")
        if words[0] not in files:
            raise UserError(f"{file}, line {number}: there is no image {words[0]} in {file.parent.parent / IMAGES}")
        shots.append(Shot(f"{IMAGES}/{files[words[0]]}", pid, UNKNOWN))
    return sorted(shots, key=lambda shot: shot.path)
