"""VIPeR (Gray et al., "Evaluating appearance models for recognition, reacquisition, and tracking", PETS 2007).

632 identities, one image from each of two views. Half of the people are tested on, sought from view a in view b.
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

NAMING = Naming(re.compile(r"(?P<pid>\d+)_\d+\.bmp$", re.ASCII | re.IGNORECASE), "000_45.bmp")
NEST = Nest("viper", ("VIPeR", "."), ("cam_a", "cam_b"), NAMING)
PUBLISHED = Published("VIPeR, half of its people", 632, 316, 316)


class VIPeR(ReaderSettings):
    """VIPeR as released, in the folder `VIPeR` or one that holds it; `splits.json` beside `VIPeR` is followed."""

    summary: ClassVar[str] = "VIPeR: 632 identities, 2 views, 1,264 images"

    kind: Literal["viper"] = "viper"
    root: str

    def read(self, name: str) -> Dataset:
        """See `read_viper`."""
        return read_viper(self, name)


def read_viper(settings: VIPeR, name: str) -> Dataset:
    """Read VIPeR; the number before the underscore of a file name is the person in both views.

    Raises:
        UserError: the folders are not there, a file is named otherwise, or `splits.json` does not fit.

    """
    place = NEST.find(settings.root)
    first, second = (
        [Shot(path, int(match["pid"]), cam) for path, match in named(place, inner, NAMING).items()]
        for cam, inner in enumerate(NEST.folders, start=1)
    )
    identities = {shot.pid for shot in first} & {shot.pid for shot in second}
    division = draw_test(
        identities,
        place.absolute().parent / "splits.json",
        tested=lambda split: {int(file_name(item).partition("_")[0]) for item in split["query"]},
    )
    parts = two_views(first, second, test=division.test, notes=(division.note,), lone=frozenset())
    return nested_dataset(name, place, parts, published=PUBLISHED, masks=settings.masks)
