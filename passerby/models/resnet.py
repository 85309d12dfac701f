"""ResNets of timm as published re-identification code has them, apart from the surgery of `passerby.models.surgery`."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import timm
from pydantic import Field
from timm.layers.squeeze_excite import SEModule
from torch import nn

from passerby.errors import UserError
from passerby.settings import Settings

_REDUCTION = 16


class ResnetArchitecture(Settings):
    """Architecture settings of a ResNet of timm; the defaults are timm's own network."""

    width: Annotated[int, Field(ge=1, le=1024)] = Field(64, description="channels of the stem; all others follow")
    stem_activation: Literal["relu", "none"] = Field(
        "relu", description="none: no ReLU after the stem's norm, as in reid-strong-baseline"
    )
    stride_in: Literal["conv1", "conv2"] = Field(
        "conv2", description="which convolution of a bottleneck carries the stride; conv1 as in Caffe's SE-ResNets"
    )
    gates: Literal["none", "conv"] = Field(
        "none", description="conv: squeeze-and-excitation by 1x1 convolutions with shifts, as in Caffe's SE-ResNets"
    )
    fc: Annotated[int, Field(ge=1)] | None = Field(
        None, description="length of a linear layer with batch norm and ReLU after the pooling, as in torchreid"
    )


UNCHANGED_RESNET = ResnetArchitecture()


def build_resnet(name: str, architecture: ResnetArchitecture) -> Any:
    """Return a ResNet of timm, without weights, changed as `architecture` says.

    Args:
        name: of a ResNet of timm.
        architecture: what differs from timm's network.

    Raises:
        UserError: a network that is no plain ResNet.

    """
    width = architecture.width
    create: Any = timm.create_model
    channels = {} if width == 64 else {"channels": tuple(width * factor for factor in (1, 2, 4, 8))}
    try:
        body: Any = create(name, num_classes=0, **channels)
    except TypeError as error:  # other networks have no such channels
        raise _unfit(name) from error
    if not isinstance(body, timm.models.resnet.ResNet) or not isinstance(body.conv1, nn.Conv2d):
        raise _unfit(name)
    if width != 64:
        _set_stem_width(body, width)
    if architecture.stem_activation == "none":
        body.act1 = nn.Identity()
    stages = [getattr(body, f"layer{number}") for number in range(1, 5)]
    if architecture.stride_in == "conv1":
        for stage in stages:
            _move_stride(stage[0], name)
    if architecture.gates == "conv":
        for block in (block for stage in stages for block in stage):
            last = block.conv3 if hasattr(block, "conv3") else block.conv2
            block.se = SEModule(last.out_channels, rd_channels=max(1, last.out_channels // _REDUCTION))
    return body


def _unfit(name: str) -> UserError:
    return UserError(f"model.architecture: these settings are for plain ResNets of timm; {name!r} is none")


def _set_stem_width(body: Any, width: int) -> None:
    first = body.layer1[0]
    body.conv1 = nn.Conv2d(3, width, 7, stride=2, padding=3, bias=False)
    body.bn1 = nn.BatchNorm2d(width)
    replaced = [(first, "conv1")] if first.downsample is None else [(first, "conv1"), (first.downsample, "0")]
    for parent, child in replaced:
        old = getattr(parent, child)
        parent.register_module(
            child,
            nn.Conv2d(width, old.out_channels, old.kernel_size, stride=old.stride, padding=old.padding, bias=False),
        )
    for module in (body.conv1, first.conv1):
        nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")


def _move_stride(block: Any, name: str) -> None:
    if not hasattr(block, "conv3"):
        raise UserError(f"model.architecture.stride_in: {name!r} has no bottlenecks; leave it at 'conv2'")
    block.conv1.stride, block.conv2.stride = block.conv2.stride, block.conv1.stride


def feature_layer(channels: int, dimension: int) -> nn.Sequential:
    """Return a linear layer, a batch norm and a ReLU for pooled vectors (B, C), as torchreid has them."""
    return nn.Sequential(nn.Linear(channels, dimension), nn.BatchNorm1d(dimension), nn.ReLU())
