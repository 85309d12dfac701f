"""CUHK03 with the 767/700 protocol (Li et al., CVPR 2014; protocol of Zhong et al., CVPR 2017).

Only the extracted images (CUHK03-NP) are read. The first release packs 14,000 crops into a MATLAB file without file
names, from which every toolkit extracts under names of its own, so that file lists could not be compared.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import ClassVar, Literal

from passerby.data.readers.layout import Naming, Published, holds_three_folders, read_three_folders
from passerby.data.readers.listing import locate
from passerby.data.readers.reader import ReaderSettings
from passerby.types import Dataset

NAMING = Naming(re.compile(r"(?P<pid>-1|\d+)_c(?P<cam>\d+)_(?P<frame>\d+)"), "0003_c1_21.png")
PUBLISHED = {
    "detected": Published("CUHK03-NP (detected)", 7_365, 1_400, 5_332),
    "labelled": Published("CUHK03-NP (labelled)", 7_368, 1_400, 5_328),
}
FOLDERS = {"detected": "detected", "labelled": "labeled"}


class CUHK03(ReaderSettings):
    """CUHK03-NP, in the folder `cuhk03-np` with `labeled` and `detected` below it.

    Attributes:
        boxes: `labelled` were drawn by people, `detected` come from a detector (the harder and more usual choice).

    """

    summary: ClassVar[str] = "CUHK03-NP: 1,467 identities, 2 cameras, 14,097 detected or 14,096 labelled boxes"

    kind: Literal["cuhk03"] = "cuhk03"
    root: str
    boxes: Literal["labelled", "detected"] = "detected"

    def read(self, name: str) -> Dataset:
        """See `read_cuhk03`."""
        return read_cuhk03(self, name)


def read_cuhk03(settings: CUHK03, name: str) -> Dataset:
    """Read one of the two sets of boxes; a note names it.

    Raises:
        UserError: the folders are not there or a file is named otherwise.

    """
    inner = FOLDERS[settings.boxes]
    expected = (
        f"the extracted CUHK03-NP images ({inner}/bounding_box_train, {inner}/query and {inner}/bounding_box_test; the "
        "release as one MATLAB file is not read)"
    )

    def holds(folder: Path) -> bool:
        return holds_three_folders(folder / inner)

    folder = locate(settings.root, kind=settings.kind, holds=holds, expected=expected) / inner
    published = PUBLISHED[settings.boxes]
    dataset = read_three_folders(folder, name, naming=NAMING, published=published, masks=settings.masks)
    return replace(dataset, notes=(f"CUHK03 with {settings.boxes} boxes, 767/700 protocol.", *dataset.notes))
