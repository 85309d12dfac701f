"""CUHK01 (Li et al., "Human Reidentification with Transferred Metric Learning", ACCV 2012).

971 identities, two images from each of two views. Half of the people are tested on, sought from the first view in the
second.
"""

from __future__ import annotations

import re
from typing import ClassVar, Literal

from passerby.data.readers.layout import Naming, Published
from passerby.data.readers.listing import Shot
from passerby.data.readers.nest import Nest, named, nested_dataset, two_views
from passerby.data.readers.reader import ReaderSettings
from passerby.data.readers.splits import draw_test, file_name
from passerby.types import Dataset

NAMING = Naming(re.compile(r"(?P<pid>\d{4})(?P<number>\d{3})\.png$", re.ASCII | re.IGNORECASE), "0001001.png")
NEST = Nest("cuhk01", ("campus", "."), (".",), NAMING)
PUBLISHED = Published("CUHK01, half of its people", 1_940, 972, 972)


class CUHK01(ReaderSettings):
    """CUHK01 as released, in the folder `campus` or one that holds it; `splits.json` beside `campus` is followed."""

    summary: ClassVar[str] = "CUHK01: 971 identities, 2 views, 3,884 images"

    kind: Literal["cuhk01"] = "cuhk01"
    root: str

    def read(self, name: str) -> Dataset:
        """See `read_cuhk01`."""
        return read_cuhk01(self, name)


def read_cuhk01(settings: CUHK01, name: str) -> Dataset:
    """Read CUHK01: four digits of person and three of the image, of which 1 and 2 are one view, 3 and 4 the other.

    Raises:
        UserError: the images are not there, one is named otherwise, or `splits.json` does not fit.

    """
    place = NEST.find(settings.root)
    shots = [
        Shot(path, int(match["pid"]), (int(match["number"]) + 1) // 2)
        for path, match in named(place, ".", NAMING).items()
    ]
    first, second = ([shot for shot in shots if (shot.cam == 1) == (view == 1)] for view in (1, 2))
    division = draw_test(
        {shot.pid for shot in shots},
        place.absolute().parent / "splits.json",
        tested=lambda split: {int(file_name(item)[:4]) for item in split["query"]},
    )
    parts = two_views(first, second, test=division.test, notes=(division.note,), lone=frozenset())
    return nested_dataset(name, place, parts, published=PUBLISHED, masks=settings.masks)
