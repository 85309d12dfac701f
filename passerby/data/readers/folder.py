"""People's own folders: divided or not, one folder per person or facts in the file names.

Three ways of telling who is who, tried in this order: the user's `pattern`; one sub-folder per person; Market-style
names (`0001_c2...`). Divided means sub-folders `train`, `query`, `gallery` (or the Market-1501 names); a set without
them is divided here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import Field

from passerby.data.image_files import why_none
from passerby.data.readers.division import DEFAULT_SHARE, divide, division_note
from passerby.data.readers.layout import distractor_note, junk_note
from passerby.data.readers.listing import existing_folder, folder_names, image_names, some, split_of
from passerby.data.readers.pattern import Pattern, compile_pattern
from passerby.data.readers.words import NOBODY, Division, WordShot, number_shots, word_notes
from passerby.errors import UserError
from passerby.settings import Settings
from passerby.types import Dataset

EXPECTED = "folders train, query and gallery, one folder per person, or images named like 0001_c2_000151.jpg"
ROLE_FOLDERS = {
    "train": ("train", "bounding_box_train"),
    "query": ("query",),
    "gallery": ("gallery", "bounding_box_test"),
    "test": ("test",),
}
MARKET_STYLE = re.compile(r"(?P<pid>-1|\d+)_c(?P<cam>\d+)(?=[s_.])(?:s\d+)?(?:_f?(?P<frame>\d+))?", re.ASCII)
CAMERA_TOKEN = re.compile(r"(?<![a-z])(?:cam(?:era)?[-_ ]?|c)(\d+)(?=[st]\d|[^a-z0-9]|$)", re.ASCII | re.IGNORECASE)


class Folder(Settings):
    """A folder of crops.

    Attributes:
        root: the folder.
        pattern: template of the file names, such as `"{pid}_{cam}_{frame}"` or `"{pid}/{cam}/*"`; without `{pid}` the
            identities are unknown and everything serves for training without labels.
        test_share: share of the identities to test on, in [0, 1], where the folder is not divided; 0.5 unless given.
        masks: folder of foreground masks, one .png at the relative path of each image; None = `masks` inside or beside
            the folder.

    """

    kind: Literal["folder"] = "folder"
    root: str
    pattern: str | None = None
    test_share: float | None = Field(default=None, ge=0, le=1)
    masks: str | None = None


@dataclass(frozen=True)
class Pile:
    """The images of one folder, junk left out.

    Attributes:
        shots: people, and images of unknown identity.
        distractors: what Market-style names mark with identity 0: boxes without a person of interest.
        notes: what a person should know.

    """

    shots: list[WordShot]
    distractors: list[WordShot]
    notes: tuple[str, ...] = ()


def read_folder(settings: Folder, name: str) -> Dataset:
    """Read a folder of crops; notes say how it was understood.

    Raises:
        UserError: no folder, no image, a name that does not tell who is shown, or `test_share` for a divided folder.

    """
    folder = existing_folder(settings.root, kind=settings.kind, expected=EXPECTED)
    pattern = None if settings.pattern is None else compile_pattern(settings.pattern)
    inner = role_folders(folder)
    if inner and settings.test_share is not None:
        raise UserError(
            f"folder: test_share has no effect, because {folder} is divided already ({', '.join(inner.values())})"
        )
    if inner:
        division, notes = _read_divided(folder, inner, pattern)
    else:
        division, notes = _read_undivided(
            folder, pattern, settings.test_share if settings.test_share is not None else DEFAULT_SHARE
        )
    if not division.all:
        raise UserError(f"folder: no image in {folder}; expected {EXPECTED}{why_none()}")
    train, query, gallery = (split_of(shots, folder, masks=settings.masks) for shots in number_shots(division))
    return Dataset(name, train, query, gallery, (*notes, *word_notes(division)))


def role_folders(folder: Path) -> dict[str, str]:
    """Return which sub-folder is for what (`train`, `query`, `gallery`, `test`); empty when the folder is not divided.

    Raises:
        UserError: two sub-folders for the same purpose.

    """
    present = folder_names(folder)
    found: dict[str, str] = {}
    for role, known in ROLE_FOLDERS.items():
        names = [name for name in present if name.lower() in known]
        if len(names) > 1:
            raise UserError(f"folder: {folder} holds both {names[0]} and {names[1]}; keep one")
        if names:
            found[role] = names[0]
    return found


def _read_divided(folder: Path, inner: Mapping[str, str], pattern: Pattern | None) -> tuple[Division, tuple[str, ...]]:
    piles = {role: _read_pile(folder, pattern, inner=name) for role, name in inner.items()}
    notes = [note for pile in piles.values() for note in pile.notes]
    unread = [name for name in folder_names(folder) if name not in inner.values()]
    if unread:
        notes.append(f"Not read: {some(unread, '')}.")
    nothing = Pile([], [])
    train, query, gallery, test = (piles.get(role, nothing) for role in ("train", "query", "gallery", "test"))
    notes.extend(distractor_note(len(train.distractors)))
    if test.shots and not query.shots:
        tested = divide(test.shots, 1.0)
        division = Division(
            train.shots, tested.query, _sorted(tested.gallery, gallery.shots, gallery.distractors, test.distractors)
        )
        notes.append(
            f"{inner['test']} is not divided: one image per identity and camera is a query, the others are the gallery."
        )
        return division, tuple(notes)
    pool = _sorted(gallery.shots, gallery.distractors, test.shots, test.distractors)
    return Division(train.shots, _sorted(query.shots, query.distractors), pool), tuple(notes)


def _read_undivided(folder: Path, pattern: Pattern | None, share: float) -> tuple[Division, tuple[str, ...]]:
    pile = _read_pile(folder, pattern, inner="")
    division = divide(pile.shots, share)
    notes = [*pile.notes, *division_note(division)]
    if not division.gallery:
        return division, (*notes, *distractor_note(len(pile.distractors)))
    return Division(division.train, division.query, _sorted(division.gallery, pile.distractors)), tuple(notes)


def _sorted(*piles: list[WordShot]) -> list[WordShot]:
    return sorted((shot for pile in piles for shot in pile), key=lambda shot: shot.path)


def _read_pile(folder: Path, pattern: Pattern | None, *, inner: str) -> Pile:
    """Read the images of `folder/inner` in the first way that fits."""
    if pattern is not None:
        return _read_pattern(folder, pattern, inner=inner)
    here = folder / inner
    names, people = image_names(here), [person for person in folder_names(here) if image_names(here / person)]
    if names and people:
        raise UserError(
            f"folder: {here} holds both images ({names[0]}) and folders of images ({people[0]}); "
            "keep one kind or give a pattern"
        )
    if people:
        return _read_people(folder, {person: image_names(here / person) for person in people}, inner=inner)
    if not names and folder_names(here):
        raise UserError(
            f"folder: no image in {here} nor one level below; for deeper folders give a pattern such as "
            '"{pid}/{cam}/*"'
        )
    return _read_market_style(folder, names, inner=inner)


def _read_people(folder: Path, people: Mapping[str, list[str]], *, inner: str) -> Pile:
    tokens = {name: CAMERA_TOKEN.search(name) for names in people.values() for name in names}
    count = sum(token is not None for token in tokens.values())
    known = count == len(tokens)
    shots = [
        WordShot(_join(inner, person, name), person, token[1] if known and (token := tokens[name]) else "")
        for person, names in people.items()
        for name in names
    ]
    notes = (
        f"Only {count} of {len(tokens)} file names tell a camera (as in c2 or cam2), so cameras are taken as unknown.",
    )
    return Pile(shots, [], notes if 0 < count < len(tokens) else ())


def _read_market_style(folder: Path, names: list[str], *, inner: str) -> Pile:
    shots: list[WordShot] = []
    for name in names:
        match = MARKET_STYLE.match(name)
        if match is None:
            raise UserError(
                f"folder: {folder / inner / name} does not begin like 0001_c2_; give a pattern such as "
                '"{pid}_{cam}_*", or put each person into a folder of their own'
            )
        frame = None if match["frame"] is None else int(match["frame"])
        shots.append(WordShot(_join(inner, name), match["pid"], match["cam"], frame))
    people = [shot for shot in shots if shot.pid not in NOBODY]
    distractors = [shot for shot in people if int(shot.pid) == 0]
    return Pile([shot for shot in people if int(shot.pid) != 0], distractors, junk_note(len(shots) - len(people)))


def _read_pattern(folder: Path, pattern: Pattern, *, inner: str) -> Pile:
    shots: list[WordShot] = []
    for path in _images_at(folder / inner, pattern.depth):
        found = pattern.match(path)
        if found is None:
            raise UserError(f"folder: {_join(inner, path)} does not fit the pattern {pattern.text!r}")
        frame = found.get("frame")
        shots.append(
            WordShot(
                _join(inner, path), found.get("pid", ""), found.get("cam", ""), None if frame is None else int(frame)
            )
        )
    if not shots:
        raise UserError(
            f"folder: no image {_how_deep(pattern.depth)} {folder / inner}, where the pattern {pattern.text!r} looks"
        )
    return Pile(shots, [])


def _how_deep(depth: int) -> str:
    return "directly in" if depth == 0 else f"{depth} level{'s' if depth > 1 else ''} below"


def _images_at(folder: Path, depth: int) -> list[str]:
    if depth == 0:
        return image_names(folder)
    return [f"{name}/{path}" for name in folder_names(folder) for path in _images_at(folder / name, depth - 1)]


def _join(*parts: str) -> str:
    return "/".join(part for part in parts if part)
