"""A small segmentation network, its losses and its file format."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from passerby.errors import UserError
from passerby.files import atomic_write, reading
from passerby.inputs import InputSettings
from passerby.metadata import safetensors_texts
from passerby.models.normalisation import normalise, register_normalisation
from passerby.models.weights_file import read_weights
from passerby.settings import Settings, build

_KEY = "passerby_segmenter"


def overlap(predicted: Tensor, target: Tensor) -> Tensor:
    """Return the intersection over union (B,) of masks (B, 1, H, W) of 0 and 1; two empty masks overlap fully.

    >>> overlap(torch.tensor([[[[1, 1, 0]]]]), torch.tensor([[[[0, 1, 1]]]]))
    tensor([0.3333])
    """
    predicted, target = predicted.bool(), target.bool()
    both, either = (predicted & target).sum(dim=(1, 2, 3)), (predicted | target).sum(dim=(1, 2, 3))
    return torch.where(either > 0, both / either.clamp(min=1), 1.0)


def dice_loss(logits: Tensor, target: Tensor) -> Tensor:
    """Return one minus the Dice coefficient of the probabilities, the mean over images.

    Args:
        logits: (B, 1, H, W), above 0 = person.
        target: (B, 1, H, W) of 0 and 1.

    Reference: Milletari et al., "V-Net: Fully Convolutional Neural Networks for Volumetric Medical Image Segmentation",
    3DV 2016.

    Differs from the paper: the sums in the denominator are not squared, and 1 is added above and below, so that an
    empty mask has a gradient.

    """
    predicted, target = logits.float().sigmoid(), target.float()
    both = (predicted * target).sum(dim=(1, 2, 3))
    total = predicted.sum(dim=(1, 2, 3)) + target.sum(dim=(1, 2, 3))
    return (1 - (2 * both + 1) / (total + 1)).mean()


class SegmenterSettings(Settings):
    """Widths and input settings of the network."""

    input: InputSettings = InputSettings(size=(128, 64))
    widths: Annotated[tuple[Annotated[int, Field(ge=1)], ...], Field(min_length=2)] = (8, 16, 32, 64, 96)


class Segmenter(nn.Module):
    """A U-Net: downsampling by halves, upsampling, and a skip connection at each size.

    Args:
        settings: channels at each size, from the full one down.

    Reference: Ronneberger et al., "U-Net: Convolutional Networks for Biomedical Image Segmentation", MICCAI 2015.

    Differs from the paper: padded convolutions, one per size and direction, with batch norm; strides for pooling.

    """

    divisor: Tensor
    mean: Tensor
    std: Tensor

    def __init__(self, settings: SegmenterSettings) -> None:
        super().__init__()
        self.settings = settings
        widths = settings.widths
        self.stem = _block(3, widths[0])
        self.down = nn.ModuleList(
            nn.Sequential(_block(wide, deep, stride=2), _block(deep, deep)) for wide, deep in pairwise(widths)
        )
        self.up = nn.ModuleList(
            _block(deep + wide, wide) for wide, deep in zip(widths[-2::-1], widths[:0:-1], strict=True)
        )
        self.head = nn.Conv2d(widths[0], 1, 1)
        register_normalisation(self, settings.input)

    def forward(self, images: Tensor) -> Tensor:
        """Map images (B, 3, H, W), values 0 to 255 in any dtype, to logits (B, 1, H, W), above 0 = person."""
        skips = [self.stem(normalise(images, divisor=self.divisor, mean=self.mean, std=self.std))]
        for step in self.down:
            skips.append(step(skips[-1]))
        features = skips.pop()
        for step in self.up:
            skip = skips.pop()
            features = nn.functional.interpolate(features, size=skip.shape[2:], mode="nearest")
            features = step(torch.cat([features, skip], dim=1))
        logits: Tensor = self.head(features)
        return logits


def _block(count_in: int, count_out: int, *, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(count_in, count_out, 3, stride=stride, padding=1, bias=False),
        nn.BatchNorm2d(count_out),
        nn.ReLU(inplace=True),
    )


class Origin(Settings):
    """Training data of a segmenter and its score on held-out images.

    Attributes:
        trained_on: name of the data set.
        count_images: number of training images.
        count_held_out: number of held-out images.
        apart_by: unit of the split: `people` or `images`.
        overlap: mean intersection over union on the held-out images, in [0, 1].

    """

    trained_on: str
    count_images: int
    count_held_out: int
    apart_by: str
    overlap: float


def save_segmenter(segmenter: Segmenter, path: str | Path, *, origin: Origin) -> None:
    """Write weights, settings and origin as one .safetensors, atomically."""
    from safetensors.torch import save

    state = {key: value.detach().contiguous().cpu() for key, value in segmenter.state_dict().items()}
    metadata = {"settings": segmenter.settings.model_dump(mode="json"), "origin": origin.model_dump(mode="json")}
    with atomic_write(path) as file:
        file.write(save(state, {_KEY: json.dumps(metadata)}))


def load_segmenter(path: str | Path) -> tuple[Segmenter, Origin]:
    """Read a file written by `save_segmenter`, ready to use (`eval` mode); never runs code from it.

    Raises:
        UserError: no such file, or something else.

    """
    path = Path(path)
    state = read_weights(path)
    try:
        metadata = json.loads(safetensors_texts(path)[_KEY])
        settings, origin = dict(metadata["settings"]), dict(metadata["origin"])
    except Exception as error:  # safetensors raises its own kinds
        raise UserError(f"{path} is not a segmenter; `passerby segment train` makes one") from error
    with reading(path, "a segmenter that fits into this program"):
        segmenter = Segmenter(build(SegmenterSettings, settings, source=str(path)))
    try:
        segmenter.load_state_dict(state)
    except RuntimeError as error:
        raise UserError(
            f"{path} holds other tensors than its settings say: {str(error).splitlines()[1].strip()}"
        ) from error
    return segmenter.eval(), build(Origin, origin, source=str(path))
