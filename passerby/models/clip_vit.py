"""The image tower of CLIP as CLIP-ReID uses it: overlapping patches, a camera embedding on the class token."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Self, cast

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from passerby.errors import UserError
from passerby.models.positions import patch_grid
from passerby.models.side_information import SideInformation
from passerby.models.transformer import AtLeastOne
from passerby.settings import Settings


class ClipVitSettings(Settings):
    """An image tower of CLIP; the defaults are ViT-B/16."""

    width: AtLeastOne = Field(768, description="D of the tokens")
    depth: AtLeastOne = Field(12, description="number of blocks")
    heads: AtLeastOne = Field(12, description="of the attention; divides width")
    projection: AtLeastOne = Field(512, description="P, length of CLIP's embedding")
    patch: AtLeastOne = Field(16, description="side of a patch in pixels")
    stride: AtLeastOne = Field(16, description="distance of two patches in pixels; below patch they overlap")
    cameras: bool = Field(False, description="an embedding of each camera of the training data (SIE)")
    views: Annotated[int, Field(ge=0)] = Field(0, description="viewpoints with an embedding (SIE); 0 = none")
    sie_coefficient: float = Field(1.0, description="factor of the embedding of camera and viewpoint")

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.width % self.heads:
            raise ValueError(f"heads must divide width {self.width}, got {self.heads}")
        if self.stride > self.patch:
            raise ValueError(f"stride {self.stride} is above patch {self.patch}, so pixels between patches are lost")
        return self


class ClipAttention(nn.Module):
    """Multi-head self-attention with the tensor names of `torch.nn.MultiheadAttention`.

    Args:
        width: D of the tokens.
        heads: number of heads; divides `width`.

    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.in_proj_weight = nn.Parameter(torch.empty(3 * width, width))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * width))
        self.out_proj = nn.Linear(width, width)
        nn.init.normal_(self.in_proj_weight, std=float(width**-0.5))

    def forward(self, tokens: Tensor, *, is_causal: bool = False) -> Tensor:
        """Map tokens (B, T, D) to (B, T, D); causal attention is that of a text tower."""
        batch, count, width = tokens.shape
        qkv = F.linear(tokens, self.in_proj_weight, self.in_proj_bias)
        queries, keys, values = qkv.reshape(batch, count, 3, self.heads, -1).permute(2, 0, 3, 1, 4).unbind(0)
        attended = F.scaled_dot_product_attention(queries, keys, values, is_causal=is_causal)
        projected: Tensor = self.out_proj(attended.transpose(1, 2).reshape(batch, count, width))
        return projected


class ClipPerceptron(nn.Module):
    """Two linear layers with the quick GELU, x sigmoid(1.702 x), between them.

    Args:
        width: D of the tokens; the hidden layer has 4 D.

    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.c_fc = nn.Linear(width, 4 * width)
        self.c_proj = nn.Linear(4 * width, width)

    def forward(self, tokens: Tensor) -> Tensor:
        """Map tokens (B, T, D) to (B, T, D)."""
        hidden = self.c_fc(tokens)
        mapped: Tensor = self.c_proj(hidden * torch.sigmoid(1.702 * hidden))
        return mapped


class ClipBlock(nn.Module):
    """A pre-norm block of CLIP, of the image tower and, with causal attention, of the text tower.

    Args:
        width: D of the tokens.
        heads: number of heads.

    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.attn = ClipAttention(width, heads)
        self.ln_1 = nn.LayerNorm(width)
        self.mlp = ClipPerceptron(width)
        self.ln_2 = nn.LayerNorm(width)

    def forward(self, tokens: Tensor, *, is_causal: bool = False) -> Tensor:
        """Map tokens (B, T, D) to (B, T, D)."""
        tokens = tokens + self.attn(self.ln_1(tokens), is_causal=is_causal)
        return cast("Tensor", tokens + self.mlp(self.ln_2(tokens)))


class ClipBlocks(nn.Module):
    """The blocks of a tower.

    Args:
        width: D of the tokens.
        heads: number of heads.
        depth: number of blocks.

    """

    def __init__(self, width: int, heads: int, depth: int) -> None:
        super().__init__()
        self.resblocks = nn.ModuleList(ClipBlock(width, heads) for _ in range(depth))


class ClipVisionTransformer(nn.Module):
    """The image tower.

    Args:
        settings: its dimensions and additions.
        size: (H, W) of the images.

    Attributes:
        num_features: D of a token, the channels of the map.
        dimension: length D + P of the vector: the class token after the last norm, and its projection.
        grid: (h, w) of the patches.
        first_rows: rows of the table of positions before those of the patches.

    Raises:
        UserError: images smaller than a patch.

    Reference: Radford et al., "Learning Transferable Visual Models From Natural Language Supervision", ICML 2021; Li et
    al., "CLIP-ReID: Exploiting Vision-Language Model for Image Re-Identification without Concrete Text Labels", AAAI
    2023.

    """

    def __init__(self, settings: ClipVitSettings, size: tuple[int, int]) -> None:
        super().__init__()
        if min(size) < settings.patch:
            raise UserError(f"input.size {size} is smaller than a patch of {settings.patch} pixels")
        self.settings, width = settings, settings.width
        self.grid = patch_grid(size, patch=settings.patch, stride=settings.stride)
        self.num_features, self.dimension, self.first_rows = width, width + settings.projection, 1
        scale = float(width**-0.5)
        self.conv1 = nn.Conv2d(3, width, settings.patch, stride=settings.stride, bias=False)
        self.class_embedding = nn.Parameter(scale * torch.randn(width))
        self.positional_embedding = nn.Parameter(scale * torch.randn(1 + self.grid[0] * self.grid[1], width))
        if settings.views and not settings.cameras:
            self.add_side_information(0)
        self.ln_pre = nn.LayerNorm(width)
        self.transformer = ClipBlocks(width, settings.heads, settings.depth)
        self.ln_post = nn.LayerNorm(width)
        self.proj = nn.Parameter(scale * torch.randn(width, settings.projection))

    def add_side_information(self, cameras: int) -> None:
        """Add the embeddings of so many cameras, and of the viewpoints that the settings have."""
        settings = self.settings
        self.cv_embed = SideInformation(
            settings.width, cameras=cameras, views=settings.views, coefficient=settings.sie_coefficient
        )

    def forward(self, images: Tensor, cam: Tensor, view: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Map normalised images (B, 3, H, W) to the map (B, D, h, w) and the vector (B, D + P).

        Args:
            images: of the size that the network was built for.
            cam: (B,) int64 rows of the embeddings of cameras, -1 = unknown (see `SideInformation`).
            view: (B,) int64 viewpoints, -1 = unknown.

        """
        featuremap, vector, _ = self.forward_all(images, cam, view)
        return featuremap, vector

    def forward_all(self, images: Tensor, cam: Tensor, view: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Return what `forward` does, and the class token (B, D) after the last block but one, without a norm."""
        before, tokens = self.tokens(images, cam, view)
        tokens = self.ln_post(tokens)
        featuremap = tokens[:, 1:].transpose(1, 2).unflatten(2, self.grid)
        return featuremap, torch.cat([tokens[:, 0], tokens[:, 0] @ self.proj], dim=1), before[:, 0]

    def tokens(self, images: Tensor, cam: Tensor, view: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return the tokens after the last block but one and after the last one, without the last norm: (B, T, D)."""
        patches = self.conv1(images).flatten(2).transpose(1, 2)  # (B, n, D)
        first = self.class_embedding.expand(patches.shape[0], -1)  # (B, D)
        if self.settings.cameras or self.settings.views:
            first = first + self.cv_embed(cam, view)
        tokens = self.ln_pre(torch.cat([first[:, None], patches], dim=1) + self.positional_embedding)
        before = tokens
        for block in self.transformer.resblocks:
            before, tokens = tokens, block(tokens)
        return before, tokens

    def group_matcher(self, *, coarse: bool = False) -> Mapping[str, object]:
        """Return the layers in the form that timm's layer-wise learning rates read: stem, blocks, what follows."""
        blocks = [(r"^transformer\.resblocks\.(\d+)", None), (r"^(?:ln_post|proj)", (99999,))]
        return {"stem": r"^(?:conv1|class_|positional_|cv_embed|ln_pre)", "blocks": blocks}
