"""People's own folders: divided or not, one folder per person or facts in the file names.

Identities come from the user's `pattern`, from one folder per person, or from Market-style names (`0001_c2...`).
Folders that are called after a role (`train`, `query`, `gallery`, `test`, also as in `image_query`) or a camera
(`cam01`) are understood as such at any depth and never as people; a set without roles is divided here. Where folders
and names leave open who is shown, the set is refused: a wrong guess would still get a score.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field

from passerby.data.image_files import folder_names, image_names, images_below, why_none
from passerby.data.readers.cameras import read_cameras
from passerby.data.readers.hash_split import DEFAULT_SHARE, split_by_hash, split_note
from passerby.data.readers.layout import distractor_note, junk_note, zero_is_distractor, zero_note
from passerby.data.readers.listing import existing_folder, some, split_of
from passerby.data.readers.named_images import NOBODY, NamedImage, NamedSplits, name_notes, number_shots
from passerby.data.readers.pattern import Pattern, compile_pattern
from passerby.data.readers.reader import ReaderSettings
from passerby.data.readers.roles import (
    READ,
    PathParts,
    looks_like_fold,
    not_read,
    path_parts,
    role_folders,
    role_places,
)
from passerby.errors import UserError
from passerby.types import Dataset

EXPECTED = "folders train, query and gallery, one folder per person, or images named like 0001_c2_000151.jpg"
MARKET_STYLE = re.compile(r"(?P<pid>-1|\d+)_c(?P<cam>\d+)(?=[s_.])(?:s\d+)?(?:_f?(?P<frame>\d+))?", re.ASCII)


class Folder(ReaderSettings):
    """A folder of crops.

    Attributes:
        root: the folder.
        pattern: template of the file names, such as `"{pid}_{cam}_{frame}"` or `"{pid}/{cam}/*"`, below the folders of
            the roles where there are any; without `{pid}` the identities are unknown and everything serves for training
            without labels.
        test_share: share of the identities to test on, in [0, 1], where the folder is not divided; 0.5 unless given.

    """

    summary: ClassVar[str] = "your own images: divided or not, one folder per person or facts in the file names"
    is_public: ClassVar[bool] = False

    kind: Literal["folder"] = "folder"
    root: str
    pattern: str | None = None
    test_share: float | None = Field(default=None, ge=0, le=1)

    def read(self, name: str) -> Dataset:
        """See `read_folder`."""
        return read_folder(self, name)


@dataclass(frozen=True)
class Reading:
    """The images of a folder, junk left out.

    Attributes:
        shots: of each role, or of `""` where the folder is not divided.
        distractors: likewise, the boxes without a person of interest, which Market-style names mark with identity 0.
        names: the folder of each role.
        notes: sentences on how the names were read.

    """

    shots: Mapping[str, list[NamedImage]]
    distractors: Mapping[str, list[NamedImage]]
    names: Mapping[str, str]
    notes: tuple[str, ...] = ()


def read_folder(settings: Folder, name: str) -> Dataset:
    """Read a folder of crops; notes describe how it was interpreted.

    Raises:
        UserError: no folder, no image, names without an identity, or `test_share` for a divided folder.

    """
    folder = existing_folder(settings.root, kind=settings.kind, expected=EXPECTED)
    role_folders(folder)  # refuses two folders for one purpose
    if settings.pattern is None:
        reading = _read_names(folder)
    else:
        reading = _read_pattern(folder, compile_pattern(settings.pattern))
    divided = bool(reading.names)
    if divided and settings.test_share is not None:
        inner = ", ".join(reading.names.values())
        raise UserError(f"folder: test_share has no effect, because {folder} is divided already ({inner})")
    if not divided and settings.test_share is None:
        _require_several(reading, folder)
    share = DEFAULT_SHARE if settings.test_share is None else settings.test_share
    splits, notes = _by_roles(reading) if divided else _by_hash(reading, share)
    if not splits.all:
        raise UserError(f"folder: no image in {folder}; expected {EXPECTED}{why_none()}")
    train, query, gallery = (split_of(shots, folder, masks=settings.masks) for shots in number_shots(splits))
    return Dataset(name, train, query, gallery, (*reading.notes, *notes, *name_notes(splits)))


# ---- from what is read to a division


def _by_roles(reading: Reading) -> tuple[NamedSplits, tuple[str, ...]]:
    """Divide by the roles of the folders."""
    train, query, gallery, test = (reading.shots.get(role, []) for role in READ)
    distractors = reading.distractors
    boxes = [*distractors.get("gallery", []), *distractors.get("test", [])]
    notes = distractor_note(len(distractors.get("train", [])))
    if test and not query:
        tested = split_by_hash(test, 1.0)
        notes = (
            *notes,
            f"{reading.names['test']} is not divided: one image per identity and camera is a query, the others are the "
            "gallery.",
        )
        return NamedSplits(train, tested.query, _sorted(tested.gallery, gallery, boxes)), notes
    return NamedSplits(train, _sorted(query, distractors.get("query", [])), _sorted(gallery, test, boxes)), notes


def _by_hash(reading: Reading, share: float) -> tuple[NamedSplits, tuple[str, ...]]:
    """Divide the people of a folder without roles."""
    distractors = reading.distractors.get("", [])
    splits = split_by_hash(reading.shots.get("", []), share)
    notes = split_note(splits)
    if not splits.gallery:
        return splits, (*notes, *distractor_note(len(distractors)))
    return NamedSplits(splits.train, splits.query, _sorted(splits.gallery, distractors)), notes


def _require_several(reading: Reading, folder: Path) -> None:
    """Refuse a folder that is taken for one identity, of which every search would find the right image."""
    shots = reading.shots.get("", [])
    identities = {shot.pid for shot in shots} - set(NOBODY)
    if len(identities) == 1 and len(shots) > 1 and not reading.distractors.get(""):
        raise UserError(
            f"folder: all {len(shots):,} images of {folder} are taken for one identity ({shots[0].pid}), so nothing "
            f'can be searched; where they show several, give a pattern (--pattern) such as "{{pid}}_*"{why_none()}'
        )


def _sorted(*piles: list[NamedImage]) -> list[NamedImage]:
    return sorted((shot for pile in piles for shot in pile), key=lambda shot: shot.path)


# ---- without a pattern


def _read_names(folder: Path) -> Reading:
    """Read all images below a folder by the names of folders and files."""
    places = [path_parts(path) for path in images_below(folder)]
    read = [place for place in places if place.role in READ]
    notes: list[str] = []
    names: dict[str, str] = {}
    if read:
        if unread := not_read(place.path for place in places if place.role not in READ):
            notes.append(f"Not read: {some(unread, '')}.")
        names = {role: _folder_of(role, read) for role in READ if any(place.role == role for place in read)}
    read = read or places
    depths = {len(place.others) for place in read}
    if max(depths, default=0) > 1:
        _refuse_depth(folder, read)
    if depths == {0, 1}:
        _refuse_both(folder, read)
    labelled = _by_folder(folder, read) if depths == {1} and not _is_one_heap(read) else _by_name(folder, read)
    shots, distractors = (
        {role: [shot for place, shot in pairs if (place.role if names else "") == role] for role in names or ("",)}
        for pairs in (labelled.shots, labelled.distractors)
    )
    return Reading(shots, distractors, names, (*notes, *labelled.notes))


@dataclass(frozen=True)
class _Named:
    shots: list[tuple[PathParts, NamedImage]]
    distractors: list[tuple[PathParts, NamedImage]]
    notes: tuple[str, ...]


def _folder_of(role: str, places: Sequence[PathParts]) -> str:
    """Return the path of the folder that gives the first image of a role its role."""
    path = next(place.path for place in places if place.role == role)
    folders = path.split("/")[:-1]
    last = max(row for row, folder in enumerate(folders) if path_parts(f"{folder}/x").role == role)
    return "/".join(folders[: last + 1])


def _is_one_heap(places: Sequence[PathParts]) -> bool:
    """Whether one folder holds all images and the file names hold the identities, so that the folder is none."""
    return len({place.others for place in places}) == 1 and all(MARKET_STYLE.match(place.name) for place in places)


def _by_folder(folder: Path, places: Sequence[PathParts]) -> _Named:
    identities = list(dict.fromkeys(place.others[0] for place in places))
    if all(looks_like_fold(person) for person in identities):
        raise UserError(
            f"folder: the folders of {folder} ({some(identities, '')}) look like parts of a data set, not like "
            'identities; give a pattern (--pattern), such as "*/{pid}_{cam}_*", or "{pid}/*" where '
            "each folder is one identity"
        )
    texts = [f"{place.camera}/{place.name}" if place.camera else place.name for place in places]
    cameras = read_cameras(texts, [place.path for place in places])
    shots = [
        (place, NamedImage(place.path, place.others[0], cam)) for place, cam in zip(places, cameras.names, strict=True)
    ]
    return _Named(shots, [], cameras.notes)


def _by_name(folder: Path, places: Sequence[PathParts]) -> _Named:
    pairs = [(place, _market_style(folder, place)) for place in places]
    identities = [(place, shot) for place, shot in pairs if shot.pid not in NOBODY]
    zero = [(place, shot) for place, shot in identities if int(shot.pid) == 0]
    shown = {place.role for place, _ in zero}
    junk = len(pairs) - len(identities)
    divided = any(place.role in READ for place in places)
    is_distractor = zero_is_distractor(
        train="train" in shown or not divided,
        query="query" in shown,
        gallery=bool(shown - {"train", "query"}),
        junk=junk > 0,
    )
    if not is_distractor:
        return _Named(identities, [], (*junk_note(junk), *zero_note(bool(zero))))
    return _Named([(place, shot) for place, shot in identities if int(shot.pid) != 0], zero, junk_note(junk))


def _market_style(folder: Path, place: PathParts) -> NamedImage:
    match = MARKET_STYLE.match(place.name)
    if match is not None:
        frame = None if match["frame"] is None else int(match["frame"])
        return NamedImage(place.path, match["pid"], match["cam"], frame)
    if place.camera:
        raise UserError(
            f"folder: {place.camera} in {folder / place.path} looks like a camera, and neither a folder nor the file "
            'name says who is shown; give a pattern (--pattern), such as "{cam}/{pid}_*", or "{pid}/*" where each '
            "folder is one identity"
        )
    raise UserError(
        f"folder: {folder / place.path} does not begin like 0001_c2_; give a pattern (--pattern) such as "
        '"{pid}_{cam}_*", put each person into a folder of their own, or read images of unknown people by kind: images'
    )


def _refuse_depth(folder: Path, places: Sequence[PathParts]) -> None:
    deep = next(place for place in places if len(place.others) > 1)
    raise UserError(
        f"folder: of {folder / deep.path}, any of the folders {' and '.join(deep.others)} may be the identity; give a "
        'pattern (--pattern) such as "{pid}/{cam}/*"'
    )


def _refuse_both(folder: Path, places: Sequence[PathParts]) -> None:
    flat = next(place for place in places if not place.others)
    deep = next(place for place in places if place.others)
    raise UserError(
        f"folder: {folder} holds both images ({flat.path}) and folders of images ({deep.path.rpartition('/')[0]}); "
        "keep one kind or give a pattern (--pattern)"
    )


# ---- by a pattern


def _read_pattern(folder: Path, pattern: Pattern) -> Reading:
    places = role_places(folder)
    shots: dict[str, list[NamedImage]] = {}
    for role, inner in places or [("", "")]:
        shots.setdefault(role, []).extend(_fitting(folder, pattern, inner=inner))
    unread = [name for name in folder_names(folder) if name not in {inner.partition("/")[0] for _, inner in places}]
    notes = (f"Not read: {some(unread, '')}.",) if places and unread else ()
    return Reading(shots, {}, dict(places), notes)


def _fitting(folder: Path, pattern: Pattern, *, inner: str) -> list[NamedImage]:
    """Read the images of `folder/inner`."""
    shots: list[NamedImage] = []
    for path in _images_at(folder / inner, pattern.depth):
        values = pattern.match(path)
        if values is None:
            raise UserError(f"folder: {_join(inner, path)} does not fit the pattern {pattern.text!r}")
        frame = values.get("frame")
        shots.append(
            NamedImage(
                _join(inner, path), values.get("pid", ""), values.get("cam", ""), None if frame is None else int(frame)
            )
        )
    if not shots:
        raise UserError(
            f"folder: no image {_how_deep(pattern.depth)} {folder / inner}, where the pattern {pattern.text!r} looks"
        )
    return shots


def _how_deep(depth: int) -> str:
    return "directly in" if depth == 0 else f"{depth} level{'s' if depth > 1 else ''} below"


def _images_at(folder: Path, depth: int) -> list[str]:
    if depth == 0:
        return image_names(folder)
    return [f"{name}/{path}" for name in folder_names(folder) for path in _images_at(folder / name, depth - 1)]


def _join(*parts: str) -> str:
    return "/".join(part for part in parts if part)
