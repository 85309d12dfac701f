"""Classification by direction with a margin: ArcFace, CosFace and the circle loss over classes.

All three compare L2-normalised features with L2-normalised class weights and change the cosines before a softmax. The
margin makes the right class harder to reach than it is, so that identities end up further apart than they must.
"""

from __future__ import annotations

import math
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from passerby.losses.loss import BaseLossSettings, ClassifierLoss
from passerby.losses.mining import to_full_precision
from passerby.losses.softmax import smoothed_cross_entropy
from passerby.types import Output, VectorName

Beyond = Literal["monotone", "plain"]
"""What ArcFace does where angle + margin passes 180 degrees: `plain` goes on with cos(angle + margin), which rises
again and rewards the worst angles; `monotone` goes on falling with cos(angle) - margin sin(margin)."""

_EDGE = 1 - 1e-7  # the angle has no gradient at cosines of 1 and -1


def cosines(x: Tensor, weight: Tensor) -> Tensor:
    """Return the cosines (B, C) between features x (B, D) and class weights (C, D)."""
    return F.linear(F.normalize(to_full_precision(x)), F.normalize(weight))


def arcface_logits(
    cosine: Tensor, labels: Tensor, *, scale: float = 64.0, margin: float = 0.5, beyond: Beyond = "monotone"
) -> Tensor:
    """Return scale cos(angle + margin) for the right class and scale cos(angle) for the others.

    Args:
        cosine: (B, C) in [-1, 1].
        labels: (B,) int64 in [0, C).
        scale: > 0.
        margin: radians, in [0, pi / 2].
        beyond: see `Beyond`.

    Returns:
        (B, C) logits.

    Reference: Deng et al., "ArcFace: Additive Angular Margin Loss for Deep Face Recognition", CVPR 2019, equation 3.
    Differs from the paper: `monotone`, after the authors' code.

    >>> arcface_logits(torch.tensor([[0.0, 0.5]]), torch.tensor([0]), scale=2.0, margin=math.pi / 6).round(decimals=4)
    tensor([[-1.,  1.]])
    """
    right = _right(cosine, labels).clamp(-_EDGE, _EDGE)  # (B, 1)
    moved = right * math.cos(margin) - (1 - right.square()).sqrt() * math.sin(margin)
    if beyond == "monotone":
        moved = torch.where(right < -math.cos(margin), right - margin * math.sin(margin), moved)
    return scale * cosine.scatter(1, labels[:, None], moved)


def cosface_logits(cosine: Tensor, labels: Tensor, *, scale: float = 64.0, margin: float = 0.35) -> Tensor:
    """Return scale (cosine - margin) for the right class and scale cosine for the others.

    Args:
        cosine: (B, C) in [-1, 1].
        labels: (B,) int64 in [0, C).
        scale: > 0.
        margin: cosine, >= 0.

    Returns:
        (B, C) logits.

    Reference: Wang et al., "CosFace: Large Margin Cosine Loss for Deep Face Recognition", CVPR 2018, equation 4.

    >>> cosface_logits(torch.tensor([[0.5, 0.25]]), torch.tensor([0]), scale=4.0, margin=0.25)
    tensor([[1., 1.]])
    """
    return scale * cosine.scatter(1, labels[:, None], _right(cosine, labels) - margin)


def circle_logits(cosine: Tensor, labels: Tensor, *, scale: float = 64.0, margin: float = 0.35) -> Tensor:
    """Return scale a (c - 1 + margin), a = relu(1 + margin - c), for the right class of cosine c.

    The others get scale a (c - margin) with a = relu(c + margin). No gradient flows through the a.

    Args:
        cosine: (B, C) in [-1, 1].
        labels: (B,) int64 in [0, C).
        scale: the paper's gamma, > 0.
        margin: how far cosines may stay from 1 and 0, in [0, 1].

    Returns:
        (B, C) logits.

    Reference: Sun et al., "Circle Loss: A Unified Perspective of Pair Similarity Optimization", CVPR 2020, equations 5
    to 7, with classes for pairs.

    >>> circle_logits(torch.tensor([[0.5, 0.5]]), torch.tensor([0]), scale=16.0, margin=0.25)
    tensor([[-3.,  3.]])
    """
    right = _right(cosine, labels)
    toward = (1 + margin - right.detach()).relu() * (right - 1 + margin)
    away = (cosine.detach() + margin).relu() * (cosine - margin)
    return scale * away.scatter(1, labels[:, None], toward)


def _right(cosine: Tensor, labels: Tensor) -> Tensor:
    """Return the cosine (B, 1) of the right class."""
    return cosine.gather(1, labels[:, None])


class MarginSettings(BaseLossSettings):
    """Settings shared by the margin classifiers."""

    has_classifier: ClassVar[bool] = True

    scale: Annotated[float, Field(gt=0)] = 64.0
    smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    feature: VectorName = Field("after_neck", description="feature that is classified")

    def logits(self, cosine: Tensor, labels: Tensor) -> Tensor:
        """Return the logits (B, C) of cosines (B, C)."""
        raise NotImplementedError

    def make(self, *, dimension: int, classes: int) -> MarginSoftmax:
        """Build the loss for features of `dimension` and `classes` identities."""
        return MarginSoftmax(self, dimension=dimension, classes=classes)


class ArcfaceSettings(MarginSettings):
    """ArcFace: softmax with a margin on the angle."""

    margin: Annotated[float, Field(ge=0, le=math.pi / 2)] = Field(0.5, description="angular margin in radians")
    beyond: Beyond = Field("monotone", description="treatment of angles whose sum with the margin exceeds 180 degrees")

    def logits(self, cosine: Tensor, labels: Tensor) -> Tensor:
        """See `arcface_logits`."""
        return arcface_logits(cosine, labels, scale=self.scale, margin=self.margin, beyond=self.beyond)


class CosfaceSettings(MarginSettings):
    """CosFace: softmax with a margin on the cosine."""

    margin: Annotated[float, Field(ge=0, le=2)] = 0.35

    def logits(self, cosine: Tensor, labels: Tensor) -> Tensor:
        """See `cosface_logits`."""
        return cosface_logits(cosine, labels, scale=self.scale, margin=self.margin)


class CircleSoftmaxSettings(MarginSettings):
    """Circle loss over classes."""

    margin: Annotated[float, Field(ge=0, le=1)] = 0.35

    def logits(self, cosine: Tensor, labels: Tensor) -> Tensor:
        """See `circle_logits`."""
        return circle_logits(cosine, labels, scale=self.scale, margin=self.margin)


class MarginSoftmax(ClassifierLoss):
    """A bias-free classifier by direction, N(0, 0.01) at the start, with its loss."""

    settings: MarginSettings

    def __init__(self, settings: MarginSettings, *, dimension: int, classes: int) -> None:
        super().__init__(settings, dimension=dimension, classes=classes, std=0.01)

    def forward(self, out: Output, labels: Tensor) -> Tensor:
        """Return the scalar loss of a batch; labels (B,) in [0, C)."""
        logits = self.settings.logits(cosines(self.vectors(out), self.classifier.weight), labels)
        return smoothed_cross_entropy(logits, labels, smoothing=self.settings.smoothing)
