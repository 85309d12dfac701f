"""SenseReID, a set for testing only.

Zhao et al., "Spindle Net: Person Re-identification with Human Body Region Guided Feature Decomposition and Fusion",
CVPR 2017.
"""

from __future__ import annotations

import re
from typing import ClassVar, Literal

from passerby.data.readers.layout import Naming, Published
from passerby.data.readers.listing import Shot
from passerby.data.readers.nest import Nest, Parts, named, nested_dataset
from passerby.data.readers.reader import ReaderSettings
from passerby.types import Dataset

NAMING = Naming(re.compile(r"(?P<pid>\d+)_(?P<cam>\d+)\.jpe?g$", re.ASCII | re.IGNORECASE), "00001_0.jpg")
NEST = Nest("sensereid", ("SenseReID", "."), ("test_probe", "test_gallery"), NAMING)
PUBLISHED = Published("SenseReID", 0, 1_040, 3_388)


class SenseReID(ReaderSettings):
    """SenseReID as released, in the folder `SenseReID`."""

    summary: ClassVar[str] = "SenseReID, for testing only: 1,717 identities, 4,428 images"

    kind: Literal["sensereid"] = "sensereid"
    root: str

    def read(self, name: str) -> Dataset:
        """See `read_sensereid`."""
        return read_sensereid(self, name)


def read_sensereid(settings: SenseReID, name: str) -> Dataset:
    """Read SenseReID, which has no images to train on.

    Raises:
        UserError: the folders are not there or a file is named otherwise.

    """
    place = NEST.find(settings.root)
    query, gallery = (
        [Shot(path, int(match["pid"]), int(match["cam"])) for path, match in named(place, inner, NAMING).items()]
        for inner in NEST.folders
    )
    return nested_dataset(name, place, Parts([], query, gallery), published=PUBLISHED, masks=settings.masks)
