"""Pair mining: distances of all pairs of a batch, and the positive and negative of each anchor.

Mining looks at labels, never at positions in the batch. Distances are computed in float32 even when the network is not.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

Distance = Literal["euclidean", "euclidean_norm", "cosine_sq"]
"""`euclidean`: of the vectors as they are; `euclidean_norm`: of L2-normalised vectors, in [0, 2]; `cosine_sq`: the
square of that, 2 - 2 cos, in [0, 4]. The last two order pairs alike but give a margin another meaning."""

_FLOOR = 1e-12  # a root has no gradient at 0


def to_full_precision(x: Tensor) -> Tensor:
    """Return x in float32 if it is float16 or bfloat16."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


def pair_distances(x: Tensor, *, distance: Distance = "euclidean") -> Tensor:
    """Return all distances (B, B) of the rows of x (B, D), with a gradient everywhere."""
    x = to_full_precision(x)
    if distance != "euclidean":
        x = nn.functional.normalize(x)
    squares = x.square().sum(dim=1)
    squared = squares[:, None] + squares[None, :] - 2 * x @ x.T  # (B, B)
    if distance == "cosine_sq":
        return squared.clamp_min(0)
    return squared.clamp_min(_FLOOR).sqrt()


def complete_anchors(labels: Tensor) -> Tensor:
    """Return a mask (B,) of the anchors that have both a positive and a negative."""
    same = labels[:, None] == labels[None, :]  # (B, B)
    return (same.sum(dim=1) > 1) & ~same.all(dim=1)


def hardest(distances: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Return the farthest positive (B,) and the nearest negative (B,) of each anchor.

    The anchor itself counts as its positive, so a lone image has a positive at about 0. Without any negative the second
    value is infinite.
    """
    same = labels[:, None] == labels[None, :]  # (B, B)
    return distances.masked_fill(~same, -torch.inf).amax(dim=1), distances.masked_fill(same, torch.inf).amin(dim=1)


def softly_hardest(distances: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mean positive (B,) and the mean negative (B,), weighted by softmax(d) and by softmax(-d).

    The anchor itself counts as its positive. Without any negative the second value is infinite, as in `hardest`.

    Reference: Ye et al., "Deep Learning for Person Re-identification: A Survey and Outlook", TPAMI 2021, equation 4.
    Differs from the published code: each softmax runs over its own pairs only and is shifted by its own largest value.
    Shifted by 0 the weights of the negatives vanish at distances above about 10, which are common before a neck.
    """
    same = labels[:, None] == labels[None, :]  # (B, B)
    toward = distances.masked_fill(~same, -torch.inf).softmax(dim=1)
    has_no_negative = same.all(dim=1)
    # a softmax over nothing is not a number, so that row runs over everything and is replaced afterwards
    away = (-distances).masked_fill(same & ~has_no_negative[:, None], -torch.inf).softmax(dim=1)
    negative = (away * distances).sum(dim=1)
    return (toward * distances).sum(dim=1), negative.masked_fill(has_no_negative, torch.inf)
