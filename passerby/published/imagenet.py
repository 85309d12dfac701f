"""Starts from ImageNet: ResNets of torchvision and of IBN-Net, and any network of timm."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar, Literal

import timm
from pydantic import Field, JsonValue
from torch import Tensor

from passerby.errors import UserError
from passerby.inputs import InputSettings
from passerby.models.backbones import make_backbone
from passerby.models.embedder import ModelSettings
from passerby.models.fitting import fit_positions
from passerby.published.family import Imported, PublishedFamily
from passerby.published.resnets import STEM, below, ibn_kind, is_resnet, resnet_name, stem_width, width_setting
from passerby.published.tensors import FileTensors
from passerby.settings import Settings

START = "these weights are a start: they were not trained to tell people apart"
_UNNAMED = (
    "without a classifier, starts of other projects look the same: LUPerson's, which have a mean and std of their own, "
    "need --as luperson"
)
_CLASSIFIER = r"(fc|head|head\.fc|head_dist|classifier|last_linear)\.(weight|bias)"


class StrideChoices(Settings):
    """Settings that a ResNet's file does not hold."""

    last_stride: Literal[1, 2] = Field(2, description="of the last stage; re-identification often trains with 1")


def resnet_start(
    tensors: FileTensors, body: Mapping[str, Tensor], settings: Settings, inputs: InputSettings, *, name: str
) -> Imported:
    """Return a ResNet that pools the mean of its last map and has no neck.

    Args:
        tensors: the file, for the width of its stem.
        body: the tensors of the network, without its classifier, by torchvision's names.
        settings: `StrideChoices`.
        inputs: what its images look like.
        name: timm's name of the network.

    """
    assert isinstance(settings, StrideChoices)
    stem = next(key for key, value in tensors.items() if value is body[STEM])
    architecture: dict[str, JsonValue] = {**width_setting(stem_width(tensors, stem))}
    model = ModelSettings(
        backbone=name,
        last_stride=settings.last_stride,
        ibn=ibn_kind(body),
        neck="none",
        architecture=architecture,
    )
    return Imported(model, inputs, below("backbone.body.", body), "before_neck", (START,))


class Torchvision(PublishedFamily):
    """ResNets of torchvision, ImageNet."""

    summary: ClassVar[str] = "torchvision: ResNet-18 to 152 (ImageNet starts)"
    code_licence: ClassVar[str] = "BSD-3-Clause"
    weights_licence: ClassVar[str] = "none stated; trained on ImageNet, whose terms are for research"
    sizes: ClassVar[str] = "any"
    download: ClassVar[str] = "resnet50-0676ba61.pth, ... at download.pytorch.org/models"
    settings_class: ClassVar[type[Settings]] = StrideChoices
    without_influence: ClassVar[tuple[str, ...]] = (r"fc\.(weight|bias)",)

    @classmethod
    def recognises(cls, tensors: Mapping[str, Tensor]) -> str | None:
        """Return the reason: a plain ResNet at the top, without another family's classifier."""
        if is_resnet(tensors) and ibn_kind(tensors) == "none" and "classifier.weight" not in tensors:
            return "it has conv1 and layer1 of a ResNet at the top level"
        return None

    @classmethod
    def convert(cls, tensors: FileTensors, settings: Settings, *, size: tuple[int, int] | None) -> Imported:
        """Return the network without its classifier."""
        body = tensors.take_below("", but=r"fc\..*")
        inputs = InputSettings(size=size or (256, 128))
        start = resnet_start(tensors, body, settings, inputs, name=resnet_name(tensors))
        return start if "fc.weight" in tensors else replace(start, notes=(*start.notes, _UNNAMED))


class IbnNet(PublishedFamily):
    """ResNets of IBN-Net, ImageNet.

    Reference: Pan et al., "Two at Once: Enhancing Learning and Generalization Capacities via IBN-Net", ECCV 2018.

    """

    summary: ClassVar[str] = "IBN-Net: ResNet-18 to 101 with IBN-a or IBN-b (ImageNet starts)"
    code_licence: ClassVar[str] = "MIT"
    weights_licence: ClassVar[str] = "none stated; trained on ImageNet, whose terms are for research"
    sizes: ClassVar[str] = "any"
    download: ClassVar[str] = (
        "resnet50_ibn_a-d9d0bb7b.pth, resnet50_ibn_b-9ca61e85.pth: releases of github.com/XingangPan/IBN-Net"
    )
    settings_class: ClassVar[type[Settings]] = StrideChoices
    without_influence: ClassVar[tuple[str, ...]] = (r"fc\.(weight|bias)",)

    @classmethod
    def recognises(cls, tensors: Mapping[str, Tensor]) -> str | None:
        """Return the reason: a ResNet at the top whose blocks have instance norms."""
        kind = ibn_kind(tensors)
        if is_resnet(tensors) and kind != "none" and "classifier.weight" not in tensors:
            return f"it has layer1 with the instance norms of IBN-{kind}"
        return None

    @classmethod
    def convert(cls, tensors: FileTensors, settings: Settings, *, size: tuple[int, int] | None) -> Imported:
        """Return the network without its classifier."""
        body = tensors.take_below("", but=r"fc\..*")
        inputs = InputSettings(size=size or (256, 128))
        return resnet_start(tensors, body, settings, inputs, name=resnet_name(tensors))


class TimmChoices(Settings):
    """Settings that timm's files do not hold."""

    model: str = Field("", description="timm's name of the network, such as resnet50.a1_in1k")


class TimmFamily(PublishedFamily):
    """Any network of timm, with its own normalisation."""

    summary: ClassVar[str] = "timm: any network (ImageNet starts); --as timm --set model=NAME"
    code_licence: ClassVar[str] = "Apache-2.0"
    weights_licence: ClassVar[str] = "on each model's page"
    sizes: ClassVar[str] = "any, or as the network says"
    download: ClassVar[str] = "model.safetensors at huggingface.co/timm"
    settings_class: ClassVar[type[Settings]] = TimmChoices
    without_influence: ClassVar[tuple[str, ...]] = (_CLASSIFIER,)

    @classmethod
    def recognises(cls, tensors: Mapping[str, Tensor]) -> str | None:
        """Return None: no name of a tensor is timm's alone."""
        return None

    @classmethod
    def accepts(cls, tensors: Mapping[str, Tensor]) -> str | None:
        """Return a reason for any file that is not empty."""
        return "--set model names the network" if tensors else None

    @classmethod
    def convert(cls, tensors: FileTensors, settings: Settings, *, size: tuple[int, int] | None) -> Imported:
        """Return the network without its classifier; tables of positions are resampled as timm does it."""
        assert isinstance(settings, TimmChoices)
        name = settings.model
        if not name:
            raise UserError("--as timm: name the network with --set model=NAME, such as --set model=resnet50.a1_in1k")
        described: Any = timm.models.get_pretrained_cfg(name) if timm.is_model(name.split(".")[0]) else None
        inputs = _timm_input(described, size)
        body = tensors.take_below("", but=_CLASSIFIER)
        fit_positions(body, make_backbone(name, inputs.size).body)
        model = ModelSettings(backbone=name, neck="none")
        return Imported(model, inputs, below("backbone.body.", body), "before_neck", (START,))


def _timm_input(described: Any, size: tuple[int, int] | None) -> InputSettings:
    if described is None:
        return InputSettings(size=size or (256, 128))
    fixed = described.fixed_input_size and not size
    return InputSettings(
        size=tuple(described.input_size[1:]) if fixed else size or (256, 128),
        interpolation="bilinear" if described.interpolation == "bilinear" else "bicubic",
        mean=described.mean,
        std=described.std,
    )
