"""Center loss: every identity has a centre that follows its images, and every image is drawn to its centre.

The centres move by a rule of their own and not by the run's optimiser, so they are a buffer that each training batch
updates, as batch normalisation does with its statistics.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from passerby.losses.loss import BaseLossSettings, Loss
from passerby.losses.mining import to_full_precision
from passerby.losses.weights import Weight
from passerby.types import Output, VectorName


def center_loss(x: Tensor, labels: Tensor, centres: Tensor) -> Tensor:
    """Return the mean squared Euclidean distance of features to the centres of their identities.

    Args:
        x: (B, D) features.
        labels: (B,) int64 in [0, C).
        centres: (C, D).

    Reference: Wen et al., "A Discriminative Feature Learning Approach for Deep Face Recognition", ECCV 2016,
    equation 2.
    Differs from the paper: the mean over the batch, without the half, as in Luo et al., "Bag of Tricks and a Strong
    Baseline for Deep Person Re-Identification", CVPRW 2019.

    >>> center_loss(torch.tensor([[1.0, 0.0], [0.0, 4.0]]), torch.tensor([1, 0]), torch.zeros(2, 2)).item()
    8.5
    """
    return (to_full_precision(x) - centres[labels]).square().sum(dim=1).mean()


def moved_centres(x: Tensor, labels: Tensor, centres: Tensor, *, rate: float = 0.5) -> Tensor:
    """Return the centres (C, D) after one step down the gradient of `center_loss`; absent identities stay.

    Args:
        x: (B, D) features.
        labels: (B,) int64 in [0, C).
        centres: (C, D).
        rate: length of the step. A centre goes 2 rate n / B of the way to the mean of its n images.

    Reference: Luo et al., CVPRW 2019: plain gradient descent at 0.5, whatever the weight of the loss.
    Differs from Wen et al., 2016, equation 4: divided by B and not by 1 + n.

    >>> x, labels = torch.tensor([[1.0], [3.0], [5.0], [5.0]]), torch.tensor([0, 0, 1, 1])
    >>> moved_centres(x, labels, torch.zeros(3, 1)).tolist()
    [[1.0], [2.5], [0.0]]
    """
    away = centres[labels] - to_full_precision(x)  # (B, D)
    return centres.index_add(0, labels, away, alpha=-2 * rate / len(x))


class CenterSettings(BaseLossSettings):
    """Center loss."""

    separates_identities: ClassVar[bool] = False
    has_memory: ClassVar[bool] = True

    weight: Weight = 5e-4
    lr: Annotated[float, Field(gt=0, le=1)] = Field(0.5, description="learning rate of the centres")
    feature: VectorName = Field("before_neck", description="feature of which centres are learnt")

    def make(self, *, dimension: int, classes: int) -> Center:
        """Build the loss for features of `dimension` and `classes` identities."""
        return Center(self, dimension=dimension, classes=classes)


class Center(Loss):
    """`center_loss` with its centres, N(0, 1) at the start; in training mode each batch moves them."""

    settings: CenterSettings
    centres: Tensor

    def __init__(self, settings: CenterSettings, *, dimension: int, classes: int) -> None:
        super().__init__(settings)
        self.register_buffer("centres", torch.randn(classes, dimension))

    def forward(self, out: Output, labels: Tensor) -> Tensor:
        """Return the scalar loss of a batch, against the centres before it; labels (B,) in [0, C)."""
        return center_loss(self.vectors(out), labels, self.centres)

    def update_memory(self, out: Output, labels: Tensor) -> None:
        """Move the centres."""
        self.centres = moved_centres(self.vectors(out).detach(), labels, self.centres, rate=self.settings.lr)

    def identity_rows(self) -> Tensor:
        """Return the centres (C, D)."""
        return self.centres

    def start_rows(self, x: Tensor, labels: Tensor) -> None:
        """Set the centres to the mean vectors."""
        counts = torch.bincount(labels, minlength=len(self.centres)).clamp(min=1)
        sums = torch.zeros_like(self.centres).index_add(0, labels, x)
        self.centres = sums / counts[:, None]
