"""QMUL i-LIDS (Zheng et al., "Associating Groups of People", BMVC 2009).

119 people in 476 images of an airport, by cameras that the set does not name: the number of an image stands for its
camera, so that no match is left out. One image of each tested person is sought, and one is to be found.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import ClassVar, Literal

from passerby.data.readers.layout import UNLIKE_PUBLISHED, Naming
from passerby.data.readers.listing import Shot, split_of
from passerby.data.readers.nest import Nest, named
from passerby.data.readers.reader import ReaderSettings
from passerby.data.readers.splits import draw_test, file_name, first_split, not_a_split
from passerby.types import Dataset

NAMING = Naming(re.compile(r"(?P<pid>\d{4})(?P<cam>\d{3})\.jpe?g$", re.ASCII | re.IGNORECASE), "0001001.jpg")
NEST = Nest("ilids", ("i-LIDS_Pedestrian/Persons", "Persons", "."), (".",), NAMING)
IMAGES, PEOPLE = 476, 119


class ILIDS(ReaderSettings):
    """i-LIDS as released, in the folder `i-LIDS_Pedestrian` or one that holds it.

    `splits.json` beside it is followed.
    """

    summary: ClassVar[str] = "i-LIDS: 119 identities, 476 images"

    kind: Literal["ilids"] = "ilids"
    root: str

    def read(self, name: str) -> Dataset:
        """See `read_ilids`."""
        return read_ilids(self, name)


def read_ilids(settings: ILIDS, name: str) -> Dataset:
    """Read i-LIDS; without `splits.json` the first and the last image of a tested person are query and gallery.

    Raises:
        UserError: the images are not there, one is named otherwise, or `splits.json` does not fit.

    """
    place = NEST.find(settings.root)
    shots = [Shot(path, int(m["pid"]), int(m["cam"])) for path, m in named(place, ".", NAMING).items()]
    file = place.absolute().parents[1] / "splits.json"
    division = draw_test({shot.pid for shot in shots}, file, tested=lambda split: _people(split["query"]))
    tested = [shot for shot in shots if shot.pid in division.test]
    if file.is_file():
        query, gallery = (_listed(tested, file, role) for role in ("query", "gallery"))
    else:
        query = list({shot.pid: shot for shot in reversed(tested)}.values())[::-1]
        last = {shot.pid: shot for shot in tested}
        gallery = [last[shot.pid] for shot in query if last[shot.pid] != shot]
    train = [shot for shot in shots if shot.pid not in division.test]
    train_split, query_split, gallery_split = (
        split_of(part, place, masks=settings.masks) for part in (train, query, gallery)
    )
    return Dataset(name, train_split, query_split, gallery_split, (division.note, *_count_note(place, shots)))


def _people(items: Iterable[object]) -> set[int]:
    return {int(file_name(item)[:4]) for item in items}


def _listed(shots: Iterable[Shot], file: Path, role: str) -> list[Shot]:
    """Return the images that split 0 lists for a role."""
    split = first_split(file)
    if role not in split:
        raise not_a_split(file)
    names = {file_name(item) for item in split[role]}
    return [shot for shot in shots if shot.path in names]


def _count_note(place: Path, shots: list[Shot]) -> tuple[str, ...]:
    identities = len({shot.pid for shot in shots})
    if (len(shots), identities) == (IMAGES, PEOPLE):
        return ()
    return (
        f"{place.absolute().name} has {len(shots)} images of {identities} identities, not the {IMAGES} images of "
        f"{PEOPLE} identities of i-LIDS as published; {UNLIKE_PUBLISHED}.",
    )
