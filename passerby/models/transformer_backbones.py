"""Families of transformer backbones whose dimensions are settings: `vit`, `clip_vit` and `swin`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import timm
from torch import Tensor

from passerby.errors import UserError
from passerby.models.backbone import Backbone, require_kind
from passerby.models.clip_vit import ClipVisionTransformer, ClipVitSettings
from passerby.models.fitting_tokens import begin_with
from passerby.models.surgery import Surgery
from passerby.models.swin import SwinSettings, SwinTransformer
from passerby.models.timm_backbone import TimmBackbone
from passerby.models.vit import VisionTransformer, VitSettings
from passerby.settings import Settings
from passerby.types import Inputs, UnknownCamera

VIT_STARTS = {
    (768, 12, 12): "vit_base_patch16_224.orig_in21k_ft_in1k",
    (384, 12, 6): "deit_small_patch16_224.fb_in1k",
}
"""Weights of timm that TransReID begins with, by width, depth and heads."""
CLIP_STARTS = {(768, 12, 12): "vit_base_patch16_clip_quickgelu_224.openai"}
"""Weights of timm that CLIP-ReID begins with, by width, depth and heads."""


class TokenBackbone(Backbone):
    """Base of the families whose networks pool their own tokens and may have embeddings of cameras."""

    network_class: ClassVar[type[VisionTransformer] | type[ClipVisionTransformer]]
    starts: ClassVar[Mapping[tuple[int, int, int], str]]
    """Weights of timm by width, depth and heads."""
    unknown_camera: UnknownCamera = "mean"

    @classmethod
    def build_as(
        cls, name: str, size: tuple[int, int], architecture: Settings, *, pretrained: bool
    ) -> VisionTransformer | ClipVisionTransformer:
        """Build a network for images of one size."""
        network = cls.network_class(require_kind(architecture, cls.settings_class), size)  # type: ignore[arg-type]
        if pretrained:
            _begin(network, name, cls.starts)
        return network

    @classmethod
    def require_pretrained(cls, name: str) -> None:
        """Leave the question to `build_as`, which has the dimensions."""

    def operate(self, name: str, surgery: Surgery) -> None:
        """Refuse what is for ResNets, and ask for cameras where they have embeddings."""
        super().operate(name, surgery)
        self.uses_cameras = self.body.settings.cameras

    def add_cameras(self, count: int) -> None:
        """Add an embedding of each camera."""
        self.body.add_side_information(count)

    def count_features(self) -> int:
        """Return the length of the vector, which may be longer than a token."""
        return int(self.body.dimension)

    def forward(self, inputs: Inputs) -> tuple[Tensor, Tensor | None]:
        """Map inputs, whose images are normalised, to the map (B, C, h, w) and the vector (B, D)."""
        featuremap, vector = self.body(inputs.images, inputs.cam, inputs.view)
        return featuremap, vector


class VitBackbone(TokenBackbone):
    """The vision transformer of TransReID, TransReID-SSL, PersonViT and PASS; see `VitSettings`."""

    summary: ClassVar[str] = "vit: a vision transformer described by model.architecture"
    settings_class: ClassVar[type[Settings]] = VitSettings
    network_class: ClassVar[type[VisionTransformer]] = VisionTransformer
    starts: ClassVar[Mapping[tuple[int, int, int], str]] = VIT_STARTS

    @classmethod
    def names(cls) -> Sequence[str]:
        """Return the one name."""
        return ("vit",)


class ClipVitBackbone(TokenBackbone):
    """The image tower of CLIP as CLIP-ReID uses it; see `ClipVitSettings`."""

    summary: ClassVar[str] = "clip_vit: the image tower of CLIP described by model.architecture"
    settings_class: ClassVar[type[Settings]] = ClipVitSettings
    network_class: ClassVar[type[ClipVisionTransformer]] = ClipVisionTransformer
    starts: ClassVar[Mapping[tuple[int, int, int], str]] = CLIP_STARTS

    @classmethod
    def names(cls) -> Sequence[str]:
        """Return the one name."""
        return ("clip_vit",)

    def count_projected(self) -> int:
        """Return the length of the projected class token."""
        return int(self.body.settings.projection)

    def forward_all(self, inputs: Inputs) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """Return what `forward` does, and the class token (B, C) after the last block but one."""
        featuremap, vector, earlier = self.body.forward_all(inputs.images, inputs.cam, inputs.view)
        return featuremap, vector, earlier


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


def _begin(
    network: VisionTransformer | ClipVisionTransformer, name: str, starts: Mapping[tuple[int, int, int], str]
) -> None:
    """Load weights of timm into a network, or raise `UserError` where there are none of its kind and dimensions."""
    settings = network.settings
    start = starts.get((settings.width, settings.depth, settings.heads)) if settings.patch == 16 else None
    if start is None or (isinstance(settings, VitSettings) and (settings.part_tokens or settings.stem == "ics")):
        known = "; ".join(f"width {w}, depth {d}, heads {h}" for w, d, h in starts)
        raise UserError(
            f"this {name!r} comes without pretrained weights, which there are for patches of 16 pixels and {known}; "
            "set model.weights to a file or to 'none'"
        )
    TimmBackbone.require_pretrained(start)
    classes = 0 if isinstance(settings, VitSettings) else settings.projection  # CLIP's projection is timm's head
    begin_with(network, timm.create_model(start, pretrained=True, num_classes=classes).state_dict())
