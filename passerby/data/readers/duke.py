"""DukeMTMC-reID (Zheng et al., ICCV 2017; Ristani et al., ECCV-W 2016), withdrawn by its authors.

Only a copy that somebody already has is read; nothing leads to one.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import ClassVar, Literal

from passerby.data.readers.layout import Naming, Published, locate_three_folders, read_three_folders
from passerby.data.readers.reader import ReaderSettings
from passerby.types import Dataset

NAMING = Naming(re.compile(r"(?P<pid>-1|\d+)_c(?P<cam>\d+)_f(?P<frame>\d+)"), "0005_c2_f0046985.jpg")
PUBLISHED = Published("DukeMTMC-reID", 16_522, 2_228, 17_661)
WITHDRAWN = "DukeMTMC-reID was withdrawn by its authors: use a copy only where you must compare with older work."


class DukeMTMC(ReaderSettings):
    """DukeMTMC-reID as released, in the folder `DukeMTMC-reID`."""

    summary: ClassVar[str] = "DukeMTMC-reID: 1,812 identities, 8 cameras, 36,411 images (withdrawn by its authors)"

    kind: Literal["dukemtmc"] = "dukemtmc"
    root: str

    def read(self, name: str) -> Dataset:
        """See `read_dukemtmc`."""
        return read_dukemtmc(self, name)


def read_dukemtmc(settings: DukeMTMC, name: str) -> Dataset:
    """Read DukeMTMC-reID; a note reports that it was withdrawn.

    Raises:
        UserError: the folders are not there or a file is named otherwise.

    """
    folder = locate_three_folders(settings.root, kind=settings.kind, naming=NAMING)
    dataset = read_three_folders(folder, name, naming=NAMING, published=PUBLISHED, masks=settings.masks)
    return replace(dataset, notes=(WITHDRAWN, *dataset.notes))
