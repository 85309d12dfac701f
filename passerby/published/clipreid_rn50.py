"""CLIP-ReID on CLIP's ResNet-50 ("CNN-CLIP-ReID")."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

from pydantic import Field, JsonValue
from torch import Tensor, cat

from passerby.errors import UserError
from passerby.inputs import InputSettings
from passerby.models.embedder import ModelSettings
from passerby.published.family import Imported, PublishedFamily, PublishedScore
from passerby.published.resnets import below
from passerby.published.tensors import FileTensors
from passerby.published.vits import HALF
from passerby.settings import Settings

_POSITIONS = "image_encoder.attnpool.positional_embedding"


class ClipResnetChoices(Settings):
    """Settings that CLIP-ReID's files of a ResNet-50 do not hold."""

    heads: Annotated[int, Field(ge=1)] | None = Field(
        None, description="heads of the attention; null = one per 64 channels, as published (32)"
    )
    normalise: Literal["imagenet", "half"] = Field(
        "imagenet",
        description="mean and standard deviation of the pixels: imagenet, as in the published configuration of this "
        "network; half: 0.5, as in that of the transformer",
    )


class ClipReidResnet(PublishedFamily):
    """Image side of CLIP-ReID's ResNet-50; the published vector is the one before the necks.

    Reference: Li et al., "CLIP-ReID: Exploiting Vision-Language Model for Image Re-Identification without Concrete Text
    Labels", AAAI 2023.

    """

    summary: ClassVar[str] = "CLIP-ReID: CLIP's ResNet-50, image side"
    code_licence: ClassVar[str] = "MIT"
    weights_licence: ClassVar[str] = "none stated"
    sizes: ClassVar[str] = "256x128"
    download: ClassVar[str] = "RN50_120.pth, ..., linked in the README of github.com/Syliz517/CLIP-ReID"
    scores: ClassVar[tuple[PublishedScore, ...]] = (
        PublishedScore("CLIP-ReID ResNet-50", "MSMT17", 63.0, 84.4),
        PublishedScore("CLIP-ReID ResNet-50", "Market-1501", 89.8, 95.7),
    )
    settings_class: ClassVar[type[Settings]] = ClipResnetChoices
    without_influence: ClassVar[tuple[str, ...]] = (
        r"classifier(_proj)?\..*",
        r"prompt_learner\..*",
        r"text_encoder\..*",
    )

    @classmethod
    def recognises(cls, tensors: Mapping[str, Tensor]) -> str | None:
        """Return the reason: CLIP's ResNet with its attention."""
        if "image_encoder.layer1.0.conv1.weight" in tensors and _POSITIONS in tensors:
            return "it has image_encoder.layer1 and image_encoder.attnpool"
        return None

    @classmethod
    def convert(cls, tensors: FileTensors, settings: Settings, *, size: tuple[int, int] | None) -> Imported:
        """Return the image encoder with both necks as one."""
        assert isinstance(settings, ClipResnetChoices)
        inputs = InputSettings(size=_size(tensors, size))
        if settings.normalise == "half":
            inputs = inputs.model_copy(update={"mean": HALF, "std": HALF})
        channels = int(tensors.require(_POSITIONS).shape[1])
        architecture: dict[str, JsonValue] = {
            "width": int(tensors.require("image_encoder.conv3.weight").shape[0]),
            "projection": int(tensors.require("image_encoder.attnpool.c_proj.weight").shape[0]),
            "heads": settings.heads or channels // 64,
        }
        model = ModelSettings(backbone="clip_resnet50", architecture=architecture)
        state = below("backbone.body.", tensors.take_below("image_encoder."))
        necks = [tensors.take_below(f"{name}.") for name in ("bottleneck", "bottleneck_proj")]
        for name in ("weight", "bias", "running_mean", "running_var"):
            if any(name not in neck for neck in necks):
                raise UserError(f"{tensors.source} lacks bottleneck.{name} or bottleneck_proj.{name}")
            state[f"neck.{name}"] = cat([neck[name] for neck in necks])
        return Imported(model, inputs, state, "before_neck")


def _size(tensors: FileTensors, size: tuple[int, int] | None) -> tuple[int, int]:
    """Return the size whose map has as many cells as the file has positions; as high as two widths unless given."""
    cells = int(tensors.require(_POSITIONS).shape[0]) - 1
    side = math.isqrt(cells // 2)
    if size is None:
        if 2 * side * side != cells:
            raise UserError(
                f"{tensors.source} has positions for {cells} cells; give the size of its images with --size"
            )
        return 32 * side, 16 * side
    if (size[0] // 16) * (size[1] // 16) != cells:
        raise UserError(f"--size {size[0]}x{size[1]}: {tensors.source} has positions for {cells} cells of 16x16 pixels")
    return size
