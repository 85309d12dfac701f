"""Pooling: from a map to one vector per image, always in float32, because powers overflow in half precision."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

PoolKind = Literal["avg", "max", "avg_max", "gem", "gem_learned"]


def coverage(mask: Tensor, size: tuple[int, int]) -> Tensor:
    """Return how much of each cell of a map the person covers, (B, 1, h, w) float32 in [0, 1].

    Args:
        mask: (B, 1, H, W), 1 = person.
        size: (h, w) of the map.

    """
    return nn.functional.adaptive_avg_pool2d(mask.float(), size)


def cell_weights(mask: Tensor, size: tuple[int, int]) -> Tensor:
    """Return `coverage`, or ones (which is plain pooling) for an image whose mask is empty: (B, 1, h, w) float32.

    Args:
        mask: (B, 1, H, W), 1 = person.
        size: (h, w) of the map.

    >>> cell_weights(torch.tensor([[[[1, 1, 0, 0], [1, 0, 0, 0]]]]), (1, 2))
    tensor([[[[0.7500, 0.0000]]]])
    """
    weights = coverage(mask, size)
    return torch.where(weights.sum(dim=(2, 3), keepdim=True) > 0, weights, 1.0)


def average(featuremap: Tensor, weights: Tensor | None = None) -> Tensor:
    """Pool maps (B, C, h, w) to (B, C): their mean, each cell counted by its weight (B, 1, h, w) >= 0."""
    if weights is None:
        return featuremap.mean(dim=(2, 3))
    return (featuremap * weights).sum(dim=(2, 3)) / weights.sum(dim=(2, 3))


def maximum(featuremap: Tensor, weights: Tensor | None = None) -> Tensor:
    """Pool maps (B, C, h, w) to (B, C): their maximum over the cells whose weight (B, 1, h, w) is above 0."""
    if weights is not None:
        featuremap = featuremap.masked_fill(weights == 0, -torch.inf)
    return featuremap.amax(dim=(2, 3))


def generalised_mean(
    featuremap: Tensor, power: float | Tensor, *, floor: float = 1e-6, weights: Tensor | None = None
) -> Tensor:
    """Pool maps (B, C, h, w) to (B, C): the mean of the p-th powers, to the power 1/p.

    Power 1 is the average of the positive part, and a large power comes near to the maximum.

    Args:
        featuremap: any values; those below `floor` count as `floor`, since a negative base has no real power.
        power: p >= 1, a number or a tensor (1,) that may want a gradient.
        floor: smallest value that is raised.
        weights: (B, 1, h, w) >= 0, how much each cell counts; None = all alike.

    Reference: Radenovic et al., "Fine-tuning CNN Image Retrieval with No Human Annotation", TPAMI 2018, equation 3.

    >>> generalised_mean(torch.tensor([[[[1.0, 1.0], [2.0, 2.0]]]]), 1.0)
    tensor([[1.5000]])
    """
    raised = featuremap.float().clamp(min=floor).pow(power)
    return average(raised, weights).pow(1.0 / power)


class Pool(nn.Module):
    """Pooling by name.

    Args:
        kind: `avg`, `max`, `avg_max` (the sum of the two), `gem` (the generalised mean with p = 3) or `gem_learned`
            (the same, p being a parameter that starts at 3 and counts as 1 when it falls below).

    """

    def __init__(self, kind: PoolKind) -> None:
        super().__init__()
        self.kind = kind
        if kind == "gem_learned":
            self.p = nn.Parameter(torch.full((1,), 3.0))

    def forward(self, featuremap: Tensor, mask: Tensor | None = None) -> Tensor:
        """Map maps (B, C, h, w) to vectors (B, C) in float32, weighted by masks (B, 1, H, W) where they are given.

        A mask of the map's own size, in [0, 1], is taken as it is.
        """
        height, width = featuremap.shape[2:]
        weights = None if mask is None else cell_weights(mask, (height, width))
        if self.kind == "gem":
            return generalised_mean(featuremap, 3.0, weights=weights)
        if self.kind == "gem_learned":
            return generalised_mean(featuremap, self._power(), weights=weights)
        featuremap = featuremap.float()
        if self.kind == "avg":
            return average(featuremap, weights)
        highest = maximum(featuremap, weights)
        return highest if self.kind == "max" else highest + average(featuremap, weights)

    def _power(self) -> Tensor:
        # A plain clamp has no gradient below its bound, so a p that once slipped under 1 could never come back.
        return self.p + (self.p.clamp(min=1.0) - self.p).detach()
