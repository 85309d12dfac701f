"""The layout that Market-1501 made common: `bounding_box_train`, `query`, `bounding_box_test`, facts in file names."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from passerby.data.image_files import image_names
from passerby.data.readers.listing import Shot, locate, split_of
from passerby.errors import UserError
from passerby.types import UNKNOWN, Dataset

TRAIN, QUERY, GALLERY = "bounding_box_train", "query", "bounding_box_test"
EXPECTED = f"the folders {TRAIN}, {QUERY} and {GALLERY}"


@dataclass(frozen=True)
class Published:
    """Number of images of a data set as released by its authors.

    Attributes:
        title: its usual name.
        train, query, gallery: images per split, after junk is dropped.

    """

    title: str
    train: int
    query: int
    gallery: int


@dataclass(frozen=True)
class Naming:
    """File naming of a data set.

    Attributes:
        regex: matched at the start of a file name; groups `pid`, `cam`, `frame`.
        example: shown to people whose files are named otherwise.

    """

    regex: re.Pattern[str]
    example: str


def holds_three_folders(folder: Path) -> bool:
    """Whether `folder` has all three folders of the layout."""
    return all((folder / name).is_dir() for name in (TRAIN, QUERY, GALLERY))


def locate_three_folders(root: str, *, kind: str, naming: Naming) -> Path:
    """Return `root` or the only folder one level below that has the three folders and files named as expected.

    Raises:
        UserError: the layout is not there, or there several times.

    """
    path = Path(root).expanduser()
    if holds_three_folders(path):
        return path

    def holds(folder: Path) -> bool:
        return holds_three_folders(folder) and naming.regex.match(first_name(folder)) is not None

    return locate(root, kind=kind, holds=holds, expected=f"{EXPECTED} with files like {naming.example}")


def first_name(folder: Path) -> str:
    """Return the first file name in the three folders, `""` when they hold no image."""
    return next((name for inner in (TRAIN, QUERY, GALLERY) for name in image_names(folder / inner)), "")


def read_shots(folder: Path, inner: str, naming: Naming) -> list[Shot]:
    """Read every image name in `folder/inner`, junk (`-1`) included.

    Raises:
        UserError: a name does not fit, and which.

    """
    shots: list[Shot] = []
    for name in image_names(folder / inner):
        match = naming.regex.match(name)
        if match is None:
            raise UserError(
                f"{folder / inner / name} is not named like {naming.example}; for other names use kind: folder"
            )
        shots.append(Shot(f"{inner}/{name}", int(match["pid"]), int(match["cam"]), int(match["frame"])))
    return shots


def without_junk(shots: Sequence[Shot]) -> list[Shot]:
    """Leave out the images of pid -1: boxes that hit a person badly, in the originals neither right nor wrong."""
    return [shot for shot in shots if shot.pid != UNKNOWN]


def read_three_folders(folder: Path, name: str, *, naming: Naming, published: Published, masks: str | None) -> Dataset:
    """Read a folder of the Market-1501 layout; junk is dropped, distractors of pid 0 stay in the gallery alone.

    Args:
        folder: holds the three folders.
        name: what the data set is to be called.
        naming: how its files are named.
        published: the counts of the original release; other counts are worth a note.
        masks: the folder of the masks, None = looked for inside and beside the folder.

    Raises:
        UserError: a file name does not fit, or there is no image at all.

    """
    listed = [read_shots(folder, inner, naming) for inner in (TRAIN, QUERY, GALLERY)]
    if not any(listed):
        raise UserError(f"{folder} has {EXPECTED}, but not one image in them")
    train, query, gallery = (without_junk(shots) for shots in listed)
    junk = sum(len(shots) for shots in listed) - len(train) - len(query) - len(gallery)
    shown = [any(shot.pid == 0 for shot in shots) for shots in (train, query, gallery)]
    is_distractor = zero_is_distractor(train=shown[0], query=shown[1], gallery=shown[2], junk=junk > 0)
    labelled = [shot for shot in train if shot.pid != 0] if is_distractor else train
    notes = (
        *junk_note(junk),
        *(distractor_note(len(train) - len(labelled)) if is_distractor else zero_note(any(shown))),
        *count_note(folder, published, (len(labelled), len(query), len(gallery))),
    )
    train_split, query_split, gallery_split = (
        split_of(shots, folder, masks=masks) for shots in (labelled, query, gallery)
    )
    return Dataset(name, train_split, query_split, gallery_split, notes)


def junk_note(count: int) -> tuple[str, ...]:
    """Return a note on the number of junk images left out, if any."""
    return (f"Junk images (identity -1) left out: {count:,}.",) if count else ()


def zero_is_distractor(*, train: bool, query: bool, gallery: bool, junk: bool) -> bool:
    """Whether identity 0 marks boxes without a person of interest, as in Market-1501, and is no person.

    In the releases such boxes are in the gallery, no query shows them, and they come with junk (-1); nothing is
    trained on them. In a folder whose identities are counted from 0, a query shows identity 0, or training images do
    without any junk beside.

    Args:
        train, query, gallery: whether images of identity 0 are there.
        junk: whether images of identity -1 are anywhere.

    """
    return gallery and not query and (junk or not train)


def zero_note(shown: bool) -> tuple[str, ...]:
    """Return a note that identity 0 counts as a person, if any image has it."""
    return (
        (
            "Identity 0 is taken for an identity like any other, because training or query images show it; in "
            "Market-1501 as released 0 marks distractors.",
        )
        if shown
        else ()
    )


def distractor_note(count: int) -> tuple[str, ...]:
    """Return a note on the number of images of identity 0 left out of training, if any."""
    return (
        (f"Images of identity 0 left out of training, because this naming marks distractors with 0: {count:,}.",)
        if count
        else ()
    )


UNLIKE_PUBLISHED = "its scores do not compare with published ones"
"""Part of every note that says so."""


def tracklet_note(query: Literal["first", "all"]) -> str:
    """Return how the images of tracklets are scored, and what makes scores comparable with published ones."""
    if query == "all":
        return "With test.unit: tracklet the means of tracklets are compared, as published; without, single images."
    return (
        f"The first image of each query tracklet is searched among single images, so {UNLIKE_PUBLISHED}; set query: "
        "all and test.unit: tracklet to compare the means of tracklets."
    )


def count_note(folder: Path, published: Published, counts: tuple[int, int, int]) -> tuple[str, ...]:
    """Return a note where the counts (train, query, gallery) differ from those of the published data set."""
    reference = (published.train, published.query, published.gallery)
    if counts == reference:
        return ()
    present, expected = ("/".join(f"{count:,}" for count in triple) for triple in (counts, reference))
    return (
        f"{folder.absolute().name} has {present} images (train/query/gallery), not the {expected} of {published.title} "
        f"as published; {UNLIKE_PUBLISHED}.",
    )
