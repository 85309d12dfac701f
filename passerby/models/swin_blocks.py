"""Blocks of Swin transformers as mmcv arranges them, with its tensor names: windows, shifts, merging of patches."""

from __future__ import annotations

from typing import cast

import torch
from timm.layers.drop import DropPath
from torch import Tensor, nn
from torch.nn import functional as F


def relative_positions(window: int) -> Tensor:
    """Return the row of the table of relative positions for each pair of places in a window: (T, T), T = window ** 2.

    >>> relative_positions(2)[0].tolist()
    [4, 3, 1, 0]
    """
    rows, columns = torch.meshgrid(torch.arange(window), torch.arange(window), indexing="ij")
    places = torch.stack([rows.flatten(), columns.flatten()])  # (2, T)
    apart = places[:, :, None] - places[:, None, :] + window - 1  # (2, T, T)
    return apart[0] * (2 * window - 1) + apart[1]


def to_windows(maps: Tensor, window: int) -> Tensor:
    """Cut maps (B, h, w, C), whose sides are multiples of `window`, to windows (B * count, window ** 2, C)."""
    batch, height, width, channels = maps.shape
    cut = maps.reshape(batch, height // window, window, width // window, window, channels)
    return cut.transpose(2, 3).reshape(-1, window * window, channels)


def from_windows(windows: Tensor, window: int, size: tuple[int, int]) -> Tensor:
    """Put windows (B * count, window ** 2, C) together to maps (B, h, w, C)."""
    height, width = size
    cut = windows.reshape(-1, height // window, width // window, window, window, windows.shape[-1])
    return cut.transpose(2, 3).reshape(-1, height, width, windows.shape[-1])


def shift_mask(size: tuple[int, int], window: int, shift: int) -> Tensor:
    """Return what is added to the attention of each window of a shifted map: (count, T, T), 0 or -100.

    Places that the shift brought together from opposite borders do not attend to each other.
    """
    stretches = []  # 0 before the last window, 1 in it, 2 where the roll brought what was at the other border
    for side in size:
        place = torch.arange(side)
        stretches.append((place >= side - window).long() + (place >= side - shift).long())
    regions = (3 * stretches[0][:, None] + stretches[1])[None, :, :, None]  # (1, h, w, 1)
    cut = to_windows(regions, window)[..., 0]  # (count, T)
    return torch.where(cut[:, None] == cut[:, :, None], 0.0, -100.0)


class WindowAttention(nn.Module):
    """Multi-head self-attention within windows, with a learned bias for each relative position.

    Args:
        width: C of the tokens.
        heads: number of heads; divides `width`.
        window: side of a window in tokens.

    """

    relative: Tensor

    def __init__(self, width: int, heads: int, *, window: int) -> None:
        super().__init__()
        self.heads = heads
        self.relative_position_bias_table = nn.Parameter(torch.empty((2 * window - 1) ** 2, heads))
        nn.init.trunc_normal_(self.relative_position_bias_table, std=0.02)
        self.register_buffer("relative", relative_positions(window), persistent=False)
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, windows: Tensor, mask: Tensor | None = None) -> Tensor:
        """Map windows (B * count, T, C) to the same shape; `mask` (count, T, T) is added to the attention."""
        total, places, width = windows.shape
        qkv = self.qkv(windows).reshape(total, places, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        queries, keys, values = qkv.unbind(0)  # (B * count, heads, T, C / heads) each
        bias = self.relative_position_bias_table[self.relative].permute(2, 0, 1)[None]  # (1, heads, T, T)
        if mask is not None:
            bias = (bias + mask[:, None].to(bias.dtype)).repeat(total // len(mask), 1, 1, 1)
        attended = F.scaled_dot_product_attention(queries, keys, values, attn_mask=bias.to(queries.dtype))
        attended = attended.transpose(1, 2)
        if torch.compiler.is_exporting():  # in a graph the attention lays its output out otherwise than when it runs
            attended = attended.clone(memory_format=torch.contiguous_format)
        return cast("Tensor", self.proj(attended.reshape(total, places, width)))


class ShiftedWindows(nn.Module):
    """Attention in the windows of a map: padded with zeros to whole windows, then rolled by `shift`.

    Padded places take part in the attention like others.

    Args:
        width: C of the tokens.
        heads: number of heads.
        window: side of a window in tokens, whatever the size of the map.
        shift: places by which the map is rolled; 0 = none.

    Reference: Liu et al., "Swin Transformer: Hierarchical Vision Transformer using Shifted Windows", ICCV 2021.
    Differs from the paper: small maps are padded, where it shrinks the window; so do mmcv and all weights trained
    with it.

    """

    def __init__(self, width: int, heads: int, *, window: int, shift: int) -> None:
        super().__init__()
        self.window, self.shift = window, shift
        self.w_msa = WindowAttention(width, heads, window=window)

    def forward(self, maps: Tensor) -> Tensor:
        """Map maps (B, h, w, C) to the same shape."""
        height, width = maps.shape[1:3]
        padded = F.pad(maps, (0, 0, 0, -width % self.window, 0, -height % self.window))
        size = (padded.shape[1], padded.shape[2])
        mask = None
        if self.shift:
            padded = padded.roll((-self.shift, -self.shift), dims=(1, 2))
            mask = shift_mask(size, self.window, self.shift).to(maps.device)
        attended = from_windows(self.w_msa(to_windows(padded, self.window), mask), self.window, size)
        if self.shift:
            attended = attended.roll((self.shift, self.shift), dims=(1, 2))
        return attended[:, :height, :width]


class SwinPerceptron(nn.Module):
    """Two linear layers with an exact GELU between them.

    Args:
        width: C of the tokens.
        hidden: width between the layers.

    """

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        first = nn.Sequential(nn.Linear(width, hidden), nn.GELU())
        self.layers = nn.Sequential(first, nn.Linear(hidden, width))

    def forward(self, maps: Tensor) -> Tensor:
        """Map maps (B, h, w, C) to the same shape."""
        return cast("Tensor", self.layers(maps))


class SwinBlock(nn.Module):
    """A pre-norm block of shifted windows.

    Args:
        width: C of the tokens.
        heads: number of heads.
        window: see `ShiftedWindows`.
        shift: see `ShiftedWindows`.
        mlp_ratio: hidden width of the perceptron in units of C.
        drop_path: probability in [0, 1) with which a sample skips a branch in training.

    """

    def __init__(self, width: int, heads: int, *, window: int, shift: int, mlp_ratio: float, drop_path: float) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.attn = ShiftedWindows(width, heads, window=window, shift=shift)
        self.norm2 = nn.LayerNorm(width)
        self.ffn = SwinPerceptron(width, int(width * mlp_ratio))
        self.drop_path = DropPath(drop_path) if drop_path else nn.Identity()

    def forward(self, maps: Tensor) -> Tensor:
        """Map maps (B, h, w, C) to the same shape."""
        maps = maps + self.drop_path(self.attn(self.norm1(maps)))
        return cast("Tensor", maps + self.drop_path(self.ffn(self.norm2(maps))))


class PatchMerging(nn.Module):
    """Four neighbouring tokens become one of twice the width; maps of odd sides are padded with zeros.

    The channels of the four tokens are interleaved: channel by channel, each with its four places row by row.

    Args:
        width: C of the tokens.

    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(4 * width)
        self.reduction = nn.Linear(4 * width, 2 * width, bias=False)

    def forward(self, maps: Tensor) -> Tensor:
        """Map maps (B, h, w, C) to (B, ceil(h / 2), ceil(w / 2), 2 C)."""
        height, width = maps.shape[1:3]
        padded = F.pad(maps, (0, 0, 0, width % 2, 0, height % 2))
        batch, height, width, channels = padded.shape
        cells = padded.reshape(batch, height // 2, 2, width // 2, 2, channels).permute(0, 1, 3, 5, 2, 4)
        return cast("Tensor", self.reduction(self.norm(cells.flatten(3))))  # channel * 4 + place


class PatchProjection(nn.Module):
    """Patches of 4 x 4 pixels as tokens; images are padded with zeros to whole patches.

    Args:
        width: C of the tokens.

    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.projection = nn.Conv2d(3, width, 4, stride=4)
        self.norm = nn.LayerNorm(width)

    def forward(self, images: Tensor) -> Tensor:
        """Map normalised images (B, 3, H, W) to (B, ceil(H / 4), ceil(W / 4), C)."""
        height, width = images.shape[2:]
        padded = F.pad(images, (0, -width % 4, 0, -height % 4))
        return cast("Tensor", self.norm(self.projection(padded).permute(0, 2, 3, 1)))
