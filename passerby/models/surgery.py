"""Surgery: what re-identification changes in a ResNet after it was built."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import timm
from torch import nn

from passerby.errors import UserError
from passerby.models.blocks import AttentionKind, IBNKind, NonLocalKind, add_ibn, add_non_local, add_se

StemPool = Literal["torchvision", "fastreid"]


@dataclass(frozen=True)
class Surgery:
    """Changes to a ResNet.

    Attributes:
        last_stride: stride of the last stage, 1 or 2. Stride 1 doubles the map without dilation (Luo et al., CVPR
            Workshops 2019, section 3.5).
        ibn: instance-batch normalisation.
        attention: channel gates in the blocks.
        non_local: non-local blocks in a bottleneck ResNet, with half the channels or a single one inside.
        stem_pool: borders of the first pooling; see `set_stem_pool`.

    """

    last_stride: Literal[1, 2] = 2
    ibn: IBNKind = "none"
    attention: AttentionKind = "none"
    non_local: NonLocalKind = "none"
    stem_pool: StemPool = "torchvision"


UNCHANGED = Surgery()


def operate(body: Any, name: str, surgery: Surgery) -> None:
    """Change a network in place, or raise `UserError` where it has no place for a change."""
    if surgery.last_stride == 1:
        set_last_stride(body, name)
    if surgery.stem_pool == "fastreid":
        set_stem_pool(body, name)
    if surgery.ibn != "none":
        add_ibn(body, name, kind=surgery.ibn)
    if surgery.attention == "se":
        add_se(body, name)
    if surgery.non_local != "none":
        add_non_local(body, name, kind=surgery.non_local)


def set_last_stride(body: Any, name: str) -> None:
    """Give the last stage of a timm ResNet stride 1, in the convolution that carried it and in its shortcut."""
    if not isinstance(body, timm.models.resnet.ResNet):
        raise UserError(f"model.last_stride: 1 is for the ResNet family; {name!r} has no such stride, leave it at 2")
    last: Any = body.layer4
    block = last[0]
    shortcut = [] if block.downsample is None else list(block.downsample.modules())
    for module in (block.conv1, block.conv2, *shortcut):
        if isinstance(module, nn.Conv2d) and module.stride == (2, 2):
            module.stride = (1, 1)
        elif isinstance(module, nn.AvgPool2d):  # the shortcut of the "d" variants pools first
            module.kernel_size = module.stride = 1


def set_stem_pool(body: Any, name: str) -> None:
    """Pad the first pooling of a ResNet beyond the right and lower border instead of all round.

    fast-reid pools so, and its weights give its own vectors only so.
    """
    pool: Any = getattr(body, "maxpool", None)
    if not isinstance(body, timm.models.resnet.ResNet) or not isinstance(pool, nn.MaxPool2d):
        raise UserError(
            f"model.stem_pool: only ResNets that begin with a max pooling have a place for it; "
            f"{name!r} has none, leave it at 'torchvision'"
        )
    pool.padding, pool.ceil_mode = 0, True
