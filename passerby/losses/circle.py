"""Pairwise circle loss over all positives and negatives of an anchor, weighted by their distance from the optimum."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from passerby.losses.loss import BaseLossSettings, Loss
from passerby.losses.mining import complete_anchors, to_full_precision
from passerby.types import Output, VectorName


def circle_loss(
    x: Tensor,
    labels: Tensor,
    *,
    margin: float = 0.25,
    scale: float = 128.0,
    anchors: Literal["valid", "all"] = "valid",
) -> Tensor:
    """Return the mean over anchors of softplus(lse(-scale a_p (s_p - 1 + margin)) + lse(scale a_n (s_n - margin))).

    The s are cosine similarities, a_p = relu(1 + margin - s_p) and a_n = relu(s_n + margin); no gradient flows through
    the a. The anchor is not its own positive.

    Args:
        x: (B, D) features; only their directions count.
        labels: (B,) identities.
        margin: how far similarities may stay from 1 and 0, in [0, 1].
        scale: the paper's gamma, > 0.
        anchors: `valid` averages over the anchors with both kinds of pairs, and gives 0 (with a zero gradient) without
            any; `all` divides by B, the incomplete anchors adding 0.

    Reference: Sun et al., "Circle Loss: A Unified Perspective of Pair Similarity Optimization", CVPR 2020, equations 4
    to 7.

    >>> x = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    >>> round(circle_loss(x, torch.tensor([0, 0, 1]), scale=2.0).item(), 4)  # ln(1 + exp(-0.25))
    0.5759
    """
    directions = F.normalize(to_full_precision(x))
    similar = directions @ directions.T  # (B, B)
    same = labels[:, None] == labels[None, :]  # (B, B)
    itself = torch.eye(len(x), dtype=torch.bool, device=x.device)
    toward = -scale * (1 + margin - similar.detach()).relu() * (similar - 1 + margin)
    away = scale * (similar.detach() + margin).relu() * (similar - margin)
    valid = complete_anchors(labels)
    # an incomplete anchor is dropped before the sums, because the gradient of a sum over nothing is not a number
    positive = toward.masked_fill(~same | itself, -torch.inf)[valid].logsumexp(dim=1)
    negative = away.masked_fill(same, -torch.inf)[valid].logsumexp(dim=1)
    losses = F.softplus(positive + negative)
    return losses.sum() / (valid.sum().clamp_min(1) if anchors == "valid" else len(x))


class CircleSettings(BaseLossSettings):
    """Pairwise circle loss."""

    margin: Annotated[float, Field(ge=0, le=1)] = 0.25
    scale: Annotated[float, Field(gt=0)] = 128.0
    feature: VectorName = Field("before_neck", description="feature that is compared")
    anchors: Literal["valid", "all"] = "valid"

    @property
    def needs_positives(self) -> bool:
        """An anchor without another image of its identity adds 0."""
        return True

    def make(self, *, dimension: int, classes: int) -> Circle:
        """Build the loss; the arguments are those of every loss, this one needs none of them."""
        return Circle(self)


class Circle(Loss):
    """`circle_loss` of an embedder's output."""

    settings: CircleSettings

    def forward(self, out: Output, labels: Tensor) -> Tensor:
        """Return the scalar loss of a batch; labels (B,)."""
        settings = self.settings
        return circle_loss(
            self.vectors(out), labels, margin=settings.margin, scale=settings.scale, anchors=settings.anchors
        )
