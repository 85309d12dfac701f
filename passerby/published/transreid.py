"""TransReID: ViT, DeiT and its own small ViT, with camera embeddings (SIE) and the jigsaw module (JPM)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

from pydantic import Field, JsonValue
from torch import Tensor

from passerby.inputs import InputSettings
from passerby.models.embedder import ModelSettings
from passerby.models.transformer import AtLeastOne
from passerby.published.family import Imported, PublishedFamily, PublishedScore
from passerby.published.resnets import below
from passerby.published.tensors import FileTensors
from passerby.published.vits import (
    BLOCK_NAMES,
    HALF,
    PatchLayout,
    SideChoices,
    camera_table,
    count_heads,
    join_necks,
    patch_layout,
    patch_of,
    take_neck,
    take_network,
    vit_architecture,
)
from passerby.settings import Settings
from passerby.types import NO_CAMERAS


class TransReidChoices(SideChoices):
    """Settings that TransReID's files do not hold."""

    sie_coefficient: float = Field(3.0, description="factor of the camera embedding, 3.0 in all person configurations")
    attention_scale: Literal["auto", "head", "width"] = Field(
        "auto", description="auto: width in the network without qkv bias (vit_small), else head"
    )
    jigsaw_shift: AtLeastOne = Field(5, description="of the jigsaw module, where the file has its branches")
    jigsaw_groups: AtLeastOne = Field(2, description="of the jigsaw module, where the file has its branches")


class TransReid(PublishedFamily):
    """Files of TransReID; the published vector stands before the necks, with the jigsaw module five features long.

    Reference: He et al., "TransReID: Transformer-based Object Re-Identification", ICCV 2021.

    """

    summary: ClassVar[str] = "TransReID: ViT-B, DeiT-B/S, vit_small; with SIE, JPM, overlapping patches"
    code_licence: ClassVar[str] = "MIT"
    weights_licence: ClassVar[str] = "none stated"
    sizes: ClassVar[str] = "256x128, 384x128"
    download: ClassVar[str] = "vit_transreid_market.pth, ... linked in the README of github.com/damo-cv/TransReID"
    scores: ClassVar[tuple[PublishedScore, ...]] = (
        PublishedScore("ViT-B TransReID*", "Market-1501", 89.0, 95.1),
        PublishedScore("ViT-B TransReID*", "MSMT17", 67.8, 85.3),
        PublishedScore("ViT-B TransReID*", "DukeMTMC-reID", 82.0, 90.7),
    )
    settings_class: ClassVar[type[Settings]] = TransReidChoices
    without_influence: ClassVar[tuple[str, ...]] = (r"base\.fc\..*", r"classifier(_\d)?\..*")

    @classmethod
    def recognises(cls, tensors: Mapping[str, Tensor]) -> str | None:
        """Return the reason: a ViT below `base.` and a neck, and nothing of its self-supervised successors."""
        later = ("base.gem.p", "base.part_token1", "base.patch_embed.conv.0.weight")
        if "base.blocks.0.norm1.weight" not in tensors or any(key in tensors for key in later):
            return None
        if "bottleneck.running_mean" not in tensors:
            return None
        added = {"base.sie_embed": "sie_embed (cameras)", "b1.0.norm1.weight": "b1, b2 (jigsaw module)"}
        shown = [text for key, text in added.items() if key in tensors]
        return f"it has {', '.join(['base.blocks', 'bottleneck', *shown])}"

    @classmethod
    def convert(cls, tensors: FileTensors, settings: Settings, *, size: tuple[int, int] | None) -> Imported:
        """Return the model of a file."""
        assert isinstance(settings, TransReidChoices)
        architecture = vit_architecture(tensors, "base.")
        width, patch = int(tensors["base.cls_token"].shape[-1]), patch_of(tensors, "base.")
        layout = patch_layout(
            tensors.require("base.pos_embed").shape[-2] - 1,
            patch=patch,
            stride=settings.stride,
            size=size,
            source=tensors.source,
        )
        architecture |= {"patch": patch, "stride": layout.stride, **_attention(settings, architecture, tensors, width)}
        notes, cameras, state = layout.notes, NO_CAMERAS, {}
        if "base.sie_embed" in tensors:
            rows = tensors.take("base.sie_embed")[:, 0]  # (cameras * views, D)
            cameras, note = camera_table(len(rows), settings, source=tensors.source)
            architecture |= {
                "cameras": True, "views": settings.views, "sie_coefficient": settings.sie_coefficient
            }  # fmt: skip
            state["sie_embed.pairs.weight"] = rows.reshape(cameras.count, -1)
            notes = (*notes, note)
        if "b1.0.norm1.weight" in tensors:
            architecture["jigsaw"] = _jigsaw(settings, tensors)
            notes = (
                *notes,
                "the last block and norm of base have no influence: the jigsaw branches replace them",
            )
        state |= _body(tensors, layout)
        model = ModelSettings(backbone="vit", architecture=architecture)
        necks = _necks(tensors)
        return Imported(
            model,
            InputSettings(size=layout.size, mean=HALF, std=HALF),
            below("backbone.body.", state) | necks,
            "before_neck",
            notes=notes,
            cameras=cameras,
        )


def _attention(
    settings: TransReidChoices, architecture: Mapping[str, JsonValue], tensors: FileTensors, width: int
) -> dict[str, JsonValue]:
    """Return heads and scale of the attention; the published vit_small has 8 heads and the scale of the whole width."""
    small = architecture.get("qkv_bias") is False
    heads = count_heads(width, settings.heads, usual=8 if small else None, source=tensors.source)
    auto = "width" if small else "head"
    return {
        "heads": heads, "attention_scale": auto if settings.attention_scale == "auto" else settings.attention_scale
    }  # fmt: skip


def _jigsaw(settings: TransReidChoices, tensors: FileTensors) -> dict[str, JsonValue]:
    parts = tensors.count_numbers(r"bottleneck_(\d)\.")
    return {"shift": settings.jigsaw_shift, "groups": settings.jigsaw_groups, "parts": parts}


def _body(tensors: FileTensors, layout: PatchLayout) -> dict[str, Tensor]:
    """Return the tensors of the network; the block and the norm that jigsaw branches replace are left out."""
    body = take_network(tensors, "base.", layout, first=1)
    branches = tensors.take_matching(rf"b[12]\.(1\.(weight|bias)|0\.{BLOCK_NAMES})")
    if branches:
        last = f"blocks.{tensors.count_numbers(r'base[.]blocks[.]([0-9]+)[.]') - 1}."
        body = {key: value for key, value in body.items() if not key.startswith((last, "norm."))}
    return body | branches


def _necks(tensors: FileTensors) -> dict[str, Tensor]:
    """Return the one neck of the concatenated features; the local ones are divided by their number."""
    count = tensors.count_numbers(r"bottleneck_(\d)\.")
    local = [take_neck(tensors, f"bottleneck_{number}", divisor=count) for number in range(1, count + 1)]
    return join_necks([take_neck(tensors, "bottleneck"), *local])
