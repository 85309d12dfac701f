"""The cameras that a model learnt: one row of its camera table for each camera of each training data set."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from passerby.errors import UserError
from passerby.types.columns import UNKNOWN, Ints

UnknownCamera = Literal["refuse", "mean", "zero"]
"""Treatment of an image of an unknown camera: an error, the mean of the camera embeddings, or no embedding."""


@dataclass(frozen=True)
class CameraTable:
    """Cameras by data set. The row of a camera is its place when all data sets are read in order.

    Equal numbers in two data sets are two cameras, and so two rows.

    Attributes:
        datasets: names of the training data sets, in the order in which the stages name them.
        numbers: of each data set its camera numbers, ascending.

    >>> table = CameraTable(("market1501", "plaza"), ((1, 2, 5), (0, 1)))
    >>> table.count, table.rows("plaza", np.array([1, 7, 0])).tolist()
    (5, [4, -1, 3])

    """

    datasets: tuple[str, ...] = ()
    numbers: tuple[tuple[int, ...], ...] = ()

    @property
    def count(self) -> int:
        """Number of rows."""
        return sum(map(len, self.numbers))

    def rows(self, dataset: str, cam: Ints) -> Ints:
        """Return the rows (N,) of camera numbers (N,) of a data set; -1 = a camera that the table does not hold."""
        rows = np.full(len(cam), UNKNOWN, np.int64)
        if dataset not in self.datasets:
            return rows
        place = self.datasets.index(dataset)
        first = sum(map(len, self.numbers[:place]))
        for row, number in enumerate(self.numbers[place], start=first):
            rows[cam == number] = row
        return rows

    def to_plain(self) -> dict[str, list[int]]:
        """Return the table as plain data for a file."""
        return {name: list(numbers) for name, numbers in zip(self.datasets, self.numbers, strict=True)}

    @classmethod
    def from_plain(cls, data: Mapping[str, object], *, source: str) -> CameraTable:
        """Read a table from plain data; raise `UserError` where it is not one."""
        numbers: list[tuple[int, ...]] = []
        for name, values in data.items():
            if not isinstance(values, list) or any(type(value) is not int for value in values):
                raise UserError(f"{source}: the cameras of {name!r} are not a list of whole numbers")
            numbers.append(tuple(values))
        return cls(tuple(data), tuple(numbers))

    def __str__(self) -> str:
        """The cameras of each data set in a few words."""
        pairs = zip(self.datasets, self.numbers, strict=True)
        return "; ".join(f"{name}: {', '.join(map(str, numbers))}" for name, numbers in pairs)


NO_CAMERAS = CameraTable()
"""The table of a model that uses no cameras."""


def require_known_cameras(rows: Ints, table: CameraTable, *, unknown: UnknownCamera, source: str) -> None:
    """Raise `UserError` where images are of unknown cameras and the model refuses them.

    Args:
        rows: (N,) rows of the table, -1 = unknown.
        table: of the model.
        unknown: treatment of an unknown camera by the model.
        source: name of the model or the images in the message.

    """
    count = int((rows == UNKNOWN).sum())
    if table.count and unknown == "refuse" and count:
        raise UserError(
            f"{source}: the camera of {count:,} of {len(rows):,} images is unknown to the model, which has learnt an "
            f"embedding of each camera and none for unknown ones (known cameras: {table}); give the camera of the "
            "images by --camera, or where several data sets were learnt also --cameras-of"
        )


def unknown_cameras_note(rows: Ints, table: CameraTable, *, unknown: UnknownCamera) -> str | None:
    """Return a sentence on images (N,) of unknown cameras that a model embeds all the same, or None.

    The arguments are those of `require_known_cameras`.
    """
    count = int((rows == UNKNOWN).sum())
    if not table.count or not count or unknown == "refuse":
        return None
    instead = "no camera embedding is" if unknown == "zero" else "the mean of the camera embeddings is"
    return f"the camera of {count:,} of {len(rows):,} images is unknown to the model, so {instead} added"
