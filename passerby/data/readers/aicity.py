"""AI City Challenge, vehicle re-identification (Tang et al., "CityFlow: A City-Scale Benchmark for Multi-Target
Multi-Camera Vehicle Tracking and Re-Identification", CVPR 2019; CityFlowV2-ReID since 2021).

Identities are vehicles. `train_label.xml` labels the training images; the labels of query and test images are held by
the evaluation server, so these images are left out, and the labelled vehicles are divided into training and testing.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from passerby.data.image_files import image_names
from passerby.data.readers.hash_split import DEFAULT_SHARE, split_by_hash, split_note
from passerby.data.readers.layout import UNLIKE_PUBLISHED
from passerby.data.readers.listing import locate, split_of
from passerby.data.readers.named_images import NamedImage, number_shots
from passerby.data.readers.reader import ReaderSettings
from passerby.errors import UserError
from passerby.types import Dataset

TRAIN, LABELS = "image_train", "train_label.xml"
HIDDEN = ("image_query", "image_test")
EXPECTED = f"the folder {TRAIN} and the file {LABELS} (with imageName, vehicleID and cameraID)"

_ITEM = re.compile(r"<Item\b([^<>]*)>")
_ATTRIBUTE = re.compile(r'(\w+)\s*=\s*"([^"]*)"')


class AICity(ReaderSettings):
    """The vehicles of an AI City Challenge as released, in a folder such as `AIC21_Track2_ReID`.

    Attributes:
        test_share: share of the labelled identities to test on, in [0, 1].

    """

    summary: ClassVar[str] = "AI City: vehicles of CityFlow-ReID, 40 cameras and more, labels of training images only"

    kind: Literal["aicity"] = "aicity"
    root: str
    test_share: Annotated[float, Field(ge=0, le=1)] = DEFAULT_SHARE

    def read(self, name: str) -> Dataset:
        """See `read_aicity`."""
        return read_aicity(self, name)


def is_aicity(folder: Path) -> bool:
    """Whether `folder` has the layout."""
    return (folder / TRAIN).is_dir() and (folder / LABELS).is_file()


def read_aicity(settings: AICity, name: str) -> Dataset:
    """Read the labelled images, divided by identity; notes count the images without public labels.

    Raises:
        UserError: folder or labels are not there, an entry is incomplete, or an image of it is missing.

    """
    folder = locate(settings.root, kind=settings.kind, holds=is_aicity, expected=EXPECTED)
    files = image_names(folder / TRAIN)
    images = sorted(_labelled(folder, frozenset(files)), key=lambda image: image.path)
    splits = split_by_hash(images, settings.test_share)
    hidden = sum(len(image_names(folder / inner)) for inner in HIDDEN if (folder / inner).is_dir())
    notes = (
        f"AI City: the identities of query and test images are not public ({hidden:,} images left out), so labelled "
        f"vehicles are divided instead, and {UNLIKE_PUBLISHED}.",
        *split_note(splits),
        *_unlabelled_note(len(files) - len(images)),
    )
    train, query, gallery = (split_of(shots, folder, masks=settings.masks) for shots in number_shots(splits))
    return Dataset(name, train, query, gallery, notes)


def _unlabelled_note(count: int) -> tuple[str, ...]:
    return (f"Images of {TRAIN} without an entry in {LABELS} left out: {count:,}.",) if count else ()


def _labelled(folder: Path, files: frozenset[str]) -> Iterator[NamedImage]:
    """Yield the images with an entry in the labels, which are searched by pattern: no entity of XML is expanded."""
    file, images_listed = folder / LABELS, set[str]()
    for number, item in enumerate(_ITEM.finditer(_text(file)), start=1):
        values = dict(_ATTRIBUTE.findall(item[1]))
        image, vehicle, camera = (values.get(key, "") for key in ("imageName", "vehicleID", "cameraID"))
        if not (image and vehicle and camera):
            raise UserError(f"{file}, item {number}: imageName, vehicleID or cameraID is missing")
        if image not in files:
            raise UserError(f"{file}, item {number}: there is no image {image[:80]} in {folder / TRAIN}")
        if image in images_listed:
            raise UserError(f"{file}, item {number}: {image} has two entries")
        images_listed.add(image)
        yield NamedImage(f"{TRAIN}/{image}", vehicle, camera.removeprefix("c"))
    if not images_listed:
        raise UserError(f"{file} holds no entry like <Item imageName=... vehicleID=... cameraID=.../>")


def _text(file: Path) -> str:
    """Return a file as text; it declares GB2312, of which all that is read here is ASCII."""
    try:
        return file.read_bytes().decode("ascii", errors="replace")
    except OSError as error:
        raise UserError(f"aicity: cannot read {file}: {(error.strerror or str(error)).lower()}") from error
