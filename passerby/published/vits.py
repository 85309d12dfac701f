"""Tensors of a vision transformer under timm's names, which most published families keep, and the network they fit."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated

import torch
from pydantic import Field, JsonValue
from torch import Tensor

from passerby.errors import UserError
from passerby.models.positions import patch_grid, published_grid, resize_positions
from passerby.models.transformer import AtLeastOne
from passerby.published.tensors import FileTensors
from passerby.settings import Settings
from passerby.types import CameraTable

HALF = (0.5, 0.5, 0.5)
"""Mean and standard deviation of the images of all transformers of person re-identification."""

BLOCK_NAMES = r"(norm[12]|attn\.(qkv|proj)|mlp\.fc[12])\.(weight|bias)"
"""Regular expression of the tensors of a block."""
VIT_NAMES = (
    r"cls_token|cls_pos|pos_embed|part_token\d|part\d_pos|patch_embed\.(proj|conv\.\d(\.IN|\.BN)?)\.\w+"
    rf"|blocks\.\d+\.{BLOCK_NAMES}|norm\.(weight|bias)"
)
"""Regular expression of the tensors of a network, part tokens and ICS stem included."""

_SIZES = ((256, 128), (384, 128), (256, 256), (224, 224))
"""Published sizes of images, the usual one first."""


class VitChoices(Settings):
    """Settings that the file of a vision transformer does not hold."""

    heads: AtLeastOne | None = Field(None, description="of the attention; null = one per 64 of the width, as published")
    stride: AtLeastOne | None = Field(
        None, description="distance of two patches in pixels; null = by the table of positions and the size"
    )


class SideChoices(VitChoices):
    """Settings that a file with embeddings of cameras does not hold."""

    views: Annotated[int, Field(ge=0)] = Field(0, description="viewpoints in the embedding; 0 = cameras alone")
    cameras_of: str | None = Field(
        None, min_length=1, description="data set whose cameras were learnt; null = by their number"
    )
    first_camera: Annotated[int, Field(ge=0)] = Field(1, description="number of the camera of the first row")


@dataclass(frozen=True)
class PatchLayout:
    """Size of the images, distance of the patches, and the grid of the file's table of positions.

    Attributes:
        size: (H, W) of the images.
        stride: distance of two patches in pixels.
        old: (h, w) of the table in the file.
        new: (h, w) of the patches of the images.
        guessed: whether the size is none of the published ones, and was not asked for.

    """

    size: tuple[int, int]
    stride: int
    old: tuple[int, int]
    new: tuple[int, int]
    guessed: bool = False

    @property
    def notes(self) -> tuple[str, ...]:
        """A sentence where the size was guessed, and where the table has to be resized."""
        (h, w), (height, width) = self.old, self.new
        notes = (
            [f"positions resized from {h}x{w} to {height}x{width} patches, bilinearly"] if self.old != self.new else []
        )
        if self.guessed:
            notes.append(
                f"images of {self.size[0]}x{self.size[1]} are a guess from {h * w} positions and patches that do not "
                "overlap; give --size HxW and --set stride=N where it is wrong"
            )
        return tuple(notes)


def patch_layout(
    count: int, *, patch: int, stride: int | None, size: tuple[int, int] | None, source: str
) -> PatchLayout:
    """Return how the patches of a network lie, from the number of positions in its file.

    Args:
        count: positions of patches in the file.
        patch: side of a patch in pixels.
        stride: asked for; None = that which makes `count` patches.
        size: (H, W) asked for; None = the published size that makes `count` patches.
        source: how error texts call the file.

    Raises:
        UserError: several sizes are possible, and none of the published ones.

    """
    strides = range(patch, patch // 2 - 1, -1) if stride is None else (stride,)
    sizes = _SIZES if size is None else (size,)
    for candidate in sizes:
        for step in strides:
            grid = patch_grid(candidate, patch=patch, stride=step) if min(candidate) >= patch else (0, 0)
            if math.prod(grid) == count:
                return PatchLayout(candidate, step, grid, grid)
    old = published_grid(count)
    step = patch if stride is None else stride
    if old is None:
        raise UserError(
            f"{source}: a table of {count} positions fits no published size of images; give --size HxW, and --set "
            f"stride=N where patches overlap"
        )
    natural = ((old[0] - 1) * step + patch, (old[1] - 1) * step + patch)
    image_size = natural if size is None else size
    grid = patch_grid(image_size, patch=patch, stride=step)
    return PatchLayout(image_size, step, old, grid, guessed=size is None)


def take_network(tensors: FileTensors, prefix: str, layout: PatchLayout, *, first: int) -> dict[str, Tensor]:
    """Return the tensors of a network as used, its table of positions fitted.

    Args:
        tensors: of the file.
        prefix: before their names.
        layout: of the patches.
        first: rows of other tokens in the table of positions, which are copied.

    """
    body = tensors.take_below(prefix, but=f"(?!({VIT_NAMES})$).*")
    body["pos_embed"] = fit_table(body["pos_embed"], layout, prefix=first)
    return body


def first_prefix(tensors: Mapping[str, Tensor], key: str) -> str | None:
    """Return `base.`, `backbone.` or nothing, whichever stands before a name in a file; None = it is not there."""
    return next((prefix for prefix in ("base.", "backbone.", "") if f"{prefix}{key}" in tensors), None)


def count_heads(width: int, heads: int | None, *, usual: int | None = None, source: str) -> int:
    """Return the number of heads, which no file holds: that asked for, or the published one of a width.

    Args:
        width: D of the tokens.
        heads: asked for; None = as published.
        usual: of the published network, where it is not one per 64.
        source: how error texts call the file.

    Raises:
        UserError: no published network has the width, or the number does not divide it.

    """
    if heads is None:
        if width % 64:
            raise UserError(
                f"{source}: the number of heads is no key of the file, and no published network has the width {width}; "
                "give --set heads=N"
            )
        return usual or width // 64
    if width % heads:
        raise UserError(f"--set heads={heads}: heads must divide the width of {source}, {width}")
    return heads


def vit_architecture(tensors: FileTensors, prefix: str) -> dict[str, JsonValue]:
    """Return the settings of a vision transformer that its tensors show: width, depth, perceptrons, stem."""
    width = int(tensors.require(f"{prefix}cls_token").shape[-1])
    hidden = int(tensors.require(f"{prefix}blocks.0.mlp.fc1.weight").shape[0])
    shown: dict[str, JsonValue] = {
        "width": width,
        "depth": tensors.count_numbers(re.escape(prefix) + r"blocks\.(\d+)\."),
        "mlp_ratio": hidden / width,
    }
    if f"{prefix}blocks.0.attn.qkv.bias" not in tensors:
        shown["qkv_bias"] = False
    if f"{prefix}patch_embed.conv.0.weight" in tensors:
        shown["stem"] = "ics"
    return shown


def patch_of(tensors: FileTensors, prefix: str) -> int:
    """Return the side of a patch in pixels; patches of the map of an ICS stem are 16."""
    if f"{prefix}patch_embed.conv.0.weight" in tensors:
        return 16
    return int(tensors.require(f"{prefix}patch_embed.proj.weight").shape[-1])


def fit_table(table: Tensor, layout: PatchLayout, *, prefix: int) -> Tensor:
    """Return a table of positions (..., prefix + h * w, D) for the new grid; the first rows are copied."""
    patches = resize_positions(table[..., prefix:, :], layout.old, layout.new)
    return torch.cat([table[..., :prefix, :], patches], dim=-2)


# ---- necks

_EPS = 1e-5
"""Of every batch norm."""


def take_neck(tensors: FileTensors, name: str, *, divisor: float = 1.0) -> dict[str, Tensor]:
    """Return the tensors of a published neck for a feature that is divided first, and whose output is divided then.

    Args:
        tensors: of the file.
        name: of the batch norm.
        divisor: of the feature, as the local features of the jigsaw module.

    """
    neck = {key: tensors.take(f"{name}.{key}") for key in ("weight", "bias", "running_mean", "running_var")}
    if divisor == 1.0:
        return neck
    # norm(x) / d = w / d * (x / d - mean / d) / sqrt((var + eps) / d^2) + b / d
    return {
        "weight": neck["weight"] / divisor,
        "bias": neck["bias"] / divisor,
        "running_mean": neck["running_mean"] / divisor,
        "running_var": (neck["running_var"] + _EPS) / divisor**2 - _EPS,
    }


def join_necks(necks: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Return one neck of concatenated features from the necks of each."""
    return {f"neck.{key}": torch.cat([neck[key] for neck in necks]) for key in necks[0]}


NEW_NECK = "a pre-trained network without a neck; it begins with a new one"
"""Sentence about a file without a neck."""


def new_neck(dimension: int) -> dict[str, Tensor]:
    """Return a neck that changes nothing, for networks that were published without one."""
    ones, zeros = torch.ones(dimension), torch.zeros(dimension)
    return {"neck.weight": ones, "neck.bias": zeros, "neck.running_mean": zeros, "neck.running_var": ones}


# ---- cameras

_COUNTS = {6: "market1501", 8: "dukemtmc", 15: "msmt17"}
"""Published data sets by the number of their cameras."""


def camera_table(rows: int, choices: SideChoices, *, source: str) -> tuple[CameraTable, str]:
    """Return the cameras of a published embedding, and a sentence about what was assumed.

    Args:
        rows: of the embedding in the file.
        choices: data set, number of the first camera, viewpoints.
        source: how error texts call the file.

    Raises:
        UserError: a number of viewpoints that does not divide the rows.

    """
    views = max(1, choices.views)
    if rows % views:
        raise UserError(f"--set views={views}: {source} holds {rows} embeddings, which is no multiple")
    count = rows // views
    name = choices.cameras_of or _COUNTS.get(count, "published")
    numbers = tuple(range(choices.first_camera, choices.first_camera + count))
    note = (
        f"embeddings of {count} cameras, taken for the cameras {numbers[0]} to {numbers[-1]} of {name} (--set "
        "cameras_of=NAME, first_camera=N); an unknown camera has the mean of all"
    )
    return CameraTable((name,), (numbers,)), note
