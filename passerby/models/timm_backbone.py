"""Backbones of timm, with its pretrained weights."""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence
from typing import Any, ClassVar

import timm
from torch import Tensor

from passerby.errors import UserError
from passerby.models.backbone import Backbone, require_kind
from passerby.models.resnet import UNCHANGED_RESNET, ResnetArchitecture, build_resnet, feature_layer
from passerby.models.surgery import UNCHANGED, Surgery
from passerby.settings import Settings
from passerby.types import Inputs

_HUB = ("huggingface.co", 443)


class TimmBackbone(Backbone):
    """Any timm model, with or without a weights tag (`resnet50`, `resnet50.tv_in1k`); see `Backbone`."""

    summary: ClassVar[str] = "timm: any that `timm.list_models()` names"
    settings_class: ClassVar[type[Settings]] = ResnetArchitecture

    def __init__(
        self,
        name: str,
        size: tuple[int, int],
        *,
        surgery: Surgery = UNCHANGED,
        architecture: Settings | None = None,
        pretrained: bool = False,
        count_cameras: int = 0,
    ) -> None:
        super().__init__(
            name,
            size,
            surgery=surgery,
            architecture=architecture,
            pretrained=pretrained,
            count_cameras=count_cameras,
        )
        length = require_kind(self.architecture, ResnetArchitecture).fc
        if length is not None:
            self.body.fc = feature_layer(self.channels, length)

    @classmethod
    def names(cls) -> Sequence[str]:
        """Return the names of all timm models, without tags."""
        names_of_timm: list[str] = timm.list_models()
        return names_of_timm

    @classmethod
    def knows(cls, name: str) -> bool:
        """Whether timm has a model of that name, whatever its tag."""
        return bool(timm.is_model(name.split(".")[0]))

    @classmethod
    def build(cls, name: str, size: tuple[int, int], *, pretrained: bool) -> Any:
        """Build a model; those with fixed position tables are built for the size."""
        try:
            return timm.create_model(name, pretrained=pretrained, num_classes=0, img_size=size)
        except TypeError:  # most convolutional networks take any size and know no img_size
            return timm.create_model(name, pretrained=pretrained, num_classes=0)
        except RuntimeError as error:
            raise UserError(f"model.backbone: timm cannot build {name!r}: {error}") from error
        except AssertionError as error:
            raise UserError(f"input.size {size} does not suit {name!r}: {error}") from error

    @classmethod
    def build_as(cls, name: str, size: tuple[int, int], architecture: Settings, *, pretrained: bool) -> Any:
        """Build a model; settings other than the defaults are for ResNets, and take no weights of timm."""
        settings = require_kind(architecture, ResnetArchitecture)
        if settings == UNCHANGED_RESNET:
            return cls.build(name, size, pretrained=pretrained)
        if pretrained:
            raise UserError(f"model.architecture: timm's weights of {name!r} are for its own network; leave it out")
        return build_resnet(name, settings)

    def count_features(self) -> int:
        """Return the length of the layer after the pooling, or of the pooled vector."""
        length = require_kind(self.architecture, ResnetArchitecture).fc
        return self.channels if length is None else length

    def head(self, pooled: Tensor) -> Tensor:
        """Map the pooled (B, C) to the feature (B, D)."""
        if require_kind(self.architecture, ResnetArchitecture).fc is None:
            return pooled
        feature: Tensor = self.body.fc(pooled).float()
        return feature

    @classmethod
    def require_pretrained(cls, name: str) -> None:
        """Raise `UserError` unless timm has weights of the model that can be fetched or were fetched before."""
        _require_reachable(name)

    def forward(self, inputs: Inputs) -> tuple[Tensor, Tensor | None]:
        """Map inputs, whose images are normalised, to the map (B, C, h, w) and, for token models, the pooled (B, C)."""
        features: Any = self.body.forward_features(inputs.images)
        if features.ndim == 4:
            channels_first = features.shape[1] == self.channels
            return (features if channels_first else features.permute(0, 3, 1, 2).contiguous()), None
        pooled = self.body.forward_head(features, pre_logits=True)
        tokens = features[:, getattr(self.body, "num_prefix_tokens", 0) :]  # (B, h*w, C)
        height, width = self.body.patch_embed.grid_size
        return tokens.transpose(1, 2).unflatten(2, (height, width)), pooled


def _require_reachable(name: str) -> None:
    """Raise an error at once if weights cannot be downloaded, before timm's retries and traceback."""
    config = timm.models.get_pretrained_cfg(name)
    if config is None or not config.has_weights:
        raise UserError(f"timm has no pretrained weights for {name!r}; set model.weights to a file or to 'none'")
    if not config.hf_hub_id or _cached(config.hf_hub_id):
        return
    if os.environ.get("HF_HUB_OFFLINE") != "1":
        try:
            socket.create_connection(_HUB, timeout=3).close()
            return
        except OSError:
            pass
    raise UserError(
        f"the pretrained weights of {name!r} are not on this machine and {_HUB[0]} cannot be reached; fetch "
        f"https://{_HUB[0]}/{config.hf_hub_id}/resolve/main/model.safetensors elsewhere and set model.weights to it"
    )


def _cached(hub_id: str) -> bool:
    from huggingface_hub import try_to_load_from_cache

    files = ("model.safetensors", "pytorch_model.bin")
    return any(isinstance(try_to_load_from_cache(hub_id, file), str) for file in files)
