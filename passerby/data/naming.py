"""The default name of a data set, derived from its path.

A released data set, with the counts of its release, has the name of its kind (`market1501`). Any other has the name of
the folder with the layout, or of the table. Where that is the name of a release (`Market-1501-v15.09.15`) or a generic
word such as `images`, the name is that of the parent folder, unless that is generic too.
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
    return next((name for name in names if not _is_generic(name)), names[0] if names else "images")


def _is_generic(name: str) -> bool:
    return RELEASED.fullmatch(name.lower()) is not None or is_container(name)


def free_name(name: str, taken: Iterable[str]) -> str:
    """Return a name that is not taken, with a number at its end where needed.

    >>> free_name("plaza", ["plaza", "plaza-2"])
    'plaza-3'
    """
    used = set(taken)
    if name not in used:
        return name
    return next(candidate for number in range(2, len(used) + 3) if (candidate := f"{name}-{number}") not in used)
