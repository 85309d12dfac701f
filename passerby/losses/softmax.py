"""Identity classification: a linear layer over the training identities and a label-smoothed cross-entropy.

The classifier belongs to the loss and not to the model, so that each stage has its own and an exported model has none.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from passerby.losses.loss import BaseLossSettings, ClassifierLoss
from passerby.losses.mining import to_full_precision
from passerby.losses.pieces import Pieces, combine, cut, require_pieces
from passerby.types import Output, VectorName


def smoothed_cross_entropy(logits: Tensor, labels: Tensor, *, smoothing: float = 0.1) -> Tensor:
    """Return the mean cross-entropy against labels of which `smoothing` is spread evenly over all classes.

    Args:
        logits: (B, C).
        labels: (B,) int64 in [0, C).
        smoothing: share in [0, 1) that goes to every class alike, the right one included.

    Reference: Szegedy et al., "Rethinking the Inception Architecture for Computer Vision", CVPR 2016, section 7.

    >>> import torch
    >>> smoothed_cross_entropy(torch.zeros(2, 4), torch.tensor([0, 3])).item()  # ln 4
    1.3862943649291992
    """
    return F.cross_entropy(to_full_precision(logits), labels, label_smoothing=smoothing)


class SoftmaxSettings(BaseLossSettings):
    """Label-smoothed softmax over identities."""

    has_classifier: ClassVar[bool] = True

    smoothing: Annotated[float, Field(ge=0, lt=1)] = Field(0.1, description="label smoothing")
    feature: VectorName = Field("after_neck", description="feature that is classified")
    pieces: Pieces = 1

    def make(self, *, dimension: int, classes: int) -> Softmax:
        """Build the loss for features of `dimension` and `classes` identities."""
        require_pieces(dimension, self.pieces, loss="softmax")
        return Softmax(self, dimension=dimension, classes=classes)


class Softmax(ClassifierLoss):
    """A bias-free classifier, N(0, 0.001) at the start (Luo et al., 2019), with its loss."""

    settings: SoftmaxSettings

    def __init__(self, settings: SoftmaxSettings, *, dimension: int, classes: int) -> None:
        super().__init__(settings, dimension=dimension, classes=classes, std=0.001)

    def forward(self, out: Output, labels: Tensor) -> Tensor:
        """Return the scalar loss of a batch; labels (B,) in [0, C)."""
        smoothing, count = self.settings.smoothing, self.settings.pieces
        if count == 1:
            return smoothed_cross_entropy(self.logits(out), labels, smoothing=smoothing)
        pieces = cut(out, self.settings.feature, count)
        rows = self.classifier.weight.split([piece.shape[1] for piece in pieces], dim=1)
        losses = [
            smoothed_cross_entropy(F.linear(piece, weight), labels, smoothing=smoothing)
            for piece, weight in zip(pieces, rows, strict=True)
        ]
        return combine(losses, count)

    def logits(self, out: Output) -> Tensor:
        """Return the logits (B, C); of several pieces, their sum."""
        logits: Tensor = self.classifier(self.vectors(out))
        return logits
