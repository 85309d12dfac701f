"""Pooling: from a map to one vector per image, always in float32, because powers overflow in half precision."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

PoolKind = Literal["avg", "max", "avg_max", "gem", "gem_learned"]


def generalised_mean(featuremap: Tensor, power: float | Tensor, *, floor: float = 1e-6) -> Tensor:
    """Pool maps (B, C, h, w) to (B, C): the mean of the p-th powers, to the power 1/p.

    Power 1 is the average of the positive part, and a large power comes near to the maximum.

    Args:
        featuremap: any values; those below `floor` count as `floor`, since a negative base has no real power.
        power: p >= 1, a number or a tensor (1,) that may want a gradient.
        floor: smallest value that is raised.

    Reference: Radenovic et al., "Fine-tuning CNN Image Retrieval with No Human Annotation", TPAMI 2018, equation 3.

    >>> generalised_mean(torch.tensor([[[[1.0, 1.0], [2.0, 2.0]]]]), 1.0)
    tensor([[1.5000]])
    """
    raised = featuremap.float().clamp(min=floor).pow(power)
    return raised.mean(dim=(2, 3)).pow(1.0 / power)


class Pool(nn.Module):
    """Pooling by its word.

    Args:
        kind: `avg`, `max`, `avg_max` (the sum of the two), `gem` (the generalised mean with p = 3) or `gem_learned`
            (the same, p being a parameter that starts at 3 and counts as 1 when it falls below).

    """

    def __init__(self, kind: PoolKind) -> None:
        super().__init__()
        self.kind = kind
        if kind == "gem_learned":
            self.p = nn.Parameter(torch.full((1,), 3.0))

    def forward(self, featuremap: Tensor) -> Tensor:
        """Map maps (B, C, h, w) to vectors (B, C) in float32."""
        if self.kind == "gem":
            return generalised_mean(featuremap, 3.0)
        if self.kind == "gem_learned":
            return generalised_mean(featuremap, self._power())
        featuremap = featuremap.float()
        if self.kind == "avg":
            return featuremap.mean(dim=(2, 3))
        highest = featuremap.amax(dim=(2, 3))
        return highest if self.kind == "max" else highest + featuremap.mean(dim=(2, 3))

    def _power(self) -> Tensor:
        # A plain clamp has no gradient below its bound, so a p that once slipped under 1 could never come back.
        return self.p + (self.p.clamp(min=1.0) - self.p).detach()
