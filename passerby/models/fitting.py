"""Fit of the tensors of a file to a network: under their own names, or after conversions that need no guess."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from timm.layers.pos_embed import resample_abs_pos_embed
from torch import Tensor, nn

from passerby.models.blocks import NonLocal
from passerby.models.clip_resnet import ClipResnet
from passerby.models.clip_vit import ClipVisionTransformer
from passerby.models.fitting_tokens import SIDE_INFORMATION, fit_positions_of, fit_tokens
from passerby.models.vit import VisionTransformer


def fit_positions(tensors: dict[str, Tensor], body: Any) -> tuple[str, ...]:
    """Resample the table of positions of a square image, as published, to the grid of `body`, in place of the old one.

    Returns:
        The name of the table, if it had to be resampled.

    """
    if isinstance(body, VisionTransformer | ClipVisionTransformer | ClipResnet):
        return fit_positions_of(tensors, body)
    table, present = tensors.get("pos_embed"), getattr(body, "pos_embed", None)
    if table is None or not isinstance(present, Tensor) or table.ndim != 3 or table.shape == present.shape:
        return ()
    count_prefix = 0 if getattr(body, "no_embed_class", False) else body.num_prefix_tokens
    if (
        table.shape[2] != present.shape[2]
        or math.isqrt(table.shape[1] - count_prefix) ** 2 + count_prefix != table.shape[1]
    ):
        return ()  # the shapes are told
    grid = list(body.patch_embed.grid_size)
    tensors["pos_embed"] = resample_abs_pos_embed(table, new_size=grid, num_prefix_tokens=count_prefix)
    return ("pos_embed",)


def fit_plain(tensors: Mapping[str, Tensor], body: nn.Module) -> dict[str, Tensor]:
    """Give the tensors of a file the names and shapes that they have in a network with blocks.

    From a file without split norms, these take their batch-norm half. fast-reid keeps all non-local blocks of a stage
    together (`NL_2.0`); here each belongs to the block that it stands behind.

    Args:
        tensors: the tensors of a file by name.
        body: the network after the surgery.

    """
    renamed = _non_local_names(body)
    tensors = fit_tokens(tensors, body)
    fitted = {
        next((k.replace(old, new, 1) for old, new in renamed if k.startswith(old)), k): v for k, v in tensors.items()
    }
    state = body.state_dict()
    for key in (k for k in state if ".BN." in k):
        plain = key.replace(".BN.", ".")
        if key not in tensors and plain in tensors:
            value = fitted.pop(plain)
            fitted[key] = value[len(value) - len(state[key]) :] if value.ndim else value
    return fitted


def _non_local_names(body: nn.Module) -> list[tuple[str, str]]:
    """Return fast-reid's name and ours for each non-local block."""
    blocks = [name for name, module in body.named_modules() if isinstance(module, NonLocal)]
    names = []
    for stage in range(1, 5):
        blocks_of_stage = [name for name in blocks if name.startswith(f"layer{stage}.")]
        names += [(f"NL_{stage}.{number}.", f"{name}.") for number, name in enumerate(blocks_of_stage)]
    return names


def new_to(tensors: Mapping[str, Tensor], body: nn.Module) -> set[str]:
    """Return the names of the tensors of blocks that `body` has and a file does not know at all."""
    unknown = set(_BLOCKS) - _blocks_of(tensors)
    added = (*SIDE_INFORMATION, "gem")
    begun = {part for part in added if not any(key.startswith(f"{part}.") for key in tensors)}
    new = {key for key in body.state_dict() if unknown & set(key.split(".")) or key.partition(".")[0] in begun}
    if "IN" in unknown:  # an instance norm in the stem has the name of the batch norm that it replaces
        stems = [
            name for name, module in body.named_modules() if name in _STEMS and isinstance(module, nn.InstanceNorm2d)
        ]
        new |= {key for key in body.state_dict() if key.rpartition(".")[0] in stems}
    return new


def blocks_beyond(tensors: Mapping[str, Tensor], body: nn.Module) -> list[str]:
    """Say which blocks a file has and `body` has not, with the setting that would add them."""
    beyond = _blocks_of(tensors) - _blocks_of(body.state_dict())
    first = {key.partition(".")[0] for key in tensors} - {key.partition(".")[0] for key in body.state_dict()}
    added = [setting for names, setting in _ADDED_TO_TOKENS.items() if first & set(names)]
    return [setting for part, setting in _BLOCKS.items() if part in beyond] + added


def _blocks_of(keys: Iterable[str]) -> set[str]:
    parts = {part for key in keys for part in key.split(".")}
    return {block for block in _BLOCKS if any(part == block or part.startswith(f"{block}_") for part in parts)}


def inner(keys: Iterable[str], body: nn.Module) -> list[str]:
    """Keep the names of tensors that belong to layers which a part of `body` has not: those of a deeper network."""
    modules = {name for name, _ in body.named_modules()}
    parts = {key.split(".")[0] for key in body.state_dict()}
    return [key for key in keys if key.split(".")[0] in parts and key.rpartition(".")[0] not in modules]


_STEMS = ("bn1", "conv1.bn")
_BLOCKS = {
    "IN": "instance norms (model.ibn, or an OSNet that has them)",
    "se": "squeeze-and-excitation (model.attention)",
    "NL": "non-local blocks (model.non_local)",
}
_ADDED_TO_TOKENS = {
    ("b1", "b2"): "the branches of TransReID's jigsaw module (JPM)",
    ("sie_embed", "cv_embed"): "embeddings of cameras (SIE)",
    ("part_token1", "part_token2", "part_token3", "cls_pos"): "tokens of parts (PASS)",
    tuple(f"semantic_embed_{letter}" for letter in "wb"): "SOLIDER's semantic weights",
}
"""First parts of names that change what a network of tokens computes, wherever the rest of it fits."""
