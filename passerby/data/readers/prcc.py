"""PRCC (Yang et al., "Person Re-identification by Contour Sketch under Moderate Clothing Change", TPAMI 2021).

Camera A is the gallery. People wear the same clothes under A and B, and others under C, so with `test.clothes: same`
the queries of B count, and with `changing` those of C.
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal

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
    """PRCC as released, in the folder `prcc/rgb`; the images of `val` are not read."""

    summary: ClassVar[str] = "PRCC: 221 identities in two clothes each, 3 cameras, 33,698 images"

    kind: Literal["prcc"] = "prcc"
    root: str

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
    note = (
        f"The gallery is all {len(gallery):,} images of camera A; the authors' single-shot scores are means over ten "
        "drawn galleries, which is test.gallery_draws: 10."
    )
    parts = Parts(train, [shot for each in queries for shot in each], gallery, (note,))
    return nested_dataset(name, place, parts, published=PUBLISHED, masks=settings.masks)


def _shot(place: Path, path: str, pid: str, camera: str) -> Shot:
    number = whole_number(pid)
    if number is None or camera not in CAMERAS:
        raise UserError(f"prcc: {place / path} is not in a folder of an identity (001) and of camera A, B or C")
    return Shot(path, number, CAMERAS.index(camera) + 1, clothes=2 * number + (camera == "C"))
