"""MARS (Zheng et al., "MARS: A Video Benchmark for Large-Scale Person Re-Identification", ECCV 2016).

Folders of identities hold the images of tracklets, named `PIDCxTyyyyFzzz.jpg`; `00-1` is junk and `0000` distractors.
Tracklets are compared by the mean of their images with `query: all` and `test.unit: tracklet`, as in the paper. By
default the first image of each query tracklet is searched among all images of the others.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np

from passerby.data.image_files import folder_names, image_names
from passerby.data.readers.hash_split import split_by_hash
from passerby.data.readers.layout import Naming, junk_note, tracklet_note, without_junk
from passerby.data.readers.listing import Shot, locate, split_of
from passerby.data.readers.named_images import NamedImage
from passerby.data.readers.nest import named
from passerby.data.readers.reader import ReaderSettings
from passerby.errors import UserError
from passerby.types import Dataset, Ints

NAMING = Naming(re.compile(r"(?P<pid>00-1|\d{4})C(?P<cam>\d)T(?P<track>\d+)F\d+", re.ASCII), "0001C1T0001F001.jpg")
TRAIN, TEST, INFO = "bbox_train", "bbox_test", "info"
EXPECTED = f"the folders {TRAIN} and {TEST}, one folder per identity in each, with files like {NAMING.example}"


class MARS(ReaderSettings):
    """MARS as released, in the folder `MARS`, with the lists of its evaluation code in `info` where there are any.

    Attributes:
        query: the first image of each query tracklet, or all of them, as `test.unit: tracklet` needs.

    """

    summary: ClassVar[str] = "MARS: 1,261 identities, 6 cameras, 1,191,003 images of tracklets"

    kind: Literal["mars"] = "mars"
    root: str
    query: Literal["first", "all"] = "first"

    def read(self, name: str) -> Dataset:
        """See `read_mars`."""
        return read_mars(self, name)


def is_mars(folder: Path) -> bool:
    """Whether `folder` has the layout."""
    if not all((folder / inner).is_dir() for inner in (TRAIN, TEST)):
        return False
    first = next((names[0] for pid in folder_names(folder / TRAIN) if (names := image_names(folder / TRAIN / pid))), "")
    return NAMING.regex.match(first) is not None


def read_mars(settings: MARS, name: str) -> Dataset:
    """Read the images of MARS; junk is dropped, distractors (0) stay in the gallery.

    Raises:
        UserError: the folders are not there, a file is named otherwise, or the lists do not fit the images.

    """
    folder = locate(settings.root, kind=settings.kind, holds=is_mars, expected=EXPECTED)
    listed, tested = (_read(folder, inner) for inner in (TRAIN, TEST))
    train = [shot for shot in without_junk(listed) if shot.pid != 0]
    everyone = without_junk(tested)
    info = folder / INFO
    asking, left_out, note = _by_lists(info) if (info / "query_IDX.mat").is_file() else _by_cameras(everyone, info)
    if settings.query == "all":
        tracklets = {shot.tracklet for shot in everyone if _file(shot) in asking}
        asking = frozenset(_file(shot) for shot in everyone if shot.tracklet in tracklets)
    query = [shot for shot in everyone if _file(shot) in asking]
    gallery = [shot for shot in everyone if _file(shot) not in asking and _file(shot) not in left_out]
    if not query:
        raise UserError(f"mars: the lists in {info} name no image of {folder / TEST}")
    notes = (
        f"{note} {tracklet_note(settings.query)}",
        *junk_note(len(listed) + len(tested) - len(without_junk(listed)) - len(everyone)),
    )
    train_split, query_split, gallery_split = (
        split_of(shots, folder, masks=settings.masks) for shots in (train, query, gallery)
    )
    return Dataset(name, train_split, query_split, gallery_split, notes)


def _read(folder: Path, inner: str) -> list[Shot]:
    return [
        _shot(path, match)
        for identity in folder_names(folder / inner)
        for path, match in named(folder, f"{inner}/{identity}", NAMING).items()
    ]


def _shot(path: str, match: re.Match[str]) -> Shot:
    pid, cam = -1 if match["pid"] == "00-1" else int(match["pid"]), int(match["cam"])
    return Shot(path, pid, cam, tracklet=(10 * (pid + 1) + cam) * 10**6 + int(match["track"]))


def _file(shot: Shot) -> str:
    return shot.path.rpartition("/")[2]


def _by_lists(info: Path) -> tuple[frozenset[str], frozenset[str], str]:
    """Return the first image of each query tracklet, their further images, and a note.

    The rows of `track_test_info` are (first, last, identity, camera) with places in test_name.txt, counted from 1.
    """
    tracks = _matrix(info / "tracks_test_info.mat", "track_test_info")
    query_tracks = _matrix(info / "query_IDX.mat", "query_IDX").ravel()
    file = info / "test_name.txt"
    if not file.is_file():
        raise UserError(f"mars: there is no {file}, which the lists beside it are about")
    names = file.read_text(encoding="utf-8").split()
    fits = tracks.ndim == 2 and tracks.shape[1] >= 2 and _inside(query_tracks, len(tracks))
    if not fits or not _inside(tracks[:, :2], len(names)):
        raise UserError(f"mars: the lists in {info} do not fit one another")
    spans = [names[int(first) - 1 : int(last)] for first, last in tracks[query_tracks - 1, :2]]
    first = frozenset(span[0] for span in spans if span)
    further = frozenset(name for span in spans for name in span[1:])
    return first, further, f"MARS, {len(spans):,} query tracklets of {info}."


def _inside(places: Ints, count: int) -> bool:
    """Whether all places, counted from 1, are among `count`."""
    return bool(((places >= 1) & (places <= count)).all())


def _matrix(file: Path, name: str) -> Ints:
    from scipy.io import loadmat  # heavy, and few readers need it

    if not file.is_file():
        raise UserError(f"mars: there is no {file}, which comes with the lists of the evaluation code")
    try:
        return np.asarray(loadmat(str(file), variable_names=[name])[name]).astype(np.int64)
    except Exception as error:  # scipy has no one error for a broken MATLAB file
        raise UserError(f"mars: {file} does not hold the matrix {name}") from error


def _by_cameras(shots: Sequence[Shot], info: Path) -> tuple[frozenset[str], frozenset[str], str]:
    """Return the first image of each identity and camera as queries, nothing to leave out, and a note."""
    words = [NamedImage(shot.path, str(shot.pid), str(shot.cam)) for shot in shots if shot.pid != 0]
    asking = frozenset(shot.path.rpartition("/")[2] for shot in split_by_hash(words, 1.0).query)
    return asking, frozenset(), f"MARS without {info}: one image of each identity and camera is a query."
