"""TransReID-SSL and PersonViT: vision transformers pre-trained on people, and their fine-tuned models."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from torch import Tensor

from passerby.inputs import InputSettings
from passerby.models.embedder import ModelSettings
from passerby.models.positions import published_grid
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

_DEAD = r"fc\..*|gem\.p|masked_embed|head\..*"


class TransReidSsl(PublishedFamily):
    """Files of TransReID-SSL, fine-tuned or pre-trained; the published vector is the class token before the neck.

    Of a pre-training file the teacher is taken.

    Reference: Luo et al., "Self-Supervised Pre-Training for Transformer-Based Person Re-Identification",
    arXiv:2111.12084.

    """

    summary: ClassVar[str] = "TransReID-SSL: ViT-S/B and ViT-S/B+ICS, fine-tuned and pre-trained (LUPerson)"
    code_licence: ClassVar[str] = "MIT"
    weights_licence: ClassVar[str] = "none stated; LUPerson itself is for research only"
    sizes: ClassVar[str] = "256x128, 384x128"
    download: ClassVar[str] = "links in the README of github.com/damo-cv/TransReID-SSL"
    scores: ClassVar[tuple[PublishedScore, ...]] = (
        PublishedScore("ViT-S", "Market-1501", 91.2, 95.8),
        PublishedScore("ViT-S+ICS", "MSMT17", 68.3, 86.2),
    )
    settings_class: ClassVar[type[Settings]] = VitChoices
    without_influence: ClassVar[tuple[str, ...]] = (rf"((base|backbone)\.)?({_DEAD})", r"classifier\..*")

    @classmethod
    def recognises(cls, tensors: Mapping[str, Tensor]) -> str | None:
        """Return the reason: a ViT whose file has a GeM power, an ICS stem, or the grid of a person."""
        prefix = _plain_vit(tensors)
        if prefix is None or f"{prefix}masked_embed" in tensors:
            return None
        marks = (f"{prefix}gem.p", f"{prefix}patch_embed.conv.0.weight")
        shown = [mark for mark in marks if mark in tensors]
        if prefix != "base." and _grid_of_a_person(tensors.get(f"{prefix}pos_embed")):
            shown.append("positions of a grid twice as high as wide")
        return f"it has {', '.join([f'{prefix}blocks', *shown])}" if shown else None

    @classmethod
    def accepts(cls, tensors: Mapping[str, Tensor]) -> str | None:
        """Return the reason: a ViT without cameras, jigsaw branches and part tokens."""
        prefix = _plain_vit(tensors)
        return None if prefix is None else f"it has {prefix}blocks"

    @classmethod
    def convert(cls, tensors: FileTensors, settings: Settings, *, size: tuple[int, int] | None) -> Imported:
        """Return the model of a file."""
        assert isinstance(settings, VitChoices)
        prefix = first_prefix(tensors, "blocks.0.norm1.weight") or ""
        architecture = vit_architecture(tensors, prefix)
        width, patch = int(tensors[f"{prefix}cls_token"].shape[-1]), patch_of(tensors, prefix)
        table = tensors.require(f"{prefix}pos_embed")
        layout = patch_layout(
            table.shape[-2] - 1, patch=patch, stride=settings.stride, size=size, source=tensors.source
        )
        heads = count_heads(width, settings.heads, source=tensors.source)
        architecture |= {"patch": patch, "stride": layout.stride, "heads": heads}
        body = take_network(tensors, prefix, layout, first=1)
        neck = "bottleneck.running_mean" in tensors
        return Imported(
            ModelSettings(backbone="vit", architecture=architecture),
            InputSettings(size=layout.size, mean=HALF, std=HALF),
            below("backbone.body.", body)
            | (join_necks([take_neck(tensors, "bottleneck")]) if neck else new_neck(width)),
            "before_neck",
            notes=(
                *layout.notes,
                *(() if neck else ("a pre-trained network without a neck; it begins with a new one",)),
            ),
        )


class PersonViT(TransReidSsl):
    """Files of PersonViT, in the layout of TransReID-SSL; its pre-training is recognised by iBOT's mask.

    Reference: Hu et al., "PersonViT: Large-scale Self-supervised Vision Transformer for Person Re-Identification",
    arXiv:2408.05398.

    """

    summary: ClassVar[str] = "PersonViT: ViT-S/B, fine-tuned and pre-trained (LUPerson)"
    code_licence: ClassVar[str] = "none stated"
    sizes: ClassVar[str] = "256x128"
    download: ClassVar[str] = "links in the README of github.com/hustvl/PersonViT"
    scores: ClassVar[tuple[PublishedScore, ...]] = (
        PublishedScore("ViT-S", "Market-1501", 92.9, 96.8),
        PublishedScore("ViT-B", "Market-1501", 95.0, 97.6),
        PublishedScore("ViT-B", "MSMT17", 80.8, 92.0),
    )

    @classmethod
    def recognises(cls, tensors: Mapping[str, Tensor]) -> str | None:
        """Return the reason: a ViT with the mask token of iBOT."""
        prefix = _plain_vit(tensors)
        return f"it has {prefix}masked_embed" if f"{prefix}masked_embed" in tensors else None


def _plain_vit(tensors: Mapping[str, Tensor]) -> str | None:
    """Return what stands before the names of a ViT without cameras, jigsaw branches and part tokens; None = no such."""
    prefix = first_prefix(tensors, "blocks.0.norm1.weight")
    added = (f"{prefix}part_token1", f"{prefix}sie_embed", "b1.0.norm1.weight")
    return None if prefix is None or any(key in tensors for key in added) else prefix


def _grid_of_a_person(table: Tensor | None) -> bool:
    """Whether a table of positions with a class row is of a grid twice as high as wide."""
    grid = None if table is None else published_grid(table.shape[-2] - 1)
    return grid is not None and grid[0] == 2 * grid[1]
