"""VeRi-776 (Liu et al., "PROVID: Progressive and Multimodal Vehicle Reidentification", IEEE TMM 2018).

Identities are vehicles. `gt_index.txt` and `jk_index.txt` list for each query the gallery images that match and those
to leave out, which is what the rule of identity and camera gives from the names.
"""

from __future__ import annotations

import re
from typing import ClassVar, Literal

from passerby.data.readers.layout import Naming, Published
from passerby.data.readers.listing import Shot
from passerby.data.readers.nest import Nest, Parts, named, nested_dataset
from passerby.data.readers.reader import ReaderSettings
from passerby.types import Dataset

NAMING = Naming(re.compile(r"(?P<pid>\d+)_c(?P<cam>\d+)_(?P<frame>\d+)_\d+", re.ASCII), "0001_c001_00016450_0.jpg")
NEST = Nest("veri776", ("VeRi", "."), ("image_train", "image_query", "image_test"), NAMING)
PUBLISHED = Published("VeRi-776", 37_778, 1_678, 11_579)


class VeRi776(ReaderSettings):
    """VeRi-776 as released, in the folder `VeRi`."""

    summary: ClassVar[str] = "VeRi-776: 776 vehicles, 20 cameras, 51,035 images"

    kind: Literal["veri776"] = "veri776"
    root: str

    def read(self, name: str) -> Dataset:
        """See `read_veri776`."""
        return read_veri776(self, name)


def read_veri776(settings: VeRi776, name: str) -> Dataset:
    """Read VeRi-776.

    Raises:
        UserError: the folders are not there or a file is named otherwise.

    """
    place = NEST.find(settings.root)
    train, query, gallery = (
        [
            Shot(path, int(match["pid"]), int(match["cam"]), int(match["frame"]))
            for path, match in named(place, inner, NAMING).items()
        ]
        for inner in NEST.folders
    )
    return nested_dataset(name, place, Parts(train, query, gallery), published=PUBLISHED, masks=settings.masks)
