"""The under-complete autoencoder of EBLL: a short code of the features of an earlier stage.

After pooling it is two linear layers on vectors, before pooling two convolutions on maps. The next stage keeps the
codes of its images near to the codes of the earlier model's features.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from passerby.losses.mining import to_full_precision

Place = Literal["after_pooling", "before_pooling"]
Activation = Literal["sigmoid", "none"]
Penalty = Literal["none", "l1", "l2"]
Reduction = Literal["sum", "mean"]


class Autoencoder(nn.Module):
    """Encoder, activation, decoder: linear on vectors (B, D), or convolutions on maps (B, D, h, w).

    Args:
        dimension: D.
        size: length of the code, below D.
        place: on the pooled vectors or on the map before pooling.
        activation: of the code.
        kernel: side of the convolutions, odd; 1 = each position alone.

    Reference: Rannen et al., "Encoder Based Lifelong Learning", ICCV 2017, section 3.2.

    """

    def __init__(
        self,
        dimension: int,
        size: int,
        *,
        place: Place = "after_pooling",
        activation: Activation = "sigmoid",
        kernel: int = 1,
    ) -> None:
        super().__init__()
        self.activation = activation
        if place == "after_pooling":
            self.encoder: nn.Linear | nn.Conv2d = nn.Linear(dimension, size)
            self.decoder: nn.Linear | nn.Conv2d = nn.Linear(size, dimension)
        else:
            self.encoder = nn.Conv2d(dimension, size, kernel, padding=kernel // 2)
            self.decoder = nn.Conv2d(size, dimension, kernel, padding=kernel // 2)

    def encode(self, x: Tensor) -> Tensor:
        """Return the code (B, S) or (B, S, h, w)."""
        code: Tensor = self.encoder(to_full_precision(x))
        return code.sigmoid() if self.activation == "sigmoid" else code

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the code and the reconstruction, in the shape of x."""
        code = self.encode(x)
        return code, self.decoder(code)

    def penalty(self, kind: Penalty, *, reduction: Reduction = "sum") -> Tensor:
        """Return sum |w| (`l1`) or half the sum of w squared (`l2`) over both layers without their shifts, or the mean.

        A sum and a mean over millions of weights differ by that factor; either may dominate the reconstruction or have
        no effect, so no strength suits both.
        """
        weights = torch.cat([layer.weight.flatten() for layer in (self.encoder, self.decoder)])
        if kind == "none":
            return weights.new_zeros(())
        each = weights.abs() if kind == "l1" else weights.square() / 2
        return each.sum() if reduction == "sum" else each.mean()


def code_distance(
    old: Tensor,
    new: Tensor,
    *,
    kind: Literal["mse", "bce"] = "mse",
    temperature: float = 10.0,
    scale: Literal["none", "size_squared"] = "none",
) -> Tensor:
    """Return the distance of two codes; no gradient reaches the old one.

    `mse` is the mean squared difference. `bce` is the mean binary cross-entropy between softmax(new / T) and
    softmax(old / T), over the numbers of a code (for maps: over the channels of each position). Its gradient is smaller
    by orders of magnitude, because every probability is near 1 / S and the mean runs over S of them.

    Args:
        old: (B, S) or (B, S, h, w), code of the earlier model's features.
        new: the same of the present model's, through the same encoder.
        kind: `mse` or `bce`, see above.
        temperature: T > 0, for `bce`.
        scale: `size_squared` multiplies `bce` by S T squared, which compensates that.

    >>> code_distance(torch.zeros(1, 4), torch.ones(1, 4)).item()
    1.0
    """
    old = old.detach()
    if kind == "mse":
        return F.mse_loss(new, old)
    prediction, target = (new / temperature).softmax(dim=1), (old / temperature).softmax(dim=1)
    loss = F.binary_cross_entropy(prediction, target)
    return loss * (new.shape[1] * temperature**2) if scale == "size_squared" else loss
