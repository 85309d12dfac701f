"""PRCC (Yang et al., "Person Re-identification by Contour Sketch under Moderate Clothing Change", TPAMI 2021).

Camera A is the gallery. People wear the same clothes under A and B, and others under C, so with `test.clothes: same`
the queries of B count, and with `changing` those of C.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import numpy as np
from pydantic import Field

from passerby.data.image_files import folder_names, image_names
from passerby.data.readers.layout import Published
from passerby.data.readers.listing import Shot, locate
from passerby.data.readers.nest import Parts, nested_dataset
from passerby.data.readers.numbers import whole_number
from passerby.data.readers.reader import ReaderSettings
from passerby.errors import UserError
from passerby.types import Dataset

CAMERAS = ("A", "B", "C")
PLACES = (".", "rgb", "prcc/rgb")
EXPECTED = "the folders train (a folder per identity, files like A_cropped_rgb001.jpg) and test (folders A, B and C)"
PUBLISHED = Published("PRCC", 17_896, 7_416, 3_384)


class PRCC(ReaderSettings):
    """PRCC as released, in the folder `prcc/rgb`; the images of `val` are not read.

    Attributes:
        gallery: all images of camera A, or a single one of each identity, as the authors have it.
        draw: number of the drawing of single images, >= 0; the authors average ten.

    """

    summary: ClassVar[str] = "PRCC: 221 identities in two clothes each, 3 cameras, 33,698 images"

    kind: Literal["prcc"] = "prcc"
    root: str
    gallery: Literal["all", "single"] = "all"
    draw: Annotated[int, Field(ge=0)] = 0

    def read(self, name: str) -> Dataset:
        """See `read_prcc`."""
        return read_prcc(self, name)


def is_prcc(folder: Path) -> bool:
    """Whether `folder` has the layout."""
    return (folder / "train").is_dir() and all((folder / "test" / camera).is_dir() for camera in CAMERAS)


def read_prcc(settings: PRCC, name: str) -> Dataset:
    """Read PRCC; the queries are the test images of cameras B and C.

    Raises:
        UserError: the folders are not there, or an identity is no number.

    """
    folder = locate(
        settings.root, kind=settings.kind, holds=lambda path: any(is_prcc(path / each) for each in PLACES),
        expected=EXPECTED,
    )  # fmt: skip
    place = next(folder / each for each in PLACES if is_prcc(folder / each))
    train = [
        _shot(place, f"train/{pid}/{file}", pid, file.partition("_")[0])
        for pid in folder_names(place / "train")
        for file in image_names(place / "train" / pid)
    ]
    gallery, *queries = (
        [
            _shot(place, f"test/{camera}/{pid}/{file}", pid, camera)
            for pid in folder_names(place / "test" / camera)
            for file in image_names(place / "test" / camera / pid)
        ]
        for camera in CAMERAS
    )
    shots = f"all {len(gallery):,} images of camera A"
    if settings.gallery == "single":
        gallery = draw_single(gallery, settings.draw)
        shots = (
            f"one image of each of {len(gallery):,} identities (draw {settings.draw}); the authors average ten draws"
        )
    parts = Parts(train, [shot for each in queries for shot in each], gallery, (f"The gallery is {shots}.",))
    return nested_dataset(name, place, parts, published=_published(settings), masks=settings.masks)


def _published(settings: PRCC) -> Published:
    count = PUBLISHED.gallery if settings.gallery == "all" else 71
    return Published(PUBLISHED.title, PUBLISHED.train, PUBLISHED.query, count)


def draw_single(shots: Sequence[Shot], draw: int) -> list[Shot]:
    """Return one image of each identity, drawn at random; the same on every machine."""
    generator, by_pid = np.random.default_rng([5, draw]), dict[int, list[Shot]]()
    for shot in sorted(shots, key=lambda shot: shot.path):
        by_pid.setdefault(shot.pid, []).append(shot)
    return [each[int(generator.integers(len(each)))] for _, each in sorted(by_pid.items())]


def _shot(place: Path, path: str, pid: str, camera: str) -> Shot:
    number = whole_number(pid)
    if number is None or camera not in CAMERAS:
        raise UserError(f"prcc: {place / path} is not in a folder of an identity (001) and of camera A, B or C")
    return Shot(path, number, CAMERAS.index(camera) + 1, clothes=2 * number + (camera == "C"))
