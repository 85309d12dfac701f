"""LTCC (Qian et al., "Long-Term Cloth-Changing Person Re-identification", ACCV 2020): people in several clothes."""

from __future__ import annotations

import re
from typing import ClassVar, Literal

from passerby.data.readers.layout import Naming, Published
from passerby.data.readers.listing import Shot
from passerby.data.readers.nest import Nest, Parts, named, nested_dataset
from passerby.data.readers.reader import ReaderSettings
from passerby.types import Dataset

FILE = re.compile(r"(?P<pid>\d+)_(?P<clothes>\d+)_c(?P<cam>\d+)_(?P<frame>\d+)", re.ASCII)
NAMING = Naming(FILE, "000_1_c9_015833.png")
NEST = Nest("ltcc", (".", "LTCC_ReID"), ("train", "query", "test"), NAMING)
PUBLISHED = Published("LTCC", 9_576, 493, 7_050)


class LTCC(ReaderSettings):
    """LTCC as released, in the folder `LTCC_ReID`; the clothes of an identity are numbered in the file names."""

    summary: ClassVar[str] = "LTCC: 152 identities in 478 clothes, 12 cameras, 17,119 images"

    kind: Literal["ltcc"] = "ltcc"
    root: str

    def read(self, name: str) -> Dataset:
        """See `read_ltcc`."""
        return read_ltcc(self, name)


def read_ltcc(settings: LTCC, name: str) -> Dataset:
    """Read LTCC with the clothes of every image.

    Raises:
        UserError: the folders are not there or a file is named otherwise.

    """
    place = NEST.find(settings.root)
    matches = {inner: named(place, inner, NAMING) for inner in NEST.folders}
    worn = sorted({(m["pid"], m["clothes"]) for found in matches.values() for m in found.values()})
    number = {pair: place_in_order for place_in_order, pair in enumerate(worn)}
    train, query, gallery = (
        [
            Shot(path, int(m["pid"]), int(m["cam"]), int(m["frame"]), number[m["pid"], m["clothes"]])
            for path, m in found.items()
        ]
        for found in matches.values()
    )
    parts = Parts(train, query, gallery)
    return nested_dataset(name, place, parts, published=PUBLISHED, masks=settings.masks)
