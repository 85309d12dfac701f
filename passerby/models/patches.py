"""Stems of vision transformers: from an image to a map of patch tokens."""

from __future__ import annotations

from typing import cast

from torch import Tensor, nn

from passerby.models.blocks import SplitNorm

ICS_WIDTH = 64
"""Channels of the convolutions of the ICS stem, in every published network."""


class LinearStem(nn.Module):
    """One convolution without padding, whose stride may be smaller than its kernel (overlapping patches).

    Args:
        width: D of the tokens.
        patch: side of a patch in pixels.
        stride: distance of two patches in pixels.
        bias: whether the convolution has one.

    """

    def __init__(self, width: int, *, patch: int, stride: int, bias: bool = True) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, width, patch, stride=stride, bias=bias)

    def forward(self, images: Tensor) -> Tensor:
        """Map normalised images (B, 3, H, W) to a map (B, D, h, w)."""
        return cast("Tensor", self.proj(images))


class ConvolutionStem(nn.Module):
    """The stem of ICS: three convolutions that halve the image, and patches of 8 of their map, which are 16 pixels.

    Two of its norms are instance norms for half of the channels.

    Args:
        width: D of the tokens.

    Reference: Luo et al., "Self-Supervised Pre-Training for Transformer-Based Person Re-Identification",
    arXiv:2111.12084 (published code), section 3.3.

    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Sequential(
            nn.Conv2d(3, ICS_WIDTH, 7, stride=2, padding=3, bias=False),
            SplitNorm(ICS_WIDTH),
            nn.ReLU(inplace=True),
            nn.Conv2d(ICS_WIDTH, ICS_WIDTH, 3, padding=1, bias=False),
            SplitNorm(ICS_WIDTH),
            nn.ReLU(inplace=True),
            nn.Conv2d(ICS_WIDTH, ICS_WIDTH, 3, padding=1, bias=False),
            nn.BatchNorm2d(ICS_WIDTH),
            nn.ReLU(inplace=True),
        )
        self.proj = nn.Conv2d(ICS_WIDTH, width, 8, stride=8)

    def forward(self, images: Tensor) -> Tensor:
        """Map normalised images (B, 3, H, W) to a map (B, D, H / 16, W / 16)."""
        return cast("Tensor", self.proj(self.conv(images)))
