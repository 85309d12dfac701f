"""Foreground masks: reading, hiding or swapping the background of an image.

A mask is 1 where the person is visible. An empty mask (a false box, a person behind a wall) says nothing about the
image, so such an image is left as it is.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image, UnidentifiedImageError
from pydantic import Field, model_validator
from torch import Tensor

from passerby.data.decoding import ImageError, open_bounded, read_content
from passerby.data.transforms import mix_seeds
from passerby.errors import UserError, first_line
from passerby.inputs import InputSettings
from passerby.settings import Settings

Use = Literal["none", "mask", "swap", "pool"]
"""`mask`: backgrounds are removed; `swap`: exchanged with another image's; `pool`: pooling is weighted by the mask."""

_STREAM = 1  # separate from the seeds of the augmentation, which is thus equal with and without masks


def fill_masked(image: Tensor, hidden: Tensor, colour: Tensor) -> Tensor:
    """Return an image (3, H, W) uint8 in which `colour` (3,) stands wherever `hidden` (1, H, W) is not 0.

    >>> fill_masked(torch.zeros(3, 1, 2, dtype=torch.uint8), torch.tensor([[[1, 0]]]), torch.tensor([7, 8, 9]))[:, 0]
    tensor([[7, 0],
            [8, 0],
            [9, 0]], dtype=torch.uint8)
    """
    return torch.where(hidden.bool(), colour.to(image.dtype).reshape(3, 1, 1), image)


def dilate_mask(mask: Tensor) -> Tensor:
    """Return masks (..., H, W) uint8 dilated by a 64th of their height, at least 1 pixel, to every side.

    Pixels along the edge mix person and background; without this margin a rim in the colours of the clothes remains.
    """
    reach = max(1, mask.shape[-2] // 64)
    grown = torch.nn.functional.max_pool2d(mask.float(), 2 * reach + 1, stride=1, padding=reach)
    return grown.to(mask.dtype)


def without_person(image: Tensor, mask: Tensor) -> Tensor:
    """Return an image (3, H, W) uint8 in which the background replaces the person, interpolated along each row.

    Each hidden pixel is the linear mix of the nearest background pixels of its row; where a whole row is hidden, the
    mean colour of the background. The smear shows the position of the person, but not the clothes.

    Args:
        image: (3, H, W) uint8.
        mask: (1, H, W) uint8 in {0, 1}, 1 = person; widened before.

    """
    hidden = dilate_mask(mask)[0].bool().numpy()
    if not hidden.any() or hidden.all():
        return image
    width = hidden.shape[1]
    columns = np.broadcast_to(np.arange(width), hidden.shape)
    left = np.maximum.accumulate(np.where(hidden, -1, columns), axis=1)[hidden]  # nearest background, -1 = none
    right = np.minimum.accumulate(np.where(hidden, width, columns)[:, ::-1], axis=1)[:, ::-1][hidden]  # width = none
    start, end = np.where(left < 0, right, left), np.where(right >= width, left, right)
    is_full_row = start >= width
    start, end = start.clip(0, width - 1), end.clip(0, width - 1)
    rows, column = np.nonzero(hidden)
    weight = ((column - start) / np.maximum(end - start, 1)).astype(np.float32)
    pixels = image.numpy()
    painted = pixels[:, rows, start] * (1 - weight) + pixels[:, rows, end] * weight  # (3, hidden pixels)
    painted[:, is_full_row] = pixels[:, ~hidden].mean(axis=1, keepdims=True)
    filled = pixels.copy()
    filled[:, hidden] = np.rint(painted)
    return torch.from_numpy(filled)


def swap_background(image: Tensor, mask: Tensor, other: Tensor, other_mask: Tensor) -> Tensor:
    """Combine the person of one image with the background of another, whose person is painted over.

    Args:
        image: (3, H, W) uint8, whose person is kept.
        mask: (1, H, W), not 0 = person.
        other: (3, H, W) uint8, whose background is taken.
        other_mask: (1, H, W), the person that is painted over.

    Returns:
        (3, H, W) uint8.

    Reference: Tian et al., "Eliminating Background-bias for Robust Person Re-identification", CVPR 2018.

    Differs from the paper: there the backgrounds come from images without people; here they come from the other
    training images, so that no further data are needed.

    """
    return torch.where(mask.bool(), image, without_person(other, other_mask))


class ForegroundSettings(Settings):
    """Use of foreground masks in training."""

    use: Use = Field(
        "none", description="use of masks; mask: hide the background, swap: exchange it, pool: weight the pooling"
    )
    probability: Annotated[float, Field(gt=0, le=1)] | None = Field(
        None, description="probability of changing an image; null = 1 for mask, 0.5 for swap"
    )

    @model_validator(mode="before")
    @classmethod
    def _short(cls, data: object) -> object:
        """Read `foreground: swap` as `foreground: {use: swap}`."""
        return {"use": data} if isinstance(data, str) else data

    @model_validator(mode="after")
    def _has_effect(self) -> Self:
        if self.probability is not None and self.use not in ("mask", "swap"):
            raise ValueError(f"probability has no effect with use: {self.use}; it belongs to mask and swap")
        return self

    @property
    def chance(self) -> float:
        """Probability that the background of a training image is changed."""
        if self.use in ("none", "pool"):
            return 0.0
        return self.probability or (1.0 if self.use == "mask" else 0.5)


# ---- masks from files


def decode_mask(path: str | Path) -> npt.NDArray[np.uint8]:
    """Read a mask file into (H, W) uint8, 1 = person.

    Accepted: 1 bit per pixel, grey values 0 and 1, or grey values of which 128 and more are person.

    Raises:
        UserError: missing, no image, or ambiguous grey values.

    """
    content = read_content(path, what="mask")
    try:
        with open_bounded(content) as image:
            grey = np.asarray(_grey(image))
    except UnidentifiedImageError as error:
        raise ImageError(f"the mask {path} is not a readable image (no known format)") from error
    except Exception as error:  # Pillow raises many kinds, SyntaxError among them
        raise ImageError(f"the mask {path} is not a readable image ({first_line(error)})") from error
    highest = int(grey.max())
    if 1 < highest < 128:
        raise UserError(
            f"the mask {path} has values from 0 to {highest}; a mask is black and white (0 and 255, or 0 and 1)"
        )
    return (grey >= min(128, max(highest, 1))).astype(np.uint8)


def _grey(image: Image.Image) -> Image.Image:
    """Return the values of a mask: palette numbers as they are, transparent pixels 0."""
    if image.mode == "P":
        return image
    if not image.has_transparency_data:
        return image.convert("L")
    layer = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", image.size, (0, 0, 0, 255)), layer).convert("L")


def fit_mask(mask: npt.NDArray[np.uint8], inputs: InputSettings) -> Tensor:
    """Resize a mask (H, W) to the model's size without mixing: (1, h, w) uint8."""
    height, width = inputs.size
    if mask.shape != (height, width):
        mask = np.asarray(Image.fromarray(mask).resize((width, height), Image.Resampling.NEAREST))
    return torch.from_numpy(np.array(mask))[None]


def mean_colour(inputs: InputSettings) -> Tensor:
    """Return the mean of the model's input as bytes (3,), which is 0 after normalisation."""
    return torch.tensor([round(255 * value) for value in inputs.mean], dtype=torch.uint8)


def draw_partner(row: int, count: int, *, chance: float, seeds: tuple[int, ...]) -> int | None:
    """Return the row of a random other image whose background replaces that of an image; None = no change.

    Args:
        row: of the image, which is never drawn.
        count: number of images.
        chance: probability of a change, in [0, 1].
        seeds: seed, stage, epoch, batch and position.

    """
    generator = np.random.default_rng(mix_seeds(*seeds, _STREAM))
    if generator.random() >= chance or count < 2:
        return None
    partner = int(generator.integers(count - 1))
    return partner + (partner >= row)
