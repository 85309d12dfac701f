"""Images whose identities and cameras are words, and how words become numbers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from passerby.data.names import nfc
from passerby.data.readers.listing import Shot, some
from passerby.types import UNKNOWN

NOBODY = ("", str(UNKNOWN))
"""The words that mean: unknown."""


@dataclass(frozen=True, slots=True)
class WordShot:
    """One image and what is said of it, in the words that stand in a name or a table.

    Attributes:
        path: the file.
        pid, cam: any word, `""` or `"-1"` = unknown; composed letters and letters with accents are made alike (NFC).
        frame: number in the recording, or None.
        mask: its foreground mask, `""` = none named.

    """

    path: str
    pid: str
    cam: str
    frame: int | None = None
    mask: str = ""

    def __post_init__(self) -> None:
        for name in ("pid", "cam"):
            object.__setattr__(self, name, nfc(getattr(self, name)))


@dataclass(frozen=True)
class Division:
    """Which images are for what."""

    train: list[WordShot]
    query: list[WordShot]
    gallery: list[WordShot]

    @property
    def all(self) -> list[WordShot]:
        """Every image of the three."""
        return [*self.train, *self.query, *self.gallery]


def are_numbers(words: Iterable[str]) -> bool:
    """Whether the words can stand as the numbers they spell: all whole, and no two alike (`1` and `01`)."""
    distinct = set(words)
    if not all(word.isascii() and word.isdecimal() and len(word) <= 18 for word in distinct):
        return False
    return len({int(word) for word in distinct}) == len(distinct)


def number_words(words: Iterable[str]) -> dict[str, int]:
    """Map words to numbers: numbers keep their value, other words get their place in sorted order.

    >>> number_words(["0007", "12"])
    {'0007': 7, '12': 12, '': -1, '-1': -1}
    >>> number_words(["ben", "anna", ""])
    {'anna': 0, 'ben': 1, '': -1, '-1': -1}
    """
    distinct = sorted(set(words) - set(NOBODY))
    numbers = (
        {word: int(word) for word in distinct} if are_numbers(distinct) else {w: i for i, w in enumerate(distinct)}
    )
    return numbers | dict.fromkeys(NOBODY, UNKNOWN)


def number_shots(division: Division) -> tuple[list[Shot], list[Shot], list[Shot]]:
    """Return train, query and gallery with numbers; the same word is the same number in all three."""
    pids = number_words(shot.pid for shot in division.all)
    cams = number_words(shot.cam for shot in division.all)

    def numbered(shots: Sequence[WordShot]) -> list[Shot]:
        return [Shot(shot.path, pids[shot.pid], cams[shot.cam], shot.frame) for shot in shots]

    return numbered(division.train), numbered(division.query), numbered(division.gallery)


def word_notes(division: Division) -> tuple[str, ...]:
    """Say what a person should know of the words: how they were numbered, and what is unknown."""
    shots = division.all
    pids, cams = (
        {word for word in words if word not in NOBODY} for words in zip(*((s.pid, s.cam) for s in shots), strict=True)
    )
    notes: list[str] = []
    for what, words in (("identities", pids), ("cameras", cams)):
        if words and not are_numbers(words):
            named = [f"{word} = {number}" for number, word in enumerate(sorted(words))]
            notes.append(f"The {what} are words and are numbered in sorted order: {some(named, 'none')}.")
    if not pids:
        notes.append("No identity is known, so only training without labels is possible.")
    if not cams:
        notes.append("No camera is known: an evaluation counts matches from the query's own camera.")
    return tuple(notes)
