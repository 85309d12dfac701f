"""CUHK-SYSU as cut for lifelong re-identification.

Xiao et al., "Joint Detection and Identification Feature Learning for Person Search", CVPR 2017; cut by Pu et al.,
"Lifelong Person Re-Identification via Adaptive Knowledge Accumulation", CVPR 2021.

The release is of whole scenes. The lifelong repositories cut their boxes into `cuhksysu4reid` with the folders train,
query and gallery, and this is what is read: the gallery of a query is every box of a tested person, not the crowded
scenes of person search. The set tells no cameras, so queries get camera 1 and all else camera 0: no match is left out.
"""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from passerby.data.readers.layout import UNLIKE_PUBLISHED, Naming
from passerby.data.readers.listing import Shot, split_of
from passerby.data.readers.nest import Nest, named
from passerby.data.readers.reader import ReaderSettings
from passerby.types import Dataset

NAMING = Naming(re.compile(r"(?P<pid>\d+)_s\d+_\d+", re.ASCII), "00001_s1234_0000012_0.jpg")
NEST = Nest("cuhk_sysu", ("CUHK-SYSU/cuhksysu4reid", "cuhksysu4reid", "."), ("train", "query", "gallery"), NAMING)
PEOPLE_TRAIN, PEOPLE_TEST = 5_532, 2_900
QUERY_CAM, OTHER_CAM = 1, 0


class CuhkSysu(ReaderSettings):
    """CUHK-SYSU as cut for re-identification, in the folder `cuhksysu4reid` or one that holds it.

    Attributes:
        least: boxes that a training person must have; 4, as in lifelong re-identification.

    """

    summary: ClassVar[str] = "CUHK-SYSU cut for lifelong re-identification: 5,532 people to train and 2,900 to test on"

    kind: Literal["cuhk_sysu"] = "cuhk_sysu"
    root: str
    least: Annotated[int, Field(ge=1)] = 4

    def read(self, name: str) -> Dataset:
        """See `read_cuhk_sysu`."""
        return read_cuhk_sysu(self, name)


def read_cuhk_sysu(settings: CuhkSysu, name: str) -> Dataset:
    """Read the cut boxes; a note counts the identities with too few of them to be trained on.

    Raises:
        UserError: the folders are not there or a file is named otherwise.

    """
    place = NEST.find(settings.root)
    train, query, gallery = (
        [
            Shot(path, int(match["pid"]), QUERY_CAM if inner == "query" else OTHER_CAM)
            for path, match in named(place, inner, NAMING).items()
        ]
        for inner in NEST.folders
    )
    boxes = Counter(shot.pid for shot in train)
    train_shots = [shot for shot in train if boxes[shot.pid] >= settings.least]
    identities = len({shot.pid for shot in train_shots})
    notes = (
        "CUHK-SYSU has no cameras: queries get camera 1, all else camera 0, so that no match is left out.",
        *_least_note(settings.least, identities, len(boxes)),
        *_count_note(place, len(boxes), len({shot.pid for shot in query})),
    )
    train_split, query_split, gallery_split = (
        split_of(shots, place, masks=settings.masks) for shots in (train_shots, query, gallery)
    )
    return Dataset(name, train_split, query_split, gallery_split, notes)


def _least_note(least: int, identities: int, count: int) -> tuple[str, ...]:
    if identities == count:
        return ()
    return (f"People with at least {least} boxes are learnt from: {identities:,} of {count:,}.",)


def _count_note(place: Path, train: int, test: int) -> tuple[str, ...]:
    if (train, test) == (PEOPLE_TRAIN, PEOPLE_TEST):
        return ()
    return (
        f"{place.absolute().name} shows {train:,} identities to train and {test:,} to test on, not the "
        f"{PEOPLE_TRAIN:,} and {PEOPLE_TEST:,} of CUHK-SYSU as published; {UNLIKE_PUBLISHED}.",
    )
