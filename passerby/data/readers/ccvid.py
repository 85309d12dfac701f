"""CCVID (Gu et al., "Clothes-Changing Person Re-identification with RGB Modality Only", CVPR 2022).

Tracklets are compared by the mean of their vectors with `query: all` and `test.unit: tracklet`, as in the paper. By
default the first image of each query tracklet is searched among all images of the gallery tracklets.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import ClassVar, Literal

from passerby.data.image_files import image_names
from passerby.data.readers.layout import tracklet_note
from passerby.data.readers.listing import Shot, locate, split_of
from passerby.data.readers.reader import ReaderSettings
from passerby.errors import UserError
from passerby.types import Dataset

LISTS = ("train.txt", "query.txt", "gallery.txt")
LINE = re.compile(r"(?P<path>(?P<session>session\d+)/\d+_(?P<cam>\d+))\s+(?P<pid>\d+)\s+(?P<clothes>\S+)", re.ASCII)
EXPECTED = "train.txt, query.txt and gallery.txt with lines like 'session1/001_01 001 u0_l0_s0_c0_a0'"


class CCVID(ReaderSettings):
    """CCVID as released, in the folder `CCVID`.

    Attributes:
        query, gallery: all images of the tracklets, as `test.unit: tracklet` needs, or the first of each.

    """

    summary: ClassVar[str] = "CCVID: 226 identities in several clothes, 2,856 tracklets, 347,833 images"

    kind: Literal["ccvid"] = "ccvid"
    root: str
    query: Literal["first", "all"] = "first"
    gallery: Literal["all", "first"] = "all"

    def read(self, name: str) -> Dataset:
        """See `read_ccvid`."""
        return read_ccvid(self, name)


def is_ccvid(folder: Path) -> bool:
    """Whether `folder` has the lists."""
    return all((folder / name).is_file() for name in LISTS)


def read_ccvid(settings: CCVID, name: str) -> Dataset:
    """Read the images of CCVID; the cameras of session 3 are others than those of sessions 1 and 2.

    Raises:
        UserError: lists or images are not there, or a line is another.

    """
    folder = locate(settings.root, kind=settings.kind, holds=is_ccvid, expected=EXPECTED)
    lines = [_lines(folder / name) for name in LISTS]
    worn = sorted({(m["pid"], m["clothes"]) for each in lines for m in each})
    number = {pair: place for place, pair in enumerate(worn)}
    tracklet = {path: place for place, path in enumerate(sorted({m["path"] for each in lines for m in each}))}
    first = (False, settings.query == "first", settings.gallery == "first")
    train, query, gallery = (
        split_of(
            [
                _shot(m, file, number[m["pid"], m["clothes"]], tracklet[m["path"]])
                for m in each
                for file in _images(folder, m["path"])[: 1 if only_first else None]
            ],
            folder,
            masks=settings.masks,
        )
        for each, only_first in zip(lines, first, strict=True)
    )
    note = (
        f"CCVID, {len(lines[1]):,} query and {len(lines[2]):,} gallery tracklets. "
        f"{tracklet_note(settings.query if settings.gallery == 'all' else 'first')}"
    )
    return Dataset(name, train, query, gallery, (note,))


def _lines(file: Path) -> list[re.Match[str]]:
    found = []
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"ccvid: cannot read {file} as a list in UTF-8; expected {EXPECTED}") from error
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        match = LINE.fullmatch(line.strip())
        if match is None:
            raise UserError(f"ccvid: {file}, line {number} is {line[:60]!r}; expected {EXPECTED}")
        found.append(match)
    return found


def _images(folder: Path, tracklet: str) -> list[str]:
    path = folder / tracklet
    names = image_names(path) if path.is_dir() else []
    if not names:
        raise UserError(f"ccvid: {path} has no images, and the lists name it")
    return [f"{tracklet}/{name}" for name in names]


def _shot(match: re.Match[str], path: str, clothes: int, tracklet: int) -> Shot:
    camera = int(match["cam"]) + (12 if match["session"] == "session3" else 0)
    return Shot(path, int(match["pid"]), camera, clothes=clothes, tracklet=tracklet)
