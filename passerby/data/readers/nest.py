"""Small data sets whose images lie some folders below the root.

Toolkits unpack them under names of their own (`viper/VIPeR/cam_a`), so a folder may be named at any of these levels.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from passerby.data.image_files import image_names
from passerby.data.readers.layout import Naming, Published, count_note
from passerby.data.readers.listing import Shot, locate, split_of
from passerby.errors import UserError
from passerby.types import Dataset


@dataclass(frozen=True)
class Nest:
    """Location of the images of a data set.

    Attributes:
        kind: of the data set, for errors.
        places: below the named folder, the best known first; `"."` = the folder itself.
        folders: what is there, all with images; `"."` = the images lie there directly.
        naming: how the files of the first of `folders` are named.

    """

    kind: str
    places: tuple[str, ...]
    folders: tuple[str, ...]
    naming: Naming

    @property
    def expected(self) -> str:
        """The layout in words, for errors."""
        files = f"files like {self.naming.example}"
        if self.folders != (".",):
            files = f"the folders {', '.join(self.folders[:-1])} and {self.folders[-1]} with {files}"
        inner = [place for place in self.places if place != "."]
        return f"{files} (directly or below {' or '.join(inner)})" if inner else files

    def find(self, root: str) -> Path:
        """Return the folder that has the folders: at one of the places of `root` or of the only one below that fits.

        Raises:
            UserError: the layout is not there, or there several times.

        """
        folder = locate(root, kind=self.kind, holds=lambda path: self._place(path) is not None, expected=self.expected)
        place = self._place(folder)
        assert place is not None, "that is what was looked for"
        return place

    def _place(self, folder: Path) -> Path | None:
        return next((path for place in self.places if self.lies_in(path := folder / place)), None)

    def lies_in(self, place: Path) -> bool:
        """Whether the folders are directly in `place`, with files named as expected."""
        if not all((place / name).is_dir() for name in self.folders):
            return False
        names = image_names(place / self.folders[0])
        return bool(names) and self.naming.regex.match(names[0]) is not None


def named(place: Path, inner: str, naming: Naming) -> dict[str, re.Match[str]]:
    """Return the parsed names of the images in `place/inner`, by their path below `place`.

    Raises:
        UserError: a name does not fit, and which.

    """
    matches: dict[str, re.Match[str]] = {}
    for name in image_names(place / inner):
        match = naming.regex.match(name)
        if match is None:
            raise UserError(
                f"{place / inner / name} is not named like {naming.example}; for other names use kind: folder"
            )
        matches[name if inner == "." else f"{inner}/{name}"] = match
    return matches


@dataclass(frozen=True)
class Parts:
    """The images of a data set, divided.

    Attributes:
        train, query, gallery: what they are for.
        notes: sentences on the splits.

    """

    train: Sequence[Shot]
    query: Sequence[Shot]
    gallery: Sequence[Shot]
    notes: tuple[str, ...] = ()


def two_views(
    first: Sequence[Shot], second: Sequence[Shot], *, test: frozenset[int], notes: tuple[str, ...], lone: frozenset[int]
) -> Parts:
    """Divide images of people that two views show: those to test on are sought from the first view in the second.

    Args:
        first, second: what each view shows.
        test: identities to test on.
        notes: sentences on them.
        lone: identities that only the second view shows; they stay in the gallery.

    """
    return Parts(
        train=[shot for shot in (*first, *second) if shot.pid not in test and shot.pid not in lone],
        query=[shot for shot in first if shot.pid in test],
        gallery=[shot for shot in second if shot.pid in test or shot.pid in lone],
        notes=notes,
    )


def nested_dataset(name: str, place: Path, parts: Parts, *, published: Published, masks: str | None) -> Dataset:
    """Return the data set of divided images below `place`, with a note where the counts are not those published."""
    splits = (parts.train, parts.query, parts.gallery)
    count_train, count_query, count_gallery = map(len, splits)
    notes = (*parts.notes, *count_note(place, published, (count_train, count_query, count_gallery)))
    train, query, gallery = (split_of(shots, place, masks=masks) for shots in splits)
    return Dataset(name, train, query, gallery, notes)
