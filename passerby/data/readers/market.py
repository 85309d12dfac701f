"""Market-1501 (Zheng et al., "Scalable Person Re-identification: A Benchmark", ICCV 2015)."""

from __future__ import annotations

import re
from typing import ClassVar, Literal

from passerby.data.readers.layout import Naming, Published, locate_three_folders, read_three_folders
from passerby.data.readers.reader import ReaderSettings
from passerby.types import Dataset

NAMING = Naming(re.compile(r"(?P<pid>-1|\d+)_c(?P<cam>\d+)s\d+_(?P<frame>\d+)"), "0002_c1s1_000451_03.jpg")
PUBLISHED = Published("Market-1501", 12_936, 3_368, 15_913)


class Market1501(ReaderSettings):
    """Market-1501 as released, in the folder `Market-1501-v15.09.15`."""

    summary: ClassVar[str] = "Market-1501: 1,501 identities, 6 cameras, 32,217 images"

    kind: Literal["market1501"] = "market1501"
    root: str

    def read(self, name: str) -> Dataset:
        """See `read_market1501`."""
        return read_market1501(self, name)


def read_market1501(settings: Market1501, name: str) -> Dataset:
    """Read Market-1501; junk (-1) is dropped, distractors (0) stay in the gallery.

    Raises:
        UserError: the folders are not there or a file is named otherwise.

    """
    folder = locate_three_folders(settings.root, kind=settings.kind, naming=NAMING)
    return read_three_folders(folder, name, naming=NAMING, published=PUBLISHED, masks=settings.masks)
