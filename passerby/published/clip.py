"""CLIP with a vision transformer, as OpenAI and open_clip publish it: both towers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from pydantic import JsonValue
from torch import Tensor

from passerby.inputs import InputSettings
from passerby.models.clip_text_file import text_tensors, text_tower_of
from passerby.models.embedder import ModelSettings
from passerby.published.family import Imported, PublishedFamily
from passerby.published.resnets import below
from passerby.published.tensors import FileTensors
from passerby.published.vits import VitChoices, count_heads, fit_table, patch_layout
from passerby.settings import Settings

_TOWER = "visual."
_MEAN, _STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


class PublishedClip(PublishedFamily):
    """Files of CLIP; the vector is the class token beside its projection, which texts are compared with.

    Reference: Radford et al., "Learning Transferable Visual Models From Natural Language Supervision", ICML 2021.

    """

    summary: ClassVar[str] = "CLIP: ViT-B/16 and its kind with QuickGELU, image and text tower"
    code_licence: ClassVar[str] = "MIT"
    weights_licence: ClassVar[str] = "none stated"
    sizes: ClassVar[str] = "224x224"
    download: ClassVar[str] = "state_dict of ViT-B-16.pt, linked in github.com/openai/CLIP; open_clip_model.safetensors"
    settings_class: ClassVar[type[Settings]] = VitChoices
    without_influence: ClassVar[tuple[str, ...]] = ("logit_scale", "input_resolution", "context_length", "vocab_size")
    plain_start: ClassVar[bool] = True

    @classmethod
    def recognises(cls, tensors: Mapping[str, Tensor]) -> str | None:
        """Return the reason: the blocks of an image tower, and a text tower."""
        blocks = f"{_TOWER}transformer.resblocks.0.ln_1.weight" in tensors
        return "it has visual.transformer.resblocks and text_projection" if blocks and text_tensors(tensors) else None

    @classmethod
    def convert(cls, tensors: FileTensors, settings: Settings, *, size: tuple[int, int] | None) -> Imported:
        """Return both towers of a file."""
        assert isinstance(settings, VitChoices)
        patch = int(tensors.require(f"{_TOWER}conv1.weight").shape[-1])
        table = tensors.require(f"{_TOWER}positional_embedding")
        width, stride = int(table.shape[1]), settings.stride or patch
        layout = patch_layout(len(table) - 1, patch=patch, stride=stride, size=size, source=tensors.source)
        architecture: dict[str, JsonValue] = {
            "width": width,
            "depth": tensors.count_numbers(r"visual[.]transformer[.]resblocks[.](\d+)[.]"),
            "heads": count_heads(width, settings.heads, source=tensors.source),
            "projection": int(tensors.require(f"{_TOWER}proj").shape[1]),
            "patch": patch,
            "stride": layout.stride,
        }
        state = {key: value.float() for key, value in tensors.take_below(_TOWER).items()}
        state["positional_embedding"] = fit_table(state["positional_embedding"], layout, prefix=1)
        tower = text_tower_of(tensors, source=tensors.source)
        names = tower.state_dict().keys()
        for key in [key for key in tensors if key.removeprefix("text.") in names]:
            tensors.take(key)
        return Imported(
            ModelSettings(backbone="clip_vit", architecture=architecture, neck="none"),
            InputSettings(size=layout.size, interpolation="bicubic", mean=_MEAN, std=_STD),
            below("backbone.body.", state),
            "before_neck",
            notes=layout.notes,
            text_tower=tower,
        )
