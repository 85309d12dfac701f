"""The name of a data set that is given by its place alone.

A released data set, with the counts of its release, has the name of its kind (`market1501`). Any other is called after
the folder that has the layout, or after the table. Where that folder only has the name of a release
(`Market-1501-v15.09.15`) or a word such as `images`, the name is that of the folder above it, unless it says no more.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path

from passerby.data.readers.roles import is_container

RELEASED = re.compile(
    r"market-?1501(-v15\.09\.15)?|dukemtmc(-?reid)?|msmt17(_v[12])?|cuhk03(-?np)?|cuhksysu4reid|veri(-?776)?|"
    r"vehicleid(_v1\.0)?|mars(-v160809)?|labell?ed|detected"
)
"""Names of folders under which data sets are released."""


def folder_name(place: Path) -> str:
    """Return the name of the data set at `place`, a folder or a table.

    >>> folder_name(Path("/sites/plaza/Market-1501-v15.09.15")), folder_name(Path("/mine/vehicles"))
    ('plaza', 'vehicles')
    """
    place = Path(os.path.abspath(place.expanduser()))  # noqa: PTH100 - a link keeps its name, `..` does not
    if place.suffix.lower() == ".csv":
        return place.stem
    names = [name for name in (place.name, place.parent.name) if name]
    return next((name for name in names if not _says_little(name)), names[0] if names else "images")


def _says_little(name: str) -> bool:
    return RELEASED.fullmatch(name.lower()) is not None or is_container(name)


def free_name(name: str, taken: Iterable[str]) -> str:
    """Return a name that is not taken, with a number at its end where needed.

    >>> free_name("plaza", ["plaza", "plaza-2"])
    'plaza-3'
    """
    used = set(taken)
    if name not in used:
        return name
    return next(found for number in range(2, len(used) + 3) if (found := f"{name}-{number}") not in used)
