"""Input settings of a model, stored with its weights, so that training and inference agree."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from passerby.settings import Settings

SideLength = Annotated[int, Field(ge=8, le=2048)]
Share = Annotated[float, Field(ge=0, le=1)]


class InputSettings(Settings):
    """Geometry and colour of the images that go into an embedder."""

    size: tuple[SideLength, SideLength] = Field((256, 128), description="height and width in pixels")
    interpolation: Literal["bilinear", "bicubic", "nearest"] = "bilinear"
    colour: Literal["rgb", "bgr"] = Field("rgb", description="order of the three channels")
    mean: tuple[Share, Share, Share] = Field(
        (0.485, 0.456, 0.406), description="mean of each channel, of values in [0, 1]"
    )
    std: tuple[Annotated[float, Field(gt=0)], Annotated[float, Field(gt=0)], Annotated[float, Field(gt=0)]] = Field(
        (0.229, 0.224, 0.225), description="standard deviation of each channel, of values in [0, 1]"
    )
    scale: Literal["unit", "bytes"] = Field(
        "unit", description="bytes: mean and std, times 255, apply to the bytes, as in fast-reid; the last bit differs"
    )
