"""The Swin transformer of SOLIDER, whose features lean to meaning or to appearance by a semantic weight."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Self, cast

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from passerby.models.swin_blocks import PatchMerging, PatchProjection, SwinBlock
from passerby.models.transformer import AtLeastOne, drop_rates, initialise_tokens
from passerby.settings import Settings


class SwinSettings(Settings):
    """A Swin transformer; the defaults are Swin-T."""

    width: AtLeastOne = Field(96, description="channels of the first stage, doubled by each stage")
    depths: tuple[AtLeastOne, ...] = Field((2, 2, 6, 2), min_length=1, description="blocks of each stage")
    heads: tuple[AtLeastOne, ...] = Field((3, 6, 12, 24), min_length=1, description="heads of each stage")
    mlp_ratio: Annotated[float, Field(gt=0)] = Field(4.0, description="hidden width of the perceptrons, times width")
    window: Annotated[int, Field(ge=2)] = Field(7, description="side of a window in tokens")
    drop_path: Annotated[float, Field(ge=0, lt=1)] = Field(
        0.0, description="stochastic depth of the last block, rising linearly from 0"
    )
    semantic_weight: Annotated[float, Field(ge=0, le=1)] | None = Field(
        None, description="SOLIDER's semantic weight, 0.2 in its re-identification; null = a plain Swin"
    )

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if len(self.heads) != len(self.depths):
            raise ValueError(f"heads and depths must have one number per stage, got {self.heads} and {self.depths}")
        for stage, heads in enumerate(self.heads):
            if (self.width * 2**stage) % heads:
                raise ValueError(f"heads must divide the width {self.width * 2**stage} of their stage, got {heads}")
        return self


class SwinStage(nn.Module):
    """Blocks whose windows are shifted in turn, and the merging of patches that ends all stages but the last.

    Args:
        width: C of the tokens.
        heads: number of heads.
        settings: window and perceptrons.
        rates: drop-path probability of each block.
        merge: whether patches are merged at the end.

    """

    def __init__(self, width: int, heads: int, *, settings: SwinSettings, rates: list[float], merge: bool) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            SwinBlock(
                width,
                heads,
                window=settings.window,
                shift=settings.window // 2 if number % 2 else 0,
                mlp_ratio=settings.mlp_ratio,
                drop_path=rate,
            )
            for number, rate in enumerate(rates)
        )
        self.downsample = PatchMerging(width) if merge else nn.Identity()

    def forward(self, maps: Tensor) -> Tensor:
        """Map maps (B, h, w, C) to (B, h / 2, w / 2, 2 C), or to the same shape in the last stage."""
        for block in self.blocks:
            maps = block(maps)
        return cast("Tensor", self.downsample(maps))


class SwinTransformer(nn.Module):
    """The network, for images of any size.

    Args:
        settings: its dimensions.

    Attributes:
        num_features: channels of the last map.

    Reference: Liu et al., "Swin Transformer: Hierarchical Vision Transformer using Shifted Windows", ICCV 2021; Chen et
    al., "Beyond Appearance: a Semantic Controllable Self-Supervised Learning Framework for Human-Centric Visual Tasks",
    CVPR 2023, section 3.3.

    """

    def __init__(self, settings: SwinSettings) -> None:
        super().__init__()
        self.settings, count = settings, len(settings.depths)
        widths = [settings.width * 2**stage for stage in range(count)]
        self.num_features = widths[-1]
        self.patch_embed = PatchProjection(settings.width)
        rates = drop_rates(settings.drop_path, sum(settings.depths))
        self.stages = nn.ModuleList()
        for stage, depth in enumerate(settings.depths):
            stage_rates, rates = rates[:depth], rates[depth:]
            merge = stage < count - 1
            self.stages.append(
                SwinStage(widths[stage], settings.heads[stage], settings=settings, rates=stage_rates, merge=merge)
            )
        self.add_module(f"norm{count - 1}", nn.LayerNorm(self.num_features))
        if settings.semantic_weight is not None:
            self.semantic_embed_w = nn.ModuleList(nn.Linear(2, width) for width in widths[1:])
            self.semantic_embed_b = nn.ModuleList(nn.Linear(2, width) for width in widths[1:])
        self.apply(initialise_tokens)

    def forward_features(self, images: Tensor) -> Tensor:
        """Map normalised images (B, 3, H, W) to the last map (B, C, h, w)."""
        maps, last = self.patch_embed(images), len(self.stages) - 1
        for number, stage in enumerate(self.stages):
            maps = stage(maps)
            if number < last and self.settings.semantic_weight is not None:
                maps = self._lean(maps, number, self.settings.semantic_weight)
        normed: Tensor = self.get_submodule(f"norm{last}")(maps)
        return normed.permute(0, 3, 1, 2)

    def _lean(self, maps: Tensor, number: int, weight: float) -> Tensor:
        """Scale and shift the channels of maps (B, h, w, C) by what the semantic weight calls for."""
        pair = torch.tensor([weight, 1 - weight], dtype=maps.dtype, device=maps.device)
        scale = F.softplus(self.semantic_embed_w[number](pair))  # (C,)
        shift: Tensor = self.semantic_embed_b[number](pair)  # (C,)
        return maps * scale + shift

    def group_matcher(self, *, coarse: bool = False) -> Mapping[str, object]:
        """Return the layers in the form that timm's layer-wise learning rates read: stem, blocks, what follows."""
        blocks = [
            (r"^stages\.(\d+)\.blocks\.(\d+)", None),
            (r"^stages\.(\d+)\.downsample", (99,)),
            (r"^semantic_embed_[wb]\.(\d+)", (99,)),
            (r"^norm", (99999,)),
        ]
        return {"stem": r"^patch_embed", "blocks": blocks}
