"""Tensors of a ResNet under torchvision's names, which most published families keep, and the network that they fit."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Literal

from torch import Tensor

from passerby.errors import UserError
from passerby.published.tensors import FileTensors

STEM = "conv1.weight"
"""First tensor of a ResNet."""

_NAMES = {(3, 4, 6, 3): "resnet50", (3, 4, 23, 3): "resnet101", (3, 8, 36, 3): "resnet152"}
_BASIC_NAMES = {(2, 2, 2, 2): "resnet18", (3, 4, 6, 3): "resnet34"}


def resnet_name(tensors: FileTensors, prefix: str = "") -> str:
    """Return timm's name of the ResNet whose tensors begin with `prefix`, by the number of its blocks.

    Raises:
        UserError: no ResNet of a known depth.

    """
    blocks = tuple(tensors.count_numbers(rf"{prefix}layer{stage}\.(\d+)\.") for stage in range(1, 5))
    names = _NAMES if f"{prefix}layer1.0.conv3.weight" in tensors else _BASIC_NAMES
    if blocks not in names:
        raise UserError(f"{tensors.source} holds a ResNet of {blocks} blocks; known: {', '.join(map(str, names))}")
    return names[blocks]


def is_resnet(keys: Mapping[str, Tensor]) -> bool:
    """Whether names are those of a ResNet at the top level."""
    return STEM in keys and "layer1.0.conv1.weight" in keys and "layer4.0.conv1.weight" in keys


def stem_width(tensors: FileTensors, key: str) -> int:
    """Return the output channels of a convolution."""
    return int(tensors.require(key).shape[0])


def ibn_kind(keys: Mapping[str, Tensor], prefix: str = "") -> Literal["none", "a", "b"]:
    """Return which instance norms the names of a ResNet show."""
    if f"{prefix}layer1.0.bn1.IN.weight" in keys:
        return "a"
    return "b" if any(key.startswith(f"{prefix}layer1.") and ".IN." in key for key in keys) else "none"


def width_setting(width: int) -> dict[str, int]:
    """Return the architecture setting of a stem width, or nothing for the usual 64."""
    return {} if width == 64 else {"width": width}


def place_non_local(body: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return tensors with the names of non-local blocks (`NL_3.0`) changed to those behind their blocks.

    The blocks of a stage stand behind its last blocks, in order.
    """
    placed: dict[str, Tensor] = {}
    for key, value in body.items():
        match = re.fullmatch(r"NL_(\d)\.(\d+)\.(.*)", key)
        if match is None:
            placed[key] = value
            continue
        stage, number, below = match[1], int(match[2]), match[3]
        last = _highest(body, rf"layer{stage}\.(\d+)\.") - _highest(body, rf"NL_{stage}\.(\d+)\.")
        placed[f"layer{stage}.{last + number}.NL.{below}"] = value
    return placed


def _highest(keys: Mapping[str, Tensor], pattern: str) -> int:
    return max((int(match[1]) for key in keys if (match := re.match(pattern, key))), default=0)


def below(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return tensors with a prefix before their names."""
    return {f"{prefix}{key}": value for key, value in tensors.items()}
