"""The camera of images that belong to no data set, as a person gives it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from passerby.encoders.model import Model
from passerby.errors import UserError, did_you_mean
from passerby.types import UNKNOWN, Ints, unknown_cameras_note


@dataclass(frozen=True)
class GivenCamera:
    """Cameras of images by the numbers of a training data set.

    Attributes:
        number: that of all images, or one for each; None = unknown, or as file names hold it.
        dataset: the training data set that has the camera; None = the only one there is.

    """

    number: int | Sequence[int] | None = None
    dataset: str | None = None

    def dataset_of(self, model: Model) -> str | None:
        """Return the given data set; raise `UserError` where the model learnt no cameras of it."""
        if self.dataset is not None and self.dataset not in model.cameras.datasets:
            if not model.cameras.count:
                raise UserError(f"--cameras-of {self.dataset} has no effect: this model uses no cameras")
            raise UserError(
                f"--cameras-of {self.dataset}: the model learnt the cameras of {', '.join(model.cameras.datasets)}"
                f"{did_you_mean(self.dataset, model.cameras.datasets)}"
            )
        return self.dataset

    def fill(self, cam: Ints) -> Ints:
        """Return the given numbers (N,), or `cam` (N,) where none are given."""
        if self.number is None:
            return cam
        if isinstance(self.number, int):
            return np.full(len(cam), self.number)
        if len(self.number) != len(cam):
            raise UserError(f"{len(self.number)} cameras for {len(cam)} images; give one of each, or one of all")
        return np.asarray(self.number, np.int64)

    def rows(self, model: Model, cam: Ints) -> Ints:
        """Return the rows (N,) of the camera table of a model for numbers (N,), -1 = unknown.

        Numbers that nobody gave, from file names, count only where the data set is given.

        Raises:
            UserError: a number that the model did not learn, or several data sets of which none is given.

        """
        name, table = self.dataset_of(model), model.cameras
        if not table.count or (name is None and self.number is None):
            return np.full(len(cam), UNKNOWN)
        if name is None and len(table.datasets) > 1:
            raise UserError(f"--camera: the model learnt the cameras of several data sets ({table}); give --cameras-of")
        rows = table.rows(name or table.datasets[0], cam)
        beyond = cam[(rows == UNKNOWN) & (cam != UNKNOWN)]
        if self.number is not None and len(beyond):
            raise UserError(f"--camera {beyond[0]}: the model learnt the cameras {table}")
        return rows


UNGIVEN = GivenCamera()


def unknown_camera_note(model: Model, rows: Ints) -> str | None:
    """Return a sentence on images (N,) of unknown cameras that a model embeds all the same, or None."""
    note = unknown_cameras_note(rows, model.cameras, unknown=model.unknown_camera)
    return None if note is None else f"{note}; give --camera and --cameras-of where it is one of {model.cameras}"
