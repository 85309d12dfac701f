"""fast-reid: BoT, AGW, SBS and MGN on ResNets, with IBN-a, non-local blocks and GeM."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

from pydantic import Field, JsonValue
from torch import Tensor

from passerby.errors import UserError
from passerby.inputs import InputSettings
from passerby.models.embedder import ModelSettings
from passerby.models.pooling import PoolKind
from passerby.published.family import Imported, PublishedFamily, PublishedScore
from passerby.published.mgn import MGN_WITHOUT_INFLUENCE, convert_mgn, is_mgn, shares_of, stored_input
from passerby.published.resnets import below, ibn_kind, place_non_local, resnet_name, stem_width, width_setting
from passerby.published.tensors import FileTensors
from passerby.settings import Settings


class FastReidChoices(Settings):
    """Settings that fast-reid's files do not hold."""

    pool: Literal["auto", "avg", "gem", "max"] = Field(
        "auto", description="auto: GeM where its power is in the file or non-local blocks are (AGW), else the mean"
    )


class FastReid(PublishedFamily):
    """Files of fast-reid; the published vector is the one after the neck, whatever NECK_FEAT says.

    Reference: He et al., "FastReID: A Pytorch Toolbox for General Instance Re-identification", ACM Multimedia 2023.

    """

    summary: ClassVar[str] = "fast-reid: BoT, AGW, SBS, MGN on ResNet-50/101, with IBN-a, non-local blocks, GeM"
    code_licence: ClassVar[str] = "Apache-2.0"
    weights_licence: ClassVar[str] = "none stated"
    sizes: ClassVar[str] = "256x128; SBS and MGN 384x128"
    download: ClassVar[str] = (
        "market_bot_R50.pth, market_sbs_R50-ibn.pth, ... at github.com/JDAI-CV/fast-reid, releases"
    )
    scores: ClassVar[tuple[PublishedScore, ...]] = (
        PublishedScore("BoT R50", "Market-1501", 86.1, 94.4),
        PublishedScore("AGW R50-ibn", "Market-1501", 88.7, 95.1),
        PublishedScore("SBS R50-ibn", "Market-1501", 89.3, 95.7),
        PublishedScore("SBS R101-ibn", "MSMT17", 63.3, 85.1),
        PublishedScore("MGN R50-ibn", "Market-1501", 89.7, 95.8),
    )
    settings_class: ClassVar[type[Settings]] = FastReidChoices
    without_influence: ClassVar[tuple[str, ...]] = (
        r"heads\.weight",
        r"heads\.classifier\..*",
        *MGN_WITHOUT_INFLUENCE,
    )

    @classmethod
    def recognises(cls, tensors: Mapping[str, Tensor]) -> str | None:
        """Return the reason: a ResNet below `backbone.` and a head with a norm."""
        if is_mgn(tensors) and "heads_extra_bn_b1.weight" not in tensors:
            return "it has the branches of an MGN"
        if "backbone.layer1.0.conv1.weight" in tensors and "heads.bottleneck.0.running_mean" in tensors:
            return "it has backbone.layer1 and heads.bottleneck"
        return None

    @classmethod
    def convert(cls, tensors: FileTensors, settings: Settings, *, size: tuple[int, int] | None) -> Imported:
        """Return the model of a file: last stride 1, fast-reid's stem pooling, neck."""
        assert isinstance(settings, FastReidChoices)
        if is_mgn(tensors):
            return _mgn(tensors, settings, size)
        body = tensors.take_below("backbone.")
        non_local = any(key.startswith("NL_") for key in body)
        learned = "heads.pool_layer.p" in tensors
        if learned and settings.pool not in ("auto", "gem"):
            raise UserError(f"--set pool={settings.pool}: {tensors.source} holds the power of a GeM pooling")
        pool: PoolKind = "gem_learned" if learned else _pool(settings, non_local=non_local)
        architecture: dict[str, JsonValue] = {**width_setting(stem_width(tensors, "backbone.conv1.weight"))}
        model = ModelSettings(
            backbone=resnet_name(tensors, "backbone."),
            last_stride=1,
            ibn=ibn_kind(body),
            non_local="single" if non_local else "none",
            stem_pool="fastreid",
            architecture=architecture,
            pool=pool,
        )
        state = below("neck.", tensors.take_below("heads.bottleneck.0."))
        if learned:
            state["pool.p"] = tensors.take("heads.pool_layer.p")
        state |= below("backbone.body.", place_non_local(body))
        usual = (384, 128) if learned else (256, 128)
        inputs = _input(tensors, size or usual)
        return Imported(model, inputs, state, "after_neck")


def _mgn(tensors: FileTensors, settings: FastReidChoices, size: tuple[int, int] | None) -> Imported:
    inputs = _input(tensors, size or (384, 128))
    pool = _pool(settings, non_local=False)
    return convert_mgn(tensors, inputs, stem_pool="fastreid", pool=pool)


def _input(tensors: FileTensors, size: tuple[int, int]) -> InputSettings:
    mean, std = shares_of((123.675, 116.28, 103.53)), shares_of((58.395, 57.12, 57.375))
    usual = {"size": size, "interpolation": "bicubic", "mean": mean, "std": std}
    return stored_input(tensors, InputSettings.model_validate(usual))


def _pool(settings: FastReidChoices, *, non_local: bool) -> PoolKind:
    if settings.pool == "auto":
        return "gem" if non_local else "avg"
    return settings.pool
