"""CUHK02 (Li and Wang, "Locally Aligned Feature Transforms across Views", CVPR 2013).

1,816 people from five pairs of views, two images from each view. The pairs P1 to P4 are for training; the people of P5
are sought from its first view in its second.
"""

from __future__ import annotations

import re
from typing import ClassVar, Literal

from passerby.data.readers.layout import Naming, Published
from passerby.data.readers.listing import Shot
from passerby.data.readers.nest import Nest, Parts, named, nested_dataset
from passerby.data.readers.reader import ReaderSettings
from passerby.types import Dataset

PAIRS = ("P1", "P2", "P3", "P4", "P5")
VIEWS = ("cam1", "cam2")
NAMING = Naming(re.compile(r"(?P<pid>\d+)_.*\.png$", re.ASCII | re.IGNORECASE), "0001_1.png")
NEST = Nest("cuhk02", ("Dataset", "."), tuple(f"{pair}/{view}" for pair in PAIRS for view in VIEWS), NAMING)
PUBLISHED = Published("CUHK02", 6_308, 478, 478)
PAIR_STEP = 10_000
"""Added to the numbers of people from pair to pair, in which they start again."""


class CUHK02(ReaderSettings):
    """CUHK02 as released: `P1` to `P5`, each with `cam1` and `cam2`, in the named folder or in `Dataset` below it."""

    summary: ClassVar[str] = "CUHK02: 1,816 identities, 5 pairs of views, 7,264 images"

    kind: Literal["cuhk02"] = "cuhk02"
    root: str

    def read(self, name: str) -> Dataset:
        """See `read_cuhk02`."""
        return read_cuhk02(self, name)


def read_cuhk02(settings: CUHK02, name: str) -> Dataset:
    """Read CUHK02; the number before the first underscore is a person of that pair, and the ten views are cameras.

    Raises:
        UserError: the folders are not there or a file is named otherwise.

    """
    place = NEST.find(settings.root)
    views = [
        [
            Shot(path, int(match["pid"]) + PAIR_STEP * (number // 2 + 1), number + 1)
            for path, match in named(place, inner, NAMING).items()
        ]
        for number, inner in enumerate(NEST.folders)
    ]
    *learnt, query, gallery = views
    note = f"People of pair 1 are numbered from {PAIR_STEP}, those of pair 2 from {2 * PAIR_STEP}, and so on."
    parts = Parts([shot for view in learnt for shot in view], query, gallery, (note,))
    return nested_dataset(name, place, parts, published=PUBLISHED, masks=settings.masks)
