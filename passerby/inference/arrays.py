"""Images that are arrays already, made ready for a network: one batch of one size, or a list of different sizes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from passerby.data.decoding import Pixels
from passerby.data.loading import prepare
from passerby.errors import UserError
from passerby.inputs import InputSettings

ImageArrays = npt.NDArray[np.uint8] | Tensor | Sequence[npt.NDArray[np.uint8] | Tensor]
"""RGB bytes: (N, H, W, 3) or (N, 3, H, W), or a list of (H, W, 3) or (3, H, W) of any sizes."""

_ALLOWED = "uint8 RGB images: (N, H, W, 3) or (N, 3, H, W), or a list of (H, W, 3) or (3, H, W)"


def image_list(images: ImageArrays) -> list[Pixels]:
    """Return images as a list of (H, W, 3) uint8 arrays, without a copy where they are numpy arrays.

    >>> [one.shape for one in image_list(torch.zeros(2, 3, 8, 4, dtype=torch.uint8))]
    [(8, 4, 3), (8, 4, 3)]

    Raises:
        UserError: another type of number, another shape, or an axis order that cannot be told.

    """
    if isinstance(images, np.ndarray | Tensor):
        if images.ndim != 4:
            hint = "; of a single image make a batch by images[None]" if images.ndim == 3 else ""
            raise UserError(f"got an array of shape {tuple(images.shape)}; expected {_ALLOWED}{hint}")
        if images.shape[1] == images.shape[3] == 3:
            raise UserError(f"in {tuple(images.shape)} both the second and the last axis may be the colours")
    return [_height_width_colour(image, number) for number, image in enumerate(images)]


def _height_width_colour(image: npt.NDArray[np.uint8] | Tensor, number: int) -> Pixels:
    if not isinstance(image, np.ndarray | Tensor):
        raise UserError(f"image {number} is a {type(image).__name__}; expected {_ALLOWED}")
    array = image.detach().cpu().numpy() if isinstance(image, Tensor) else image
    if array.dtype != np.uint8:
        hint = "; values from 0 to 1 become bytes by (255 * images).round()" if array.dtype.kind == "f" else ""
        raise UserError(f"image {number} holds {array.dtype}; expected {_ALLOWED}{hint}")
    if array.ndim != 3 or 3 not in (array.shape[0], array.shape[2]) or not array.size:
        raise UserError(f"image {number} has shape {array.shape}; expected {_ALLOWED}")
    return array if array.shape[2] == 3 else array.transpose(1, 2, 0)


def prepared_batches(images: Sequence[Pixels], inputs: InputSettings, *, size: int) -> Iterator[Tensor]:
    """Yield (B, 3, h, w) uint8 batches, resized to a model's input; B = `size` but for the last."""
    for start in range(0, len(images), size):
        yield torch.stack([prepare(np.ascontiguousarray(image), inputs) for image in images[start : start + size]])
