"""Images of a job as a probe takes them."""

from __future__ import annotations

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

MOST = 16
"""Images of a probe."""


@dataclass(frozen=True, eq=False)
class Sample:
    """Images (B, H, W, 3) RGB of the size of a model, and their rows (B,) of its camera table; None = all unknown."""

    images: npt.NDArray[np.uint8]
    cam: Ints | None = None

    def embed(self, model: Model, count: int | None = None) -> Floats:
        """Return the vectors of the first `count` images; None = all."""
        return model.embed(self.images[:count], cam=None if self.cam is None else self.cam[:count])


def sample_files(paths: Words, cam: Ints | None, inputs: InputSettings) -> Sample:
    """Return the first of some image files (N,).

    Raises:
        UserError: one that cannot be read.

    """
    pixels = [decode(path, least=inputs.size) for path in paths[:MOST].tolist()]
    return Sample(_resized(pixels, inputs), None if cam is None else cam[:MOST])


def sample_arrays(images: ImageArrays, cam: Ints | None, inputs: InputSettings) -> Sample:
    """Return the first of some images in memory."""
    return Sample(_resized(image_list(images[:MOST]), inputs), None if cam is None else cam[:MOST])


def _resized(pixels: list[Pixels], inputs: InputSettings) -> npt.NDArray[np.uint8]:
    rgb = inputs.model_copy(update={"colour": "rgb"})
    prepared = torch.stack([prepare(np.ascontiguousarray(image), rgb) for image in pixels])  # (B, 3, H, W)
    return np.ascontiguousarray(prepared.numpy().transpose(0, 2, 3, 1))


def cosine_difference(model: Model, exact: Model, sample: Sample) -> float:
    """Return the largest cosine distance between the vectors that two models give of an image; NaN where one is."""
    return parity(sample.embed(model), sample.embed(exact)).cosine
