"""Files of random splits, as torchreid writes them beside small data sets: a JSON list, whose first entry is read.

These sets have no official division into training and testing. Toolkits draw one at random when they first see the set
and keep it in such a file, so two laboratories rarely have the same. Where the file lies it is followed; else people
are drawn by a hash of their numbers, which is the same on every machine but is not a published split.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from passerby.data.readers.hash_split import DEFAULT_SHARE, choose_test
from passerby.data.readers.layout import UNLIKE_PUBLISHED
from passerby.errors import UserError
from passerby.files import read_json


@dataclass(frozen=True)
class Drawn:
    """The identities to test on, and a note on their source."""

    test: frozenset[int]
    note: str


def draw_test(
    identities: Iterable[int], file: Path, *, tested: Callable[[Mapping[str, list[object]]], Iterable[int]]
) -> Drawn:
    """Return the test identities: those of split 0 of `file`, or half of all by hash without such a file.

    Args:
        identities: all identities that can be tested on.
        file: what torchreid would have written.
        tested: from split 0 to the identities to test on; a `KeyError`, `TypeError` or `ValueError` = another format.

    Raises:
        UserError: the file is something else, or names people who are not there.

    """
    known = frozenset(identities)
    if not file.is_file():
        identities_drawn = choose_test(map(str, known), DEFAULT_SHARE)
        return Drawn(frozenset(map(int, identities_drawn)), drawn_note(file))
    split = first_split(file)
    try:
        test = frozenset(tested(split))
    except (KeyError, TypeError, ValueError) as error:
        raise not_a_split(file) from error
    if missing := sorted(test - known):
        raise UserError(
            f"{file}: split 0 tests on {len(missing)} people of whom there is no image (first: {missing[0]})"
        )
    if not test:
        raise UserError(f"{file}: split 0 has no test identity")
    return Drawn(test, read_note(file))


def first_split(file: Path) -> Mapping[str, list[object]]:
    """Return split 0 of a file.

    Raises:
        UserError: it is not a list of splits.

    """
    splits = read_json(file)
    if not isinstance(splits, list) or not splits or not isinstance(splits[0], dict):
        raise not_a_split(file)
    return splits[0]


def not_a_split(file: Path) -> UserError:
    """Return the error for a file of another format."""
    return UserError(f"{file} does not hold splits of this data set as torchreid writes them; move it away or mend it")


def file_name(item: object) -> str:
    """Return the name of the image of an entry, which is a path, maybe of another machine, alone or first in a list.

    >>> file_name(["/home/somebody/viper/VIPeR/cam_a/000_45.bmp", 0, 0])
    '000_45.bmp'
    """
    path = item[0] if isinstance(item, list) and item else item
    if not isinstance(path, str):
        raise TypeError(f"expected a path, got {path!r}")
    return re.split(r"[/\\]", path)[-1]


def read_note(file: Path) -> str:
    """Return the note for a split that was read from a file."""
    return f"People are divided by split 0 of {file}; scores compare only with those of the same file."


def drawn_note(file: Path) -> str:
    """Return the note for a split by hash."""
    return (
        f"There is no {file}, so half of the people were drawn for the test by a hash of their numbers (always alike); "
        f"this is not a published split, and {UNLIKE_PUBLISHED}."
    )
