"""CLIP-ReID with a vision transformer: the image tower of CLIP, with camera embeddings and overlapping patches."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from pydantic import Field, JsonValue
from torch import Tensor

from passerby.inputs import InputSettings
from passerby.models.embedder import ModelSettings
from passerby.published.family import Imported, PublishedFamily, PublishedScore
from passerby.published.resnets import below
from passerby.published.tensors import FileTensors
from passerby.published.vits import (
    HALF,
    SideChoices,
    camera_table,
    count_heads,
    fit_table,
    join_necks,
    patch_layout,
    take_neck,
)
from passerby.settings import Settings
from passerby.types import NO_CAMERAS

_TOWER = "image_encoder."
_NAMES = (
    r"class_embedding|positional_embedding|proj|conv1\.weight|ln_(pre|post)\.(weight|bias)"
    r"|transformer\.resblocks\.\d+\.(ln_[12]|attn\.out_proj|mlp\.c_(fc|proj))\.(weight|bias)"
    r"|transformer\.resblocks\.\d+\.attn\.in_proj_(weight|bias)"
)


class ClipReidChoices(SideChoices):
    """Settings that CLIP-ReID's files do not hold."""

    sie_coefficient: float = Field(1.0, description="factor of the camera embedding, 1.0 in the published command")


class ClipReidViT(PublishedFamily):
    """Files of CLIP-ReID; the published vector is the class token beside its projection, before both necks.

    Reference: Li et al., "CLIP-ReID: Exploiting Vision-Language Model for Image Re-Identification without Concrete Text
    Labels", AAAI 2023.

    """

    summary: ClassVar[str] = "CLIP-ReID: ViT-B/16, with SIE and overlapping patches"
    code_licence: ClassVar[str] = "MIT"
    weights_licence: ClassVar[str] = "none stated"
    sizes: ClassVar[str] = "256x128"
    download: ClassVar[str] = "Market1501_clipreid_ViT-B-16_60.pth, ... in the README of github.com/Syliz517/CLIP-ReID"
    scores: ClassVar[tuple[PublishedScore, ...]] = (
        PublishedScore("ViT-B/16", "Market-1501", 89.6, 95.5),
        PublishedScore("ViT-B/16", "MSMT17", 73.4, 88.7),
        PublishedScore("ViT-B/16+SIE+OLP", "MSMT17", 75.8, 89.7),
    )
    settings_class: ClassVar[type[Settings]] = ClipReidChoices
    without_influence: ClassVar[tuple[str, ...]] = (r"(text_encoder|prompt_learner|classifier|classifier_proj)\..*",)

    @classmethod
    def recognises(cls, tensors: Mapping[str, Tensor]) -> str | None:
        """Return the reason: the blocks of an image tower."""
        if f"{_TOWER}transformer.resblocks.0.ln_1.weight" not in tensors:
            return None
        return f"it has {_TOWER}transformer.resblocks{' and cv_embed (cameras)' if 'cv_embed' in tensors else ''}"

    @classmethod
    def convert(cls, tensors: FileTensors, settings: Settings, *, size: tuple[int, int] | None) -> Imported:
        """Return the model of a file."""
        assert isinstance(settings, ClipReidChoices)
        width = int(tensors.require(f"{_TOWER}class_embedding").shape[0])
        patch = int(tensors.require(f"{_TOWER}conv1.weight").shape[-1])
        table = tensors.require(f"{_TOWER}positional_embedding")
        layout = patch_layout(len(table) - 1, patch=patch, stride=settings.stride, size=size, source=tensors.source)
        architecture: dict[str, JsonValue] = {
            "width": width,
            "depth": tensors.count_numbers(r"image_encoder[.]transformer[.]resblocks[.](\d+)[.]"),
            "heads": count_heads(width, settings.heads, source=tensors.source),
            "projection": int(tensors.require(f"{_TOWER}proj").shape[1]),
            "patch": patch,
            "stride": layout.stride,
        }
        state = {key: value.float() for key, value in tensors.take_below(_TOWER, but=f"(?!({_NAMES})$).*").items()}
        state["positional_embedding"] = fit_table(state["positional_embedding"], layout, prefix=1)
        notes, cameras = layout.notes, NO_CAMERAS
        if "cv_embed" in tensors:
            rows = tensors.take("cv_embed")  # (cameras * views, D)
            cameras, note = camera_table(len(rows), settings, source=tensors.source)
            architecture |= {
                "cameras": True, "views": settings.views, "sie_coefficient": settings.sie_coefficient
            }  # fmt: skip
            state["cv_embed.pairs.weight"] = rows.reshape(cameras.count, -1)
            notes = (*notes, note)
        return Imported(
            ModelSettings(backbone="clip_vit", architecture=architecture),
            InputSettings(size=layout.size, mean=HALF, std=HALF),
            below("backbone.body.", state)
            | join_necks([take_neck(tensors, "bottleneck"), take_neck(tensors, "bottleneck_proj")]),
            "before_neck",
            notes=notes,
            cameras=cameras,
        )
