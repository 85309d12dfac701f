"""Grids of patches and tables of position embeddings, resized from one grid to another."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F


def patch_grid(size: tuple[int, int], *, patch: int, stride: int) -> tuple[int, int]:
    """Return the rows and columns of patches that a convolution without padding cuts an image into.

    What the division leaves over at the bottom and at the right is not covered by any patch.

    Args:
        size: (H, W) of the image, both >= `patch`.
        patch: side of a patch in pixels.
        stride: distance of two patches in pixels; patches overlap where it is smaller than `patch`.

    >>> patch_grid((256, 128), patch=16, stride=16), patch_grid((256, 128), patch=16, stride=12)
    ((16, 8), (21, 10))
    """
    height, width = ((side - patch) // stride + 1 for side in size)
    return height, width


def published_grid(count: int) -> tuple[int, int] | None:
    """Return the grid of a published table of so many positions: square, or twice as high as wide; None = neither.

    >>> published_grid(196), published_grid(128), published_grid(210)
    ((14, 14), (16, 8), None)
    """
    side, width = math.isqrt(count), math.isqrt(count // 2)
    if side * side == count:
        return side, side
    return (2 * width, width) if 2 * width * width == count else None


def resize_positions(table: Tensor, old: tuple[int, int], new: tuple[int, int]) -> Tensor:
    """Resize a table of positions of patches, bilinearly and without smoothing.

    Args:
        table: (..., h * w, D), rows of the grid one after the other, without rows of other tokens.
        old: (h, w) of the table.
        new: (h', w') of the result.

    Returns:
        (..., h' * w', D).

    Reference: He et al., "TransReID: Transformer-based Object Re-Identification", ICCV 2021 (published code). timm
    resizes bicubically with smoothing, which gives other numbers.

    >>> resize_positions(torch.tensor([[0.0], [4.0]]), (2, 1), (4, 1)).flatten()
    tensor([0., 1., 3., 4.])
    """
    if old == new:
        return table
    grid = table.reshape(-1, *old, table.shape[-1]).permute(0, 3, 1, 2)  # (N, D, h, w)
    resized = F.interpolate(grid.float(), size=new, mode="bilinear", align_corners=False)
    return resized.flatten(2).transpose(1, 2).reshape(*table.shape[:-2], new[0] * new[1], -1).to(table.dtype)


def fit_positions_of_tokens(
    table: Tensor, target: Tensor, grid: tuple[int, int], *, prefix: int
) -> tuple[Tensor, bool]:
    """Return a published table of positions for another grid, and whether it had to be resized.

    Tables that cannot be resized come back as they are, for the caller to refuse.

    Args:
        table: (..., prefix + h * w, D) of a published file.
        target: (..., prefix + h' * w', D) of the network.
        grid: (h', w') of the network.
        prefix: rows of other tokens, which stand first and are copied.

    """
    if table.shape == target.shape or table.ndim != target.ndim or table.shape[-1] != target.shape[-1]:
        return table, False
    old = published_grid(table.shape[-2] - prefix)
    if old is None:
        return table, False
    resized = resize_positions(table[..., prefix:, :], old, grid)
    return torch.cat([table[..., :prefix, :], resized], dim=-2), True
