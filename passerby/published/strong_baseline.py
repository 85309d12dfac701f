"""reid-strong-baseline: ResNets with a batch-norm neck, IBN-Net and Caffe's SE-ResNets."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import ClassVar

from pydantic import JsonValue
from torch import Tensor

from passerby.inputs import InputSettings
from passerby.models.embedder import ModelSettings
from passerby.published.family import Imported, PublishedFamily, PublishedScore
from passerby.published.resnets import below, ibn_kind, resnet_name, stem_width, width_setting
from passerby.published.tensors import FileTensors
from passerby.settings import Settings


class StrongBaseline(PublishedFamily):
    """Files of reid-strong-baseline; the published vector is the one after the neck.

    Reference: Luo et al., "Bag of Tricks and a Strong Baseline for Deep Person Re-identification", CVPR Workshops 2019.

    """

    summary: ClassVar[str] = "reid-strong-baseline: ResNet-50/101, IBN-a, SE-ResNet-50"
    code_licence: ClassVar[str] = "MIT"
    weights_licence: ClassVar[str] = "none stated"
    sizes: ClassVar[str] = "256x128"
    download: ClassVar[str] = (
        "resnet50_model_120.pth, linked in the README of github.com/michuanhaohao/reid-strong-baseline"
    )
    scores: ClassVar[tuple[PublishedScore, ...]] = (
        PublishedScore("ResNet-50", "Market-1501", 85.9, 94.5),
        PublishedScore("ResNet-50", "DukeMTMC-reID", 76.4, 86.4),
        PublishedScore("SE-ResNet-50", "Market-1501", 86.3, 94.4),
    )
    without_influence: ClassVar[tuple[str, ...]] = (r"classifier\..*", r"base\.fc\..*")

    @classmethod
    def recognises(cls, tensors: Mapping[str, Tensor]) -> str | None:
        """Return the reason: a ResNet below `base.` and one neck."""
        stem = "base.layer0.conv1.weight" if "base.layer0.conv1.weight" in tensors else "base.conv1.weight"
        if stem in tensors and "base.layer1.0.conv1.weight" in tensors and "bottleneck.running_mean" in tensors:
            return f"it has {stem}, base.layer1 and bottleneck"
        return None

    @classmethod
    def convert(cls, tensors: FileTensors, settings: Settings, *, size: tuple[int, int] | None) -> Imported:
        """Return the model of a file: last stride 1, average pooling, neck."""
        body = tensors.take_below("base.", but=r"fc\..*")
        caffe = "layer0.conv1.weight" in body
        ibn = ibn_kind(body)
        architecture: dict[str, JsonValue] = {
            **width_setting(stem_width(tensors, "base.layer0.conv1.weight" if caffe else "base.conv1.weight"))
        }
        if caffe:
            architecture |= {"stride_in": "conv1", "gates": "conv"}
            names = {r"layer0\.": "", r"\.se_module\.": ".se."}
            for old, new in names.items():
                body = {re.sub(old, new, key): value for key, value in body.items()}
        elif ibn == "none":
            architecture["stem_activation"] = "none"
        model = ModelSettings(
            backbone=resnet_name(tensors, "base."),
            last_stride=1,
            ibn=ibn,
            stem_pool="fastreid" if caffe else "torchvision",
            architecture=architecture,
        )
        state = below("backbone.body.", body) | below("neck.", tensors.take_below("bottleneck."))
        return Imported(model, InputSettings(size=size or (256, 128)), state, "after_neck")
