"""QMUL GRID (Loy et al., "Multi-camera activity correlation analysis", CVPR 2009).

250 people in eight cameras of an underground station, one image of each in `probe` and in `gallery`, and 775 images of
other people in `gallery`. The ten published splits lie in a MATLAB file; the first one is read.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import ClassVar, Literal

from passerby.data.readers.layout import Naming, Published
from passerby.data.readers.listing import Shot
from passerby.data.readers.nest import Nest, named, nested_dataset, two_views
from passerby.data.readers.reader import ReaderSettings
from passerby.errors import UserError
from passerby.types import Dataset

NAMING = Naming(
    re.compile(r"(?P<pid>\d+)_(?P<cam>\d+)_.*\.jpe?g$", re.ASCII | re.IGNORECASE), "0001_1_25004_107_32_106_221.jpeg"
)
NEST = Nest("grid", ("underground_reid", "."), ("probe", "gallery"), NAMING)
PUBLISHED = Published("GRID, split 0", 250, 125, 900)
PARTITIONS = "features_and_partitions.mat"
OTHERS = 0
"""The number of people of whom there is only one image."""


class GRID(ReaderSettings):
    """GRID as released, in the folder `underground_reid` or one that holds it."""

    summary: ClassVar[str] = "GRID: 250 identities, 8 cameras, 1,275 images"

    kind: Literal["grid"] = "grid"
    root: str

    def read(self, name: str) -> Dataset:
        """See `read_grid`."""
        return read_grid(self, name)


def read_grid(settings: GRID, name: str) -> Dataset:
    """Read GRID with the first of its published splits; people with one image only stay in the gallery.

    Raises:
        UserError: the folders or the file of splits are not there, or a file is named otherwise.

    """
    place = NEST.find(settings.root)
    first, second = (
        [Shot(path, int(match["pid"]), int(match["cam"])) for path, match in named(place, inner, NAMING).items()]
        for inner in NEST.folders
    )
    learnt = _first_training_identities(place / PARTITIONS)
    test = frozenset(shot.pid for shot in first) - learnt - {OTHERS}
    note = f"GRID with the first of the ten splits in {PARTITIONS}."
    parts = two_views(first, second, test=test, notes=(note,), lone=frozenset({OTHERS}))
    return nested_dataset(name, place, parts, published=PUBLISHED, masks=settings.masks)


def _first_training_identities(file: Path) -> frozenset[int]:
    from scipy.io import loadmat  # only this reader needs it

    if not file.is_file():
        raise UserError(f"grid: there is no {file}, which comes with the images and lists the training identities")
    try:
        cell = loadmat(str(file), variable_names=["trainIdxAll"])["trainIdxAll"]
        return frozenset(int(number) for number in cell.ravel()[0]["personIdx"].ravel()[0].ravel())
    except Exception as error:  # scipy has no one error for a broken MATLAB file
        raise UserError(
            f"grid: {file} does not hold the published splits (trainIdxAll, with personIdx in each)"
        ) from error
