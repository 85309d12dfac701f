"""Fit of the tensors of a file to a network of tokens: image towers, positions, jigsaw branches, cameras."""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor, nn

from passerby.models.clip_names import is_of_transformers, openai_names
from passerby.models.clip_resnet import ClipResnet
from passerby.models.clip_vit import ClipVisionTransformer
from passerby.models.positions import fit_positions_of_tokens
from passerby.models.vit import VisionTransformer

SIDE_INFORMATION = ("sie_embed", "cv_embed")
"""Embeddings of cameras and viewpoints, which are those of other data and begin anew."""

_TOWERS = ("visual.", "image_encoder.")
_TIMM_NAMES = (
    (r"^patch_embed\.proj\.", "conv1."),
    (r"^norm_pre\.", "ln_pre."),
    (r"^norm\.", "ln_post."),
    (r"^blocks\.", "transformer.resblocks."),
    (r"\.norm(\d)\.", r".ln_\1."),
    (r"\.attn\.qkv\.", ".attn.in_proj_"),
    (r"\.attn\.proj\.", ".attn.out_proj."),
    (r"\.mlp\.fc1\.", ".mlp.c_fc."),
    (r"\.mlp\.fc2\.", ".mlp.c_proj."),
)
"""Names of timm and those of CLIP, as regular expressions and their replacements."""


def fit_tokens(tensors: Mapping[str, Tensor], body: nn.Module) -> dict[str, Tensor]:
    """Give the tensors of a file the names that they have in a vision transformer; others come back as they are.

    Of a CLIP the image tower is taken. The jigsaw module begins with two copies of the last block and the last norm.
    Embeddings of cameras are left out where the network has its own.

    Args:
        tensors: the tensors of a file by name.
        body: the network.

    """
    fitted = dict(tensors)
    if isinstance(body, ClipResnet):
        return _image_tower(fitted)
    if isinstance(body, ClipVisionTransformer):
        fitted = _tower_of_timm(fitted) if "norm_pre.weight" in fitted else _image_tower(fitted)
    if isinstance(body, VisionTransformer) and body.order is not None:
        last = f"blocks.{body.settings.depth - 1}."
        fitted = _set_aside(fitted, last) if "b1.1.weight" in fitted else _begin_branches(fitted, last)
    present = [name for name in SIDE_INFORMATION if hasattr(body, name)]
    return {key: value for key, value in fitted.items() if key.partition(".")[0] not in present}


def begin_with(body: VisionTransformer | ClipVisionTransformer, tensors: Mapping[str, Tensor]) -> None:
    """Load the weights of a published network into one that has no embeddings of cameras yet.

    Args:
        body: the network.
        tensors: of a network of timm, by its names.

    """
    fitted = fit_tokens(tensors, body)
    fit_positions_of(fitted, body)
    missing, _ = body.load_state_dict(fitted, strict=False)
    assert all(key.startswith("gem.") for key in missing), missing


def fit_positions_of(
    tensors: dict[str, Tensor], body: VisionTransformer | ClipVisionTransformer | ClipResnet
) -> tuple[str, ...]:
    """Resize the table of positions of a file to the grid of a network, in place of the old one.

    Returns:
        The name of the table, if it had to be resized.

    """
    names = {ClipVisionTransformer: "positional_embedding", ClipResnet: "attnpool.positional_embedding"}
    name = names.get(type(body), "pos_embed")
    if name not in tensors:
        return ()
    prefix = 1 if isinstance(body, ClipResnet) else body.first_rows
    tensors[name], resized = fit_positions_of_tokens(tensors[name], body.get_parameter(name), body.grid, prefix=prefix)
    return (name,) if resized else ()


def _image_tower(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors of the image tower by their names in it, and those of the text tower under `text.`."""
    tensors = openai_names(tensors) if is_of_transformers(tensors) else tensors
    prefix = next((prefix for prefix in _TOWERS if any(key.startswith(prefix) for key in tensors)), None)
    if prefix is None:
        return tensors
    return {
        key.removeprefix(prefix) if key.startswith(prefix) else f"text.{key}": value for key, value in tensors.items()
    }


def _tower_of_timm(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors of an image tower as timm names them by the names of CLIP."""
    fitted: dict[str, Tensor] = {}
    for key, value in tensors.items():
        match key:
            case "cls_token":
                fitted["class_embedding"] = value[0, 0]
            case "pos_embed":
                fitted["positional_embedding"] = value[0]
            case "head.weight":
                fitted["proj"] = value.T
            case "head.bias" if bool(value.any()):
                fitted["text.head.bias"] = value  # none in CLIP, where timm writes zeros
            case "head.bias":
                continue
            case _:
                for old, new in _TIMM_NAMES:
                    key = re.sub(old, new, key)
                fitted[key] = value
    return fitted


def _set_aside(tensors: dict[str, Tensor], last: str) -> dict[str, Tensor]:
    """Return tensors whose last block and last norm, replaced by its branches, stand under `replaced.`."""
    return {f"replaced.{key}" if key.startswith((last, "norm.")) else key: value for key, value in tensors.items()}


def _begin_branches(tensors: dict[str, Tensor], last: str) -> dict[str, Tensor]:
    """Return tensors whose last block and last norm are those of both branches of the jigsaw module."""
    fitted: dict[str, Tensor] = {}
    for key, value in tensors.items():
        places = {last: "0.", "norm.": "1."}
        start = next((start for start in places if key.startswith(start)), None)
        if start is None:
            fitted[key] = value
        else:
            fitted |= {f"{branch}.{places[start]}{key.removeprefix(start)}": value for branch in ("b1", "b2")}
    return fitted
