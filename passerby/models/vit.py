"""Vision transformers of re-identification: overlapping patches, cameras, the jigsaw module, part tokens, ICS stem.

One network serves TransReID, TransReID-SSL, PersonViT and PASS; its tensors are named as in their files, where the
last block, the final norm and the branches `b1` and `b2` of the jigsaw module stand beside each other.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Annotated, Literal, Self, cast

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from passerby.errors import UserError
from passerby.models.jigsaw import JigsawSettings, deal_out, jigsaw_order
from passerby.models.patches import ConvolutionStem, LinearStem
from passerby.models.pooling import Pool
from passerby.models.positions import patch_grid
from passerby.models.side_information import SideInformation
from passerby.models.transformer import AtLeastOne, AttentionScale, Block, drop_rates, initialise_tokens
from passerby.settings import Settings


class VitSettings(Settings):
    """A vision transformer; the defaults are ViT-B/16."""

    width: AtLeastOne = Field(768, description="D of the tokens")
    depth: AtLeastOne = Field(12, description="number of blocks")
    heads: AtLeastOne = Field(12, description="of the attention; divides width")
    mlp_ratio: Annotated[float, Field(gt=0)] = Field(4.0, description="hidden width of the perceptrons, times width")
    qkv_bias: bool = True
    attention_scale: AttentionScale = Field(
        "head", description="1 / sqrt(width / heads); width: 1 / sqrt(width), as TransReID's vit_small"
    )
    patch: AtLeastOne = Field(16, description="side of a patch in pixels")
    stride: AtLeastOne = Field(16, description="distance of two patches in pixels; below patch they overlap")
    stem: Literal["linear", "ics"] = Field("linear", description="ics: convolutions before the patches")
    drop_path: Annotated[float, Field(ge=0, lt=1)] = Field(
        0.0, description="stochastic depth of the last block, rising linearly from 0"
    )
    pool: Literal["cls", "mean", "gem"] = Field("cls", description="class token, or mean or GeM of the patches")
    cameras: bool = Field(False, description="an embedding of each camera of the training data (SIE)")
    views: Annotated[int, Field(ge=0)] = Field(0, description="viewpoints with an embedding (SIE); 0 = none")
    sie_coefficient: float = Field(3.0, description="factor of the embedding of camera and viewpoint")
    jigsaw: JigsawSettings | None = Field(None, description="the jigsaw module (JPM); null = none")
    part_tokens: Annotated[int, Field(ge=0)] = Field(0, description="tokens of parts beside the class token (PASS)")
    fusion: Literal["cat", "mean"] = Field("cat", description="of the class token and the mean part token")

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.width % self.heads:
            raise ValueError(f"heads must divide width {self.width}, got {self.heads}")
        if self.stride > self.patch:
            raise ValueError(f"stride {self.stride} is above patch {self.patch}, so pixels between patches are lost")
        if self.stem == "ics" and (self.patch, self.stride) != (16, 16):
            raise ValueError("stem: ics makes patches of 16 pixels that do not overlap; leave patch and stride at 16")
        if self.pool != "cls" and (self.jigsaw or self.part_tokens):
            raise ValueError(f"pool: {self.pool} has no effect with jigsaw or part_tokens, which use class tokens")
        if self.part_tokens and (self.jigsaw or self.cameras or self.views):
            raise ValueError("part_tokens exclude jigsaw, cameras and views; no network has been published with both")
        if self.jigsaw and self.depth < 2:
            raise ValueError("jigsaw replaces the last block, so depth must be 2 or more")
        if not self.part_tokens and self.fusion != "cat":
            raise ValueError("fusion has no effect without part_tokens")
        return self


class VisionTransformer(nn.Module):
    """The network.

    Args:
        settings: its dimensions and additions.
        size: (H, W) of the images.

    Attributes:
        num_features: D of a token, the channels of the map.
        dimension: length of the vector: D, more with the jigsaw module (1 + parts) D or concatenated part tokens 2 D.
        grid: (h, w) of the patches.
        prefix: number of tokens before the patches.
        first_rows: rows of the table of positions before those of the patches.

    Raises:
        UserError: images smaller than a patch, or a number of patches that does not suit the jigsaw module.

    Reference: Dosovitskiy et al., "An Image is Worth 16x16 Words", ICLR 2021; He et al., "TransReID:
    Transformer-based Object Re-Identification", ICCV 2021; Zhu et al., "PASS: Part-Aware Self-Supervised
    Pre-Training for Person Re-Identification", ECCV 2022.

    """

    order: Tensor | None

    def __init__(self, settings: VitSettings, size: tuple[int, int]) -> None:
        super().__init__()
        if min(size) < settings.patch:
            raise UserError(f"input.size {size} is smaller than a patch of {settings.patch} pixels")
        self.settings, width = settings, settings.width
        self.grid = patch_grid(size, patch=settings.patch, stride=settings.stride)
        self.num_features, self.prefix, self.dimension = width, 1 + settings.part_tokens, count_numbers(settings)
        self.first_rows = 0 if settings.part_tokens else 1
        self.patch_embed = (
            LinearStem(width, patch=settings.patch, stride=settings.stride)
            if settings.stem == "linear"
            else ConvolutionStem(width)
        )
        self._make_tokens()
        rates = drop_rates(settings.drop_path, settings.depth)
        blocks = [
            Block(
                width,
                settings.heads,
                mlp_ratio=settings.mlp_ratio,
                qkv_bias=settings.qkv_bias,
                scale=settings.attention_scale,
                drop_path=rate,
            )
            for rate in rates
        ]
        norm, order = nn.LayerNorm(width, eps=1e-6), None
        self.blocks = nn.ModuleList(blocks)
        self.apply(initialise_tokens)
        if settings.jigsaw is None:
            self.norm = norm
        else:
            last = nn.Sequential(self.blocks.pop(-1), norm)
            self.b1, self.b2 = last, copy.deepcopy(last)
            order = jigsaw_order(self.grid[0] * self.grid[1], settings.jigsaw)  # (parts, length)
        self.register_buffer("order", order, persistent=False)
        if settings.pool == "gem":
            self.gem = Pool("gem_learned")

    def _make_tokens(self) -> None:
        """Make the class token, the part tokens and the tables of positions, cameras and viewpoints."""
        settings, width = self.settings, self.settings.width
        count = self.grid[0] * self.grid[1]
        self.cls_token = _table(1, width)
        for part in range(1, settings.part_tokens + 1):
            self.register_parameter(f"part_token{part}", _table(1, width))
            self.register_parameter(f"part{part}_pos", _table(1, width))
        if settings.part_tokens:
            self.cls_pos = _table(1, width)
            self.pos_embed = _table(count, width)
        else:
            self.pos_embed = _table(1 + count, width)
        if settings.views and not settings.cameras:
            self.add_side_information(0)

    def add_side_information(self, cameras: int) -> None:
        """Add the embeddings of so many cameras, and of the viewpoints that the settings have."""
        settings = self.settings
        self.sie_embed = SideInformation(
            settings.width, cameras=cameras, views=settings.views, coefficient=settings.sie_coefficient
        )

    def forward(self, images: Tensor, cam: Tensor, view: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Map normalised images (B, 3, H, W) to the map (B, D, h, w) and the vector (B, dimension).

        Args:
            images: of the size that the network was built for.
            cam: (B,) int64 rows of the embeddings of cameras, -1 = unknown (see `SideInformation`).
            view: (B,) int64 viewpoints, -1 = unknown.

        """
        tokens = self._begin(images, cam, view)
        for block in self.blocks:
            tokens = block(tokens)
        if self.order is None:
            tokens = self.norm(tokens)
            return self._to_map(tokens), self._pool(tokens)
        whole = self.b1(tokens)
        local = self.b2(deal_out(tokens, self.order))[:, 0]  # (parts * B, D)
        parts = local.unflatten(0, (len(self.order), -1)) / len(self.order)
        return self._to_map(whole), torch.cat([whole[:, 0], *parts], dim=1)

    def _begin(self, images: Tensor, cam: Tensor, view: Tensor | None) -> Tensor:
        """Return the tokens before the first block: (B, T, D)."""
        patches = self.patch_embed(images).flatten(2).transpose(1, 2)  # (B, n, D)
        first = torch.cat([self.cls_token, *self._of_parts("part_token{}")], dim=1)
        positions: Tensor = self.pos_embed
        if self.settings.part_tokens:
            positions = torch.cat([self.cls_pos, *self._of_parts("part{}_pos"), positions], dim=1)
        tokens = torch.cat([first.expand(patches.shape[0], -1, -1), patches], dim=1) + positions
        if not (self.settings.cameras or self.settings.views):
            return tokens
        return tokens + cast("Tensor", self.sie_embed(cam, view))[:, None]

    def _of_parts(self, name: str) -> list[nn.Parameter]:
        return [self.get_parameter(name.format(part)) for part in range(1, self.settings.part_tokens + 1)]

    def _pool(self, tokens: Tensor) -> Tensor:
        """Return the vector (B, dimension) of normed tokens."""
        if self.settings.part_tokens:
            first, part = tokens[:, 0], tokens[:, 1 : self.prefix].mean(dim=1)
            return torch.cat([first, part], dim=1) if self.settings.fusion == "cat" else (first + part) / 2
        if self.settings.pool == "cls":
            return tokens[:, 0]
        if self.settings.pool == "mean":
            return tokens[:, self.prefix :].mean(dim=1)
        vector: Tensor = self.gem(self._to_map(tokens))
        return vector

    def _to_map(self, tokens: Tensor) -> Tensor:
        return cast("Tensor", tokens[:, self.prefix :].transpose(1, 2).unflatten(2, self.grid))

    def group_matcher(self, *, coarse: bool = False) -> Mapping[str, object]:
        """Return the layers in the form that timm's layer-wise learning rates read: stem, blocks, what follows."""
        stem = r"^(?:cls_|pos_|part|patch_embed|sie_embed)"
        last = (r"^(?:norm|gem|b[12]\.1)", (99999,))
        return {"stem": stem, "blocks": [(r"^blocks\.(\d+)", None), (r"^b[12]\.0", (99998,)), last]}


def count_numbers(settings: VitSettings) -> int:
    """Return the length of the vector.

    >>> count_numbers(VitSettings(jigsaw=JigsawSettings()))
    3840
    """
    if settings.jigsaw is not None:
        return (1 + settings.jigsaw.parts) * settings.width
    return settings.width * (2 if settings.part_tokens and settings.fusion == "cat" else 1)


def _table(rows: int, width: int) -> nn.Parameter:
    return nn.Parameter(nn.init.trunc_normal_(torch.empty(1, rows, width), std=0.02))
