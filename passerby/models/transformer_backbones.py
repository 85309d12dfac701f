"""Families of transformer backbones whose dimensions are settings: `vit`, `clip_vit` and `swin`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from torch import Tensor

from passerby.models.backbone import Backbone, require_kind
from passerby.models.clip_vit import ClipVisionTransformer, ClipVitSettings
from passerby.models.surgery import Surgery
from passerby.models.swin import SwinSettings, SwinTransformer
from passerby.models.vit import VisionTransformer, VitSettings
from passerby.settings import Settings
from passerby.types import Inputs, UnknownCamera


class VitBackbone(Backbone):
    """The vision transformer of TransReID, TransReID-SSL, PersonViT and PASS; see `VitSettings`."""

    summary: ClassVar[str] = "vit: a vision transformer described by model.architecture"
    settings_class: ClassVar[type[Settings]] = VitSettings
    unknown_camera: UnknownCamera = "mean"

    @classmethod
    def names(cls) -> Sequence[str]:
        """Return the one name."""
        return ("vit",)

    @classmethod
    def build_as(
        cls, name: str, size: tuple[int, int], architecture: Settings, *, pretrained: bool
    ) -> VisionTransformer:
        """Build a network for images of one size."""
        return VisionTransformer(require_kind(architecture, VitSettings), size)

    def operate(self, name: str, surgery: Surgery) -> None:
        """Refuse what is for ResNets, and ask for cameras where they have embeddings."""
        super().operate(name, surgery)
        self.uses_cameras = require_kind(self.architecture, VitSettings).cameras

    def add_cameras(self, count: int) -> None:
        """Add an embedding of each camera."""
        self.body.add_side_information(count)

    def count_features(self) -> int:
        """Return the length of the vector, which the jigsaw module and part tokens make longer than a token."""
        return int(self.body.dimension)

    def forward(self, inputs: Inputs) -> tuple[Tensor, Tensor | None]:
        """Map inputs, whose images are normalised, to the map (B, C, h, w) and the vector (B, D)."""
        featuremap, vector = self.body(inputs.images, inputs.cam, inputs.view)
        return featuremap, vector


class ClipVitBackbone(Backbone):
    """The image tower of CLIP as CLIP-ReID uses it; see `ClipVitSettings`."""

    summary: ClassVar[str] = "clip_vit: the image tower of CLIP described by model.architecture"
    settings_class: ClassVar[type[Settings]] = ClipVitSettings
    unknown_camera: UnknownCamera = "mean"

    @classmethod
    def names(cls) -> Sequence[str]:
        """Return the one name."""
        return ("clip_vit",)

    @classmethod
    def build_as(
        cls, name: str, size: tuple[int, int], architecture: Settings, *, pretrained: bool
    ) -> ClipVisionTransformer:
        """Build a network for images of one size."""
        return ClipVisionTransformer(require_kind(architecture, ClipVitSettings), size)

    def operate(self, name: str, surgery: Surgery) -> None:
        """Refuse what is for ResNets, and ask for cameras where they have embeddings."""
        super().operate(name, surgery)
        self.uses_cameras = require_kind(self.architecture, ClipVitSettings).cameras

    def add_cameras(self, count: int) -> None:
        """Add an embedding of each camera."""
        self.body.add_side_information(count)

    def count_features(self) -> int:
        """Return the length of the vector: the class token beside its projection."""
        return int(self.body.dimension)

    def forward(self, inputs: Inputs) -> tuple[Tensor, Tensor | None]:
        """Map inputs, whose images are normalised, to the map (B, C, h, w) and the vector (B, D)."""
        featuremap, vector = self.body(inputs.images, inputs.cam, inputs.view)
        return featuremap, vector


class SwinBackbone(Backbone):
    """The Swin transformer of SOLIDER; see `SwinSettings`."""

    summary: ClassVar[str] = "swin: a Swin transformer described by model.architecture"
    settings_class: ClassVar[type[Settings]] = SwinSettings

    @classmethod
    def names(cls) -> Sequence[str]:
        """Return the one name."""
        return ("swin",)

    @classmethod
    def build_as(cls, name: str, size: tuple[int, int], architecture: Settings, *, pretrained: bool) -> SwinTransformer:
        """Build a network for images of any size."""
        return SwinTransformer(require_kind(architecture, SwinSettings))
