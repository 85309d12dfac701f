"""Images with identities and cameras as names, and the numbering of names."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from passerby.data.names import nfc
from passerby.data.readers.listing import Shot, some
from passerby.types import UNKNOWN

NOBODY = ("", str(UNKNOWN))
"""The words that mean: unknown."""


@dataclass(frozen=True, slots=True)
class NamedImage:
    """One image with identity and camera as names, as in a file name or a table.

    Attributes:
        path: the file.
        pid, cam: any word, `""` or `"-1"` = unknown; composed letters and letters with accents are made alike (NFC).
        frame: number in the recording, or None.
        mask: its foreground mask, `""` = none named.
        clothes: any word, `""` or `"-1"` = unknown; None = nothing is known of clothes. Those of two identities are
            different clothes, whatever their words.
        tracklet: any word, `""` or `"-1"` = of no tracklet; None = nothing is known of tracklets. Those of two
            identities or cameras are different tracklets, whatever their words.

    """

    path: str
    pid: str
    cam: str
    frame: int | None = None
    mask: str = ""
    clothes: str | None = None
    tracklet: str | None = None

    def __post_init__(self) -> None:
        for name in ("pid", "cam", "clothes", "tracklet"):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, nfc(getattr(self, name)))

    @property
    def worn(self) -> tuple[str, str] | None:
        """Identity and clothes, where both are known."""
        return None if self.clothes is None or {self.pid, self.clothes} & set(NOBODY) else (self.pid, self.clothes)

    @property
    def seen(self) -> tuple[str, str, str] | None:
        """Identity, camera and tracklet, where there is one."""
        return None if self.tracklet is None or self.tracklet in NOBODY else (self.pid, self.cam, self.tracklet)


@dataclass(frozen=True)
class NamedSplits:
    """Train, query and gallery images of a data set."""

    train: list[NamedImage]
    query: list[NamedImage]
    gallery: list[NamedImage]

    @property
    def all(self) -> list[NamedImage]:
        """Every image of the three."""
        return [*self.train, *self.query, *self.gallery]


def are_numbers(words: Iterable[str]) -> bool:
    """Whether the words can stand as the numbers they spell: all whole, and no two alike (`1` and `01`)."""
    distinct = set(words)
    if not all(word.isascii() and word.isdecimal() and len(word) <= 18 for word in distinct):
        return False
    return len({int(word) for word in distinct}) == len(distinct)


def number_names(words: Iterable[str]) -> dict[str, int]:
    """Map words to numbers: numbers keep their value, other words get their place in sorted order.

    >>> number_names(["0007", "12"])
    {'0007': 7, '12': 12, '': -1, '-1': -1}
    >>> number_names(["ben", "anna", ""])
    {'anna': 0, 'ben': 1, '': -1, '-1': -1}
    """
    distinct = sorted(set(words) - set(NOBODY))
    numbers = (
        {word: int(word) for word in distinct} if are_numbers(distinct) else {w: i for i, w in enumerate(distinct)}
    )
    return numbers | dict.fromkeys(NOBODY, UNKNOWN)


def number_shots(splits: NamedSplits) -> tuple[list[Shot], list[Shot], list[Shot]]:
    """Return train, query and gallery with numbers; the same word is the same number in all three."""
    pids = number_names(shot.pid for shot in splits.all)
    cams = number_names(shot.cam for shot in splits.all)

    worn = {pair: number for number, pair in enumerate(sorted({shot.worn for shot in splits.all if shot.worn}))}

    def clothes(shot: NamedImage) -> int | None:
        return None if shot.clothes is None else worn.get(shot.worn or NOBODY, UNKNOWN)

    tracklets = {words: number for number, words in enumerate(sorted({s.seen for s in splits.all if s.seen}))}

    def tracklet(shot: NamedImage) -> int | None:
        return None if shot.tracklet is None else tracklets[shot.seen] if shot.seen else UNKNOWN

    def numbered(shots: Sequence[NamedImage]) -> list[Shot]:
        return [
            Shot(shot.path, pids[shot.pid], cams[shot.cam], shot.frame, clothes(shot), tracklet(shot)) for shot in shots
        ]

    return numbered(splits.train), numbered(splits.query), numbered(splits.gallery)


def name_notes(splits: NamedSplits) -> tuple[str, ...]:
    """Return notes on the numbering of names and on unknown identities and cameras."""
    shots = splits.all
    pids, cams = (
        {word for word in words if word not in NOBODY} for words in zip(*((s.pid, s.cam) for s in shots), strict=True)
    )
    notes: list[str] = []
    for column, words in (("identities", pids), ("cameras", cams)):
        if words and not are_numbers(words):
            named = [f"{word} = {number}" for number, word in enumerate(sorted(words))]
            notes.append(f"The {column} are words and are numbered in sorted order: {some(named, 'none')}.")
    if not pids:
        notes.append("No identity is known, so only training without labels is possible.")
    if not cams:
        notes.append("No camera is known: an evaluation counts matches from the query's own camera.")
    return tuple(notes)
