"""CLIP's ResNet: a stem of three convolutions, strides by averaging, and attention that pools the last map."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from passerby.errors import UserError
from passerby.models.backbone import Backbone, require_kind
from passerby.models.surgery import Surgery
from passerby.settings import Settings
from passerby.types import Inputs

CLIP_RESNETS = {"clip_resnet50": (3, 4, 6, 3), "clip_resnet101": (3, 4, 23, 3)}
"""Networks and their numbers of blocks."""


class ClipResnetArchitecture(Settings):
    """Architecture settings of a ResNet of CLIP."""

    width: Annotated[int, Field(ge=2, le=256)] = Field(64, description="channels of the stem; all others follow")
    projection: Annotated[int, Field(ge=1)] = Field(1024, description="length of what the attention pools")
    heads: Annotated[int, Field(ge=1)] = Field(32, description="heads of the attention; they divide 32 x width")


class ClipBottleneck(nn.Module):
    """A bottleneck whose stride is an average pooling behind its 3x3 convolution, and before its shortcut's.

    Args:
        before: channels of the maps that come in.
        hidden: channels of the 3x3 convolution; four times as many go out.
        stride: 1 or 2.

    """

    def __init__(self, before: int, hidden: int, *, stride: int) -> None:
        super().__init__()
        after = 4 * hidden
        self.conv1, self.bn1 = nn.Conv2d(before, hidden, 1, bias=False), nn.BatchNorm2d(hidden)
        self.conv2, self.bn2 = nn.Conv2d(hidden, hidden, 3, padding=1, bias=False), nn.BatchNorm2d(hidden)
        self.conv3, self.bn3 = nn.Conv2d(hidden, after, 1, bias=False), nn.BatchNorm2d(after)
        self.pool = nn.Identity() if stride == 1 else nn.AvgPool2d(stride)
        # The published name of the pooling is -1.
        shortcut: dict[str, nn.Module] = {"-1": nn.Identity() if stride == 1 else nn.AvgPool2d(stride)}
        shortcut |= {"0": nn.Conv2d(before, after, 1, bias=False), "1": nn.BatchNorm2d(after)}
        plain = stride == 1 and before == after
        self.downsample = nn.Identity() if plain else nn.Sequential(OrderedDict(shortcut))

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, before, h, w) to (B, 4 hidden, h / stride, w / stride)."""
        hidden = F.relu(self.bn1(self.conv1(x)))
        hidden = self.pool(F.relu(self.bn2(self.conv2(hidden))))
        after: Tensor = self.bn3(self.conv3(hidden)) + self.downsample(x)
        return F.relu(after)


class AttentionPool(nn.Module):
    """Attention of the mean of a map over the mean and all its cells, each with its position.

    Args:
        grid: (h, w) of the map.
        channels: C.
        dimension: length of the vector.
        heads: of the attention.

    Reference: Radford et al., "Learning Transferable Visual Models From Natural Language Supervision", ICML 2021,
    section 2.4.

    """

    def __init__(self, grid: tuple[int, int], channels: int, dimension: int, *, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.positional_embedding = nn.Parameter(torch.randn(grid[0] * grid[1] + 1, channels) / channels**0.5)
        self.q_proj, self.k_proj, self.v_proj = (nn.Linear(channels, channels) for _ in range(3))
        self.c_proj = nn.Linear(channels, dimension)

    def forward(self, featuremap: Tensor) -> Tensor:
        """Map (B, C, h, w) to (B, D)."""
        cells = featuremap.flatten(2).transpose(1, 2)  # (B, h*w, C)
        tokens = torch.cat([cells.mean(dim=1, keepdim=True), cells], dim=1) + self.positional_embedding
        query = self._split(self.q_proj(tokens[:, :1]))
        key, value = self._split(self.k_proj(tokens)), self._split(self.v_proj(tokens))
        attended = F.scaled_dot_product_attention(query, key, value)  # (B, heads, 1, C / heads)
        pooled: Tensor = self.c_proj(attended.flatten(1))
        return pooled

    def _split(self, tokens: Tensor) -> Tensor:
        split: Tensor = tokens.unflatten(2, (self.heads, -1)).transpose(1, 2)  # (B, heads, N, C / heads)
        return split


class ClipResnet(nn.Module):
    """The network; its last stage has stride 1, as in CLIP-ReID.

    Args:
        blocks: of each stage.
        size: (H, W) of the images.
        architecture: what else is open.

    """

    def __init__(self, blocks: Sequence[int], size: tuple[int, int], architecture: ClipResnetArchitecture) -> None:
        super().__init__()
        width = architecture.width
        self.conv1, self.bn1 = _convolution(3, width // 2, stride=2), nn.BatchNorm2d(width // 2)
        self.conv2, self.bn2 = _convolution(width // 2, width // 2), nn.BatchNorm2d(width // 2)
        self.conv3, self.bn3 = _convolution(width // 2, width), nn.BatchNorm2d(width)
        self.avgpool = nn.AvgPool2d(2)
        before = width
        for number, (count, stride) in enumerate(zip(blocks, (1, 2, 2, 1), strict=True)):
            hidden = width * 2**number
            stage = [ClipBottleneck(before, hidden, stride=stride)]
            stage += [ClipBottleneck(4 * hidden, hidden, stride=1) for _ in range(count - 1)]
            self.add_module(f"layer{number + 1}", nn.Sequential(*stage))
            before = 4 * hidden
        self.num_features = before
        self.grid = (size[0] // 16, size[1] // 16)
        self.attnpool = AttentionPool(self.grid, before, architecture.projection, heads=architecture.heads)

    def forward_features(self, images: Tensor) -> Tensor:
        """Map normalised images (B, 3, H, W) to the map (B, C, H / 16, W / 16)."""
        return self.last_maps(images)[1]

    def last_maps(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Map normalised images (B, 3, H, W) to the maps (B, C / 2, H / 16, W / 16) and (B, C, H / 16, W / 16)."""
        x = images
        for number in range(1, 4):
            x = F.relu(getattr(self, f"bn{number}")(getattr(self, f"conv{number}")(x)))
        stages: list[nn.Module] = [getattr(self, f"layer{number}") for number in range(1, 5)]
        earlier: Tensor = nn.Sequential(self.avgpool, *stages[:3])(x)
        return earlier, stages[3](earlier)


def _convolution(before: int, after: int, *, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(before, after, 3, stride=stride, padding=1, bias=False)


class ClipResnetBackbone(Backbone):
    """A ResNet of CLIP; its vector is the mean of the last map, then what the attention pools, as in CLIP-ReID.

    Reference: Li et al., "CLIP-ReID: Exploiting Vision-Language Model for Image Re-Identification without Concrete Text
    Labels", AAAI 2023.

    """

    summary: ClassVar[str] = f"CLIP's ResNets: {', '.join(CLIP_RESNETS)}"
    settings_class: ClassVar[type[Settings]] = ClipResnetArchitecture

    @classmethod
    def names(cls) -> Sequence[str]:
        """Return the names of the networks."""
        return tuple(CLIP_RESNETS)

    @classmethod
    def build_as(cls, name: str, size: tuple[int, int], architecture: Settings, *, pretrained: bool) -> ClipResnet:
        """Build a network, whose positions are those of the map of this size."""
        settings = require_kind(architecture, ClipResnetArchitecture)
        if 32 * settings.width % settings.heads:
            raise UserError(f"model.architecture.heads: {settings.heads} do not divide {32 * settings.width} channels")
        return ClipResnet(CLIP_RESNETS[name], size, settings)

    def operate(self, name: str, surgery: Surgery) -> None:
        """Refuse what is for timm's ResNets; the last stride is 1 in any case."""
        super().operate(name, Surgery(2, surgery.ibn, surgery.attention, surgery.non_local, surgery.stem_pool))

    def count_features(self) -> int:
        """Return the length of both vectors together."""
        return self.channels + self.count_projected()

    def forward(self, inputs: Inputs) -> tuple[Tensor, Tensor | None]:
        """Map inputs, whose images are normalised, to the map (B, C, h, w) and the vector (B, D)."""
        featuremap, vector, _ = self.forward_all(inputs)
        return featuremap, vector

    def count_projected(self) -> int:
        """Return the length of what the attention pools."""
        return require_kind(self.architecture, ClipResnetArchitecture).projection

    def forward_all(self, inputs: Inputs) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """Return what `forward` does, and the mean (B, C / 2) of the map before the last stage."""
        earlier, last = self.body.last_maps(inputs.images)
        vector = torch.cat([last.mean(dim=(2, 3)), self.body.attnpool(last)], dim=1)
        return last, vector, earlier.mean(dim=(2, 3))
