"""PRID 2011, single-shot.

Hirzer et al., "Person Re-Identification by Descriptive and Discriminative Classification", SCIA 2011. Two views; the
persons 1 to 200 are in both, and the same higher number is another person in each. Half of the 200 are sought from view
a in view b, where everybody from 201 on stays as a distractor.
"""

from __future__ import annotations

import re
from typing import ClassVar, Literal

from passerby.data.readers.layout import Naming, Published
from passerby.data.readers.listing import Shot
from passerby.data.readers.nest import Nest, named, nested_dataset, two_views
from passerby.data.readers.reader import ReaderSettings
from passerby.data.readers.splits import draw_test
from passerby.types import Dataset

NAMING = Naming(re.compile(r"person_(?P<pid>\d+)\.png$", re.ASCII | re.IGNORECASE), "person_0001.png")
NEST = Nest("prid2011", ("prid_2011/single_shot", "single_shot", "."), ("cam_a", "cam_b"), NAMING)
PUBLISHED = Published("PRID 2011 (single-shot), half of the shared people", 200, 100, 649)
SHARED = 200


class PRID2011(ReaderSettings):
    """PRID 2011 as released, in the folder `prid_2011` or one that holds it.

    `splits_single_shot.json` beside `prid_2011` is followed.

    """

    summary: ClassVar[str] = "PRID 2011, single-shot: 200 people in 2 views among 749"

    kind: Literal["prid2011"] = "prid2011"
    root: str

    def read(self, name: str) -> Dataset:
        """See `read_prid2011`."""
        return read_prid2011(self, name)


def read_prid2011(settings: PRID2011, name: str) -> Dataset:
    """Read the single-shot images of PRID 2011; those of view a without a partner are left out.

    Raises:
        UserError: the folders are not there, a file is named otherwise, or the file of splits does not fit.

    """
    place = NEST.find(settings.root)
    first, second = (
        [Shot(path, int(match["pid"]), cam) for path, match in named(place, inner, NAMING).items()]
        for cam, inner in enumerate(NEST.folders, start=1)
    )
    first = [shot for shot in first if shot.pid <= SHARED]
    division = draw_test(
        {shot.pid for shot in first} & {shot.pid for shot in second},
        place.absolute().parents[1] / "splits_single_shot.json",
        tested=lambda split: {int(str(item)) for item in split["test"]},
    )
    lone = frozenset(shot.pid for shot in second if shot.pid > SHARED)
    parts = two_views(first, second, test=division.test, notes=(division.note,), lone=lone)
    return nested_dataset(name, place, parts, published=PUBLISHED, masks=settings.masks)
