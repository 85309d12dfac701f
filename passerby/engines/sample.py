"""Images of a job as a probe takes them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from passerby.data.decoding import Pixels, decode
from passerby.data.loading import prepare
from passerby.encoders import Model
from passerby.exporting import parity
from passerby.inference.arrays import ImageArrays, image_list
from passerby.inputs import InputSettings
from passerby.types import Floats, Ints, Words

PROBED = 16
"""Images of a probe."""


@dataclass(frozen=True, eq=False)
class Sample:
    """Images (B, H, W, 3) RGB of the size of a model, and their rows (B,) of its camera table; None = all unknown."""

    images: npt.NDArray[np.uint8]
    cam: Ints | None = None

    def embed(self, model: Model, count: int | None = None) -> Floats:
        """Return the vectors of the first `count` images; None = all."""
        return model.embed(self.images[:count], cam=None if self.cam is None else self.cam[:count])


def sample_files(paths: Words, cam: Ints | None, inputs: InputSettings, most: int = PROBED) -> Sample:
    """Return at most so many of some image files (N,), evenly spaced.

    Raises:
        UserError: one that cannot be read.

    """
    rows = _spaced(len(paths), most)
    pixels = [decode(path, least=inputs.size) for path in paths[rows].tolist()]
    return Sample(_resized(pixels, inputs), None if cam is None else cam[rows])


def sample_arrays(images: ImageArrays, cam: Ints | None, inputs: InputSettings, most: int = PROBED) -> Sample:
    """Return at most so many of some images in memory, evenly spaced."""
    rows = _spaced(len(images), most)
    listed = image_list(images)
    return Sample(_resized([listed[row] for row in rows], inputs), None if cam is None else cam[rows])


def join_samples(samples: Sequence[Sample]) -> Sample:
    """Return the images of samples, one after the other, of unknown cameras."""
    return Sample(np.concatenate([each.images for each in samples]))


def _spaced(count: int, most: int) -> Ints:
    """Return the numbers of at most so many of some images, ascending."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).astype(np.int64))


def _resized(pixels: list[Pixels], inputs: InputSettings) -> npt.NDArray[np.uint8]:
    rgb = inputs.model_copy(update={"colour": "rgb"})
    prepared = torch.stack([prepare(np.ascontiguousarray(image), rgb) for image in pixels])  # (B, 3, H, W)
    return np.ascontiguousarray(prepared.numpy().transpose(0, 2, 3, 1))


def cosine_difference(model: Model, exact: Model, sample: Sample) -> float:
    """Return the largest cosine distance between the vectors that two models give of an image; NaN where one is."""
    return parity(sample.embed(model), sample.embed(exact)).cosine
