"""SOLIDER: Swin transformers pre-trained on people with a semantic weight, and their fine-tuned models."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, ClassVar

from pydantic import Field, JsonValue
from torch import Tensor

from passerby.errors import UserError
from passerby.inputs import InputSettings
from passerby.models.embedder import ModelSettings
from passerby.published.family import Imported, PublishedFamily, PublishedScore
from passerby.published.resnets import below
from passerby.published.tensors import FileTensors
from passerby.published.vits import HALF, NEW_NECK, first_prefix, join_necks, new_neck, take_neck
from passerby.settings import Settings

_BLOCK = r"(norm[12]|attn\.w_msa\.(qkv|proj)|ffn\.layers\.(0\.0|1))\.(weight|bias)"
_BLOCK = rf"({_BLOCK}|attn\.w_msa\.relative_position_bias_table)"
_STEM = "patch_embed.projection.weight"


class SoliderChoices(Settings):
    """Settings that SOLIDER's files do not hold."""

    semantic_weight: Annotated[float, Field(ge=0, le=1)] | None = Field(
        0.2, description="0.2 in the published re-identification; null = without the semantic layers"
    )


class Solider(PublishedFamily):
    """Files of SOLIDER and SOLIDER-REID; the published vector is the mean of the last map, before the neck.

    Of a pre-training file the teacher is taken.

    Reference: Chen et al., "Beyond Appearance: a Semantic Controllable Self-Supervised Learning Framework for
    Human-Centric Visual Tasks", CVPR 2023.

    """

    summary: ClassVar[str] = "SOLIDER: Swin-T/S/B, fine-tuned and pre-trained (LUPerson), with the semantic weight"
    code_licence: ClassVar[str] = "Apache-2.0"
    weights_licence: ClassVar[str] = "none stated; LUPerson itself is for research only"
    sizes: ClassVar[str] = "384x128"
    download: ClassVar[str] = "links in the READMEs of github.com/tinyvision/SOLIDER, SOLIDER-REID"
    scores: ClassVar[tuple[PublishedScore, ...]] = (
        PublishedScore("Swin-T", "Market-1501", 91.6, 96.1),
        PublishedScore("Swin-S", "MSMT17", 76.9, 90.8),
        PublishedScore("Swin-B", "Market-1501", 93.9, 96.9),
    )
    settings_class: ClassVar[type[Settings]] = SoliderChoices
    without_influence: ClassVar[tuple[str, ...]] = (
        r".*\.relative_position_index", r"((base|backbone)\.)?norm[012]\..*",
        r"((base|backbone)\.)?semantic_embed_[wb]\.3\..*", r"classifier\..*", r"head\..*",
    )  # fmt: skip

    @classmethod
    def recognises(cls, tensors: Mapping[str, Tensor]) -> str | None:
        """Return the reason: stages of a Swin transformer as mmcv names them."""
        prefix = first_prefix(tensors, _STEM)
        if prefix is None or f"{prefix}stages.0.blocks.0.attn.w_msa.qkv.weight" not in tensors:
            return None
        semantic = " and semantic_embed_w" if f"{prefix}semantic_embed_w.0.weight" in tensors else ""
        return f"it has {prefix}stages with w_msa{semantic}"

    @classmethod
    def convert(cls, tensors: FileTensors, settings: Settings, *, size: tuple[int, int] | None) -> Imported:
        """Return the model of a file."""
        assert isinstance(settings, SoliderChoices)
        prefix = first_prefix(tensors, _STEM) or ""
        last = tensors.count_numbers(rf"{prefix}stages\.(\d+)\.") - 1
        semantic = f"{prefix}semantic_embed_w.0.weight" in tensors
        if not semantic and "semantic_weight" in settings.model_fields_set and settings.semantic_weight is not None:
            raise UserError(f"--set semantic_weight: {tensors.source} has no semantic layers")
        weight = settings.semantic_weight if semantic else None
        architecture = _architecture(tensors, prefix, last + 1) | {"semantic_weight": weight}
        known = (
            rf"patch_embed\.(projection|norm)\.\w+|stages\.\d+\.blocks\.\d+\.{_BLOCK}"
            rf"|stages\.\d+\.downsample\.(norm|reduction)\.\w+|norm{last}\.\w+|semantic_embed_[wb]\.(?!{last}\.)\d+\.\w+"
        )
        body = tensors.take_below(prefix, but=f"(?!({known})$).*")
        notes: tuple[str, ...] = ()
        if weight is None and semantic:
            body = {key: value for key, value in body.items() if not key.startswith("semantic_embed")}
            notes = ("the semantic layers of the file are switched off",)
        neck = "bottleneck.running_mean" in tensors
        if not neck:
            notes = (*notes, NEW_NECK)
        dimension = int(tensors.require(f"{prefix}norm{last}.weight").shape[0])
        return Imported(
            ModelSettings(backbone="swin", architecture=architecture),
            InputSettings(size=size or (384, 128), mean=HALF, std=HALF),
            below("backbone.body.", body)
            | (join_necks([take_neck(tensors, "bottleneck")]) if neck else new_neck(dimension)),
            "before_neck",
            notes=notes,
        )


def _architecture(tensors: FileTensors, prefix: str, stages: int) -> dict[str, JsonValue]:
    """Return the settings of the Swin transformer that its tensors show; its heads are columns of a table."""
    width = int(tensors.require(f"{prefix}{_STEM}").shape[0])
    first = [f"{prefix}stages.{stage}.blocks.0." for stage in range(stages)]
    tables = [tensors.require(f"{start}attn.w_msa.relative_position_bias_table") for start in first]
    hidden = int(tensors.require(f"{first[0]}ffn.layers.0.0.weight").shape[0])
    return {
        "width": width,
        "depths": [tensors.count_numbers(rf"{prefix}stages\.{stage}\.blocks\.(\d+)\.") for stage in range(stages)],
        "heads": [int(table.shape[1]) for table in tables],
        "mlp_ratio": hidden / width,
        "window": (math.isqrt(len(tables[0])) + 1) // 2,
    }
