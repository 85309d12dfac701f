"""Tensors of fast-reid's MGN, in today's form and in that of LUPerson's copy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
from pydantic import JsonValue
from torch import Tensor, cat

from passerby.errors import UserError
from passerby.inputs import InputSettings
from passerby.models.embedder import ModelSettings
from passerby.models.mgn import MGN_HEADS, MGN_NETWORKS
from passerby.models.pooling import PoolKind
from passerby.models.surgery import StemPool
from passerby.published.family import Imported
from passerby.published.resnets import below, width_setting
from passerby.published.tensors import FileTensors

MGN_WITHOUT_INFLUENCE = (r"b\d+_head\.weight", r"b\d+_head\.classifier\..*")
_SHARED = {"0.": "conv1.", "1.": "bn1.", "4.": "layer1.", "5.": "layer2.", "6.": "layer3."}
_BRANCH = {"0.": "layer3.", "1.": "layer4."}


def is_mgn(tensors: Mapping[str, Tensor]) -> bool:
    """Whether names are those of an MGN."""
    return {"backbone.0.weight", "b1.0.0.conv1.weight", "b33_head.bottleneck.0.weight"} <= tensors.keys()


def convert_mgn(tensors: FileTensors, inputs: InputSettings, *, stem_pool: StemPool, pool: PoolKind) -> Imported:
    """Return the MGN of a file.

    Args:
        tensors: the file.
        inputs: what its images look like.
        stem_pool: see `model.stem_pool`.
        pool: of the parts, where their powers are not in the file.

    """
    learned = "b1_head.pool_layer.p" in tensors
    map_norms = "heads_extra_bn_b1.weight" in tensors
    ibn: Literal["none", "a"] = "a" if "backbone.4.0.bn1.IN.weight" in tensors else "none"
    architecture: dict[str, JsonValue] = {
        **width_setting(int(tensors.require("backbone.0.weight").shape[0])),
        "part": int(tensors.require("b1_head.bottleneck.0.weight").shape[0]),
        "pool": "gem_learned" if learned else pool,
        "map_norms": map_norms,
    }
    model = ModelSettings(
        backbone=_name(tensors), last_stride=1, ibn=ibn, stem_pool=stem_pool, architecture=architecture
    )
    state = below("backbone.body.shared.", _renamed(tensors.take_below("backbone."), _SHARED))
    for branch in ("b1", "b2", "b3"):
        inner = _renamed(tensors.take_below(f"{branch}."), _BRANCH)
        state |= below(f"backbone.body.branches.{branch}.", inner)
        if map_norms:
            state |= below(f"backbone.body.norms.{branch}.", tensors.take_below(f"heads_extra_bn_{branch}."))
    for part in MGN_HEADS:
        prefix, target = f"{part}_head.", f"backbone.body.parts.{part}."
        state[f"{target}reduction.weight"] = tensors.take(f"{prefix}bottleneck.0.weight").flatten(1)
        if learned:
            state[f"{target}pool.p"] = tensors.take(f"{prefix}pool_layer.p")
    return Imported(model, inputs, state | _neck(tensors), "after_neck")


def stored_input(tensors: FileTensors, usual: InputSettings) -> InputSettings:
    """Return input settings with the mean and deviation that a file of fast-reid applies to bytes.

    Args:
        tensors: the file; older ones hold `pixel_mean` and `pixel_std`.
        usual: settings for a file without them.

    """
    if "pixel_mean" not in tensors:
        return usual.model_copy(update={"scale": "bytes"})
    mean, std = (tensors.take(key).flatten().tolist() for key in ("pixel_mean", "pixel_std"))
    return usual.model_copy(update={"mean": shares_of(mean), "std": shares_of(std), "scale": "bytes"})


def shares_of(values: Sequence[float]) -> tuple[float, ...]:
    """Return values of 0 to 255 as shares of 255 that the embedder, in float32, multiplies back to the same values.

    >>> [round(share, 6) for share in shares_of([57.375])]
    [0.225]
    """
    return tuple(map(_share_of, values))


def _share_of(value: float) -> float:
    near = np.float32(value / 255)
    tried = (near, np.nextafter(near, np.float32(0)), np.nextafter(near, np.float32(1)))
    exact = next((share for share in tried if np.float32(255) * share == np.float32(value)), near)
    return float(exact)


def _neck(tensors: FileTensors) -> dict[str, Tensor]:
    """Return one norm for the whole vector, made of those of the parts."""
    parts = [tensors.take_below(f"{part}_head.bottleneck.1.") for part in MGN_HEADS]
    names = ("weight", "bias", "running_mean", "running_var")
    if any(name not in part for part in parts for name in names):
        raise UserError(f"{tensors.source} lacks norms of MGN's parts (bN_head.bottleneck.1)")
    return {f"neck.{name}": cat([part[name] for part in parts]) for name in names}


def _name(tensors: FileTensors) -> str:
    count = 1 + tensors.count_numbers(r"b1\.0\.(\d+)\.")
    depths = {6: "resnet50", 23: "resnet101"}
    names = {inner: name for name, inner in MGN_NETWORKS.items()}
    if count not in depths:
        raise UserError(f"{tensors.source} holds an MGN with {count} blocks in its third stage; known: 6 and 23")
    return names[depths[count]]


def _renamed(tensors: Mapping[str, Tensor], names: Mapping[str, str]) -> dict[str, Tensor]:
    """Return tensors with the numbers of a sequence replaced by the names of its layers."""
    first = {key: next((old for old in names if key.startswith(old)), "") for key in tensors}
    return {names.get(old, "") + key.removeprefix(old): tensors[key] for key, old in first.items()}
