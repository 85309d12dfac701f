"""PASS: vision transformers with three part tokens beside the class token, fine-tuned and pre-trained."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

from pydantic import Field
from torch import Tensor

from passerby.inputs import InputSettings
from passerby.models.embedder import ModelSettings
from passerby.published.family import Imported, PublishedFamily, PublishedScore
from passerby.published.resnets import below
from passerby.published.tensors import FileTensors
from passerby.published.vits import (
    HALF,
    VitChoices,
    count_heads,
    first_prefix,
    join_necks,
    new_neck,
    patch_layout,
    patch_of,
    take_neck,
    take_network,
    vit_architecture,
)
from passerby.settings import Settings

_DEAD = r"fc\..*|gem\.p|head\..*"


class PartTokenChoices(VitChoices):
    """Settings that PASS's files do not hold."""

    fusion: Literal["auto", "cat", "mean"] = Field(
        "auto", description="of class token and mean part token; auto: mean where the file has one neck alone, else cat"
    )


class PartTokenViT(PublishedFamily):
    """Files of PASS; the published vector is the class token beside the mean of the part tokens, before the necks.

    Reference: Zhu et al., "PASS: Part-Aware Self-Supervised Pre-Training for Person Re-Identification", ECCV 2022.

    """

    summary: ClassVar[str] = "PASS: ViT-S/B with three part tokens, fine-tuned and pre-trained (LUPerson)"
    code_licence: ClassVar[str] = "Apache-2.0"
    weights_licence: ClassVar[str] = "none stated; LUPerson itself is for research only"
    sizes: ClassVar[str] = "256x128, 384x128"
    download: ClassVar[str] = "pass_vit_base_full.pth, ... linked in the README of github.com/CASIA-IVA-Lab/PASS-reID"
    scores: ClassVar[tuple[PublishedScore, ...]] = (
        PublishedScore("ViT-S", "Market-1501", 92.2, 96.3),
        PublishedScore("ViT-B", "Market-1501", 93.0, 96.8),
        PublishedScore("ViT-B", "MSMT17", 71.8, 88.2),
    )
    settings_class: ClassVar[type[Settings]] = PartTokenChoices
    without_influence: ClassVar[tuple[str, ...]] = (
        rf"((base|backbone)\.)?({_DEAD})", r"classifier\..*", r"bottleneck(_\d)?\..*",
    )  # fmt: skip

    @classmethod
    def recognises(cls, tensors: Mapping[str, Tensor]) -> str | None:
        """Return the reason: part tokens."""
        prefix = first_prefix(tensors, "part_token1")
        return None if prefix is None else f"it has {prefix}part_token1"

    @classmethod
    def convert(cls, tensors: FileTensors, settings: Settings, *, size: tuple[int, int] | None) -> Imported:
        """Return the model of a file."""
        assert isinstance(settings, PartTokenChoices)
        prefix = first_prefix(tensors, "part_token1") or ""
        architecture = vit_architecture(tensors, prefix)
        width, patch = int(tensors[f"{prefix}cls_token"].shape[-1]), patch_of(tensors, prefix)
        table = tensors.require(f"{prefix}pos_embed")  # without rows of other tokens
        layout = patch_layout(table.shape[-2], patch=patch, stride=settings.stride, size=size, source=tensors.source)
        single = "bottleneck.running_mean" in tensors and "bottleneck_1.running_mean" not in tensors
        fusion = ("mean" if single else "cat") if settings.fusion == "auto" else settings.fusion
        architecture |= {
            "patch": patch,
            "stride": layout.stride,
            "heads": count_heads(width, settings.heads, source=tensors.source),
            "part_tokens": tensors.count_numbers(f"{prefix}part_token([0-9]+)$"),
            "fusion": fusion,
        }
        body = take_network(tensors, prefix, layout, first=0)
        neck = join_necks([take_neck(tensors, "bottleneck")]) if single and fusion == "mean" else None
        note = "the necks of the tokens cannot stand behind their fusion; the model begins with a new one"
        return Imported(
            ModelSettings(backbone="vit", architecture=architecture),
            InputSettings(size=layout.size, mean=HALF, std=HALF),
            below("backbone.body.", body) | (neck or new_neck(width * (2 if fusion == "cat" else 1))),
            "before_neck",
            notes=(*layout.notes, *(() if neck else (note,))),
        )
