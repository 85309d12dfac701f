"""LUPerson: MoCo starts from unlabelled people, and MGNs that were fine-tuned from them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import ClassVar

from torch import Tensor

from passerby.inputs import InputSettings
from passerby.published.family import Imported, PublishedFamily, PublishedScore
from passerby.published.imagenet import StrideChoices, resnet_start
from passerby.published.mgn import MGN_WITHOUT_INFLUENCE, convert_mgn, is_mgn, stored_input
from passerby.published.resnets import STEM, ibn_kind, is_resnet, resnet_name
from passerby.published.tensors import FileTensors
from passerby.settings import Settings

_QUERY = "encoder_q."
_MEAN, _STD = (0.3525, 0.3106, 0.3140), (0.2660, 0.2522, 0.2505)


class Luperson(PublishedFamily):
    """Files of LUPerson.

    Reference: Fu et al., "Unsupervised Pre-training for Person Re-identification", CVPR 2021.

    """

    summary: ClassVar[str] = "LUPerson: MoCo starts (ResNet-50/101), and MGN fine-tuned from them"
    code_licence: ClassVar[str] = "none stated"
    weights_licence: ClassVar[str] = "none stated; LUPerson itself is for research only"
    sizes: ClassVar[str] = "256x128; MGN 384x128"
    download: ClassVar[str] = "lup_moco_r50.pth, ..., linked in the README of github.com/DengpanFu/LUPerson"
    scores: ClassVar[tuple[PublishedScore, ...]] = (
        PublishedScore("MGN R50", "Market-1501", 91.12, 96.26),
        PublishedScore("MGN R50", "MSMT17", 66.06, 85.08),
        PublishedScore("MGN R50", "DukeMTMC-reID", 82.27, 90.35),
    )
    settings_class: ClassVar[type[Settings]] = StrideChoices
    without_influence: ClassVar[tuple[str, ...]] = (
        r"encoder_k\..*",
        r"encoder_q\.fc\..*",
        r"queue(_ptr)?",
        r"fc\..*",
        *MGN_WITHOUT_INFLUENCE,
    )

    @classmethod
    def recognises(cls, tensors: Mapping[str, Tensor]) -> str | None:
        """Return the reason: MoCo's two encoders, or an MGN with norms on its maps."""
        if f"{_QUERY}{STEM}" in tensors:
            return "it has encoder_q, a MoCo start"
        if is_mgn(tensors) and "heads_extra_bn_b1.weight" in tensors:
            return "it has an MGN with heads_extra_bn"
        return None

    @classmethod
    def accepts(cls, tensors: Mapping[str, Tensor]) -> str | None:
        """Return the reason also for a converted start, which looks like torchvision's ResNet."""
        if is_resnet(tensors) and ibn_kind(tensors) == "none" and "classifier.weight" not in tensors:
            return "it has conv1 and layer1 of a ResNet at the top level"
        return cls.recognises(tensors)

    @classmethod
    def convert(cls, tensors: FileTensors, settings: Settings, *, size: tuple[int, int] | None) -> Imported:
        """Return the MGN, or the query encoder of MoCo without its projection."""
        if is_mgn(tensors):
            return _mgn(tensors, size)
        prefix = _QUERY if f"{_QUERY}{STEM}" in tensors else ""
        body = tensors.take_below(prefix, but=r"fc\..*")
        inputs = InputSettings(size=size or (256, 128), interpolation="bicubic", mean=_MEAN, std=_STD)
        return resnet_start(tensors, body, settings, inputs, name=resnet_name(tensors, prefix))


def _mgn(tensors: FileTensors, size: tuple[int, int] | None) -> Imported:
    inputs = stored_input(
        tensors, InputSettings(size=size or (384, 128), interpolation="bicubic", mean=_MEAN, std=_STD)
    )
    imported = convert_mgn(tensors, inputs, stem_pool="torchvision", pool="gem")
    return replace(imported, idle=frozenset({"last_stride"}))
