"""The jigsaw patch module (JPM): patches shifted and shuffled in a fixed order, and dealt out to local branches."""

from __future__ import annotations

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from passerby.errors import UserError
from passerby.settings import Settings


class JigsawSettings(Settings):
    """The jigsaw patch module: a global branch, and local vectors of shuffled groups of patches."""

    shift: int = Field(5, ge=1, description="patches are rolled by one less, as in the published code")
    groups: int = Field(2, ge=1, description="parts of the image that the shuffle interleaves")
    parts: int = Field(4, ge=1, description="number of local vectors, each of one part of the shuffled patches")


def jigsaw_order(count: int, settings: JigsawSettings) -> torch.Tensor:
    """Return the patches of each local branch: (parts, count // parts) int64 numbers below `count`.

    The patches are rolled to the left, cut into `groups` stretches, and these are interleaved; what the division into
    parts leaves over at the end is dropped.

    Args:
        count: number of patches.
        settings: shift, groups and parts.

    Raises:
        UserError: a number of patches that the groups or the parts do not suit.

    Reference: He et al., "TransReID: Transformer-based Object Re-Identification", ICCV 2021, section 3.3.
    Differs from the paper: rolled by shift - 1, as the published code does, and so its weights are trained; where one
    patch is missing to fill the groups, the last but one is repeated, as there.

    >>> jigsaw_order(12, JigsawSettings()).tolist()
    [[4, 10, 5], [11, 6, 0], [7, 1, 8], [2, 9, 3]]
    """
    length, groups = count // settings.parts, settings.groups
    if not length:
        raise UserError(f"jigsaw: {count} patches cannot be dealt out to {settings.parts} parts; enlarge input.size")
    order = np.roll(np.arange(count), 1 - settings.shift)
    if count % groups == groups - 1 != 0:
        order = np.append(order, order[-2])
    if len(order) % groups:
        raise UserError(f"jigsaw: {count} patches cannot be cut into {groups} groups; change groups or input.size")
    shuffled = order.reshape(groups, -1).T.flatten()
    return torch.from_numpy(shuffled[: settings.parts * length].reshape(settings.parts, length).copy())


def deal_out(tokens: Tensor, order: Tensor, *, prefix: int = 1) -> Tensor:
    """Return the tokens of the local branches, each begun by the class token: (parts * B, 1 + count // parts, D).

    Args:
        tokens: (B, prefix + count, D), the class token first.
        order: (parts, count // parts), see `jigsaw_order`.
        prefix: tokens before the patches.

    """
    parts = tokens[:, prefix:][:, order]  # (B, parts, length, D)
    first = tokens[:, None, :1].expand(-1, len(order), -1, -1)  # (B, parts, 1, D)
    return torch.cat([first, parts], dim=2).transpose(0, 1).flatten(0, 1)
