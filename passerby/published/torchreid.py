"""torchreid (deep-person-reid): OSNets of every width, with instance norms or none, and ResNet-50."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

from pydantic import Field, JsonValue
from torch import Tensor

from passerby.inputs import InputSettings
from passerby.models.embedder import ModelSettings
from passerby.models.osnet import OSNETS
from passerby.published.family import Imported, PublishedFamily, PublishedScore
from passerby.published.resnets import STEM, below, ibn_kind, is_resnet, resnet_name, stem_width, width_setting
from passerby.published.tensors import FileTensors
from passerby.settings import Settings

_PLAIN, _SEARCHED = "conv2.0.conv2a.conv1.weight", "conv2.0.conv2.0.layers.0.conv1.weight"

_EUCLIDEAN = "tested by euclidean distance of plain vectors, as published; --set distance=cosine tests by the angle"


class TorchreidChoices(Settings):
    """Settings that torchreid's files do not hold."""

    last_stride: Literal["auto", 1, 2] = Field(
        "auto", description="of a ResNet's last stage; auto: 1 with a layer fc (resnet50_fc512), else 2 (resnet50)"
    )
    distance: Literal["auto", "cosine", "euclidean"] = Field(
        "auto", description="of tests; auto: as in the published tables, cosine for OSNet-AIN, else euclidean"
    )


class Torchreid(PublishedFamily):
    """Files of torchreid; the published vector is the network's output, after the layer `fc` where there is one.

    Reference: Zhou and Xiang, "Torchreid: A Library for Deep Learning Person Re-Identification in Pytorch", 2019.

    """

    summary: ClassVar[str] = "torchreid: OSNet (x1.0 to x0.25, IBN, AIN), ResNet-50 (plain, fc512, IBN-a)"
    code_licence: ClassVar[str] = "MIT"
    weights_licence: ClassVar[str] = "none stated"
    sizes: ClassVar[str] = "256x128"
    download: ClassVar[str] = "osnet_*.pth, linked in the model zoo of github.com/KaiyangZhou/deep-person-reid"
    scores: ClassVar[tuple[PublishedScore, ...]] = (
        PublishedScore("osnet_x1_0", "Market-1501", 82.6, 94.2),
        PublishedScore("osnet_x0_25", "Market-1501", 75.0, 91.2),
        PublishedScore("osnet_x1_0", "MSMT17", 43.8, 74.9),
        PublishedScore("osnet_ain_x1_0 trained on all of MSMT17", "Market-1501", 43.3, 70.1),
        PublishedScore("resnet50_fc512", "Market-1501", 75.3, 90.8),
    )
    settings_class: ClassVar[type[Settings]] = TorchreidChoices
    without_influence: ClassVar[tuple[str, ...]] = (r"classifier\..*",)

    @classmethod
    def recognises(cls, tensors: Mapping[str, Tensor]) -> str | None:
        """Return the reason: the streams of an OSNet, or a ResNet with `classifier`."""
        for key in (_PLAIN, _SEARCHED):
            if key in tensors:
                return f"it has {key}, a stream of an OSNet"
        if is_resnet(tensors) and "classifier.weight" in tensors:
            return "it has layer1 and classifier"
        return None

    @classmethod
    def convert(cls, tensors: FileTensors, settings: Settings, *, size: tuple[int, int] | None) -> Imported:
        """Return the model of a file, without a neck."""
        assert isinstance(settings, TorchreidChoices)
        is_osnet = _PLAIN in tensors or _SEARCHED in tensors
        body = tensors.take_below("", but=r"classifier\..*")
        usual: Literal["cosine", "euclidean"] = "cosine" if _SEARCHED in tensors else "euclidean"
        distance = usual if settings.distance == "auto" else settings.distance
        model = _osnet(tensors) if is_osnet else _resnet(tensors, body, settings)
        return Imported(
            model,
            InputSettings(size=size or (256, 128)),
            below("backbone.body.", body),
            "before_neck",
            notes=(_EUCLIDEAN,) if distance == "euclidean" else (),
            distance=distance,
            idle=frozenset({"last_stride"} if is_osnet else ()),
        )


def _osnet(tensors: FileTensors) -> ModelSettings:
    width = stem_width(tensors, "conv1.conv.weight") / 64
    kind = "ain" if _SEARCHED in tensors else "ibn" if "conv2.0.IN.weight" in tensors else ""
    first = f"osnet_{kind}_" if kind else "osnet_"
    names = {design.width: name for name, design in OSNETS.items() if name.startswith(f"{first}x")}
    architecture: dict[str, JsonValue] = {} if width in names else {"width": width}
    return ModelSettings(backbone=names.get(width, f"{first}x1_0"), neck="none", architecture=architecture)


def _resnet(tensors: FileTensors, body: Mapping[str, Tensor], settings: TorchreidChoices) -> ModelSettings:
    architecture: dict[str, JsonValue] = {**width_setting(stem_width(tensors, STEM))}
    has_layer = "fc.0.weight" in tensors
    if has_layer:
        architecture["fc"] = int(tensors["fc.0.weight"].shape[0])
    usual: Literal[1, 2] = 1 if has_layer else 2
    return ModelSettings(
        backbone=resnet_name(tensors),
        last_stride=usual if settings.last_stride == "auto" else settings.last_stride,
        ibn=ibn_kind(body),
        neck="none",
        architecture=architecture,
    )
