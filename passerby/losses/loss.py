"""Base classes of a loss: its settings, which say what a recipe may ask for, and its module."""

from __future__ import annotations

from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from passerby.losses.weights import Weight
from passerby.settings import Settings
from passerby.types import Output, VectorName


class BaseLossSettings(Settings):
    """Base of the settings of a loss."""

    weight: Weight = 1.0
    feature: VectorName = Field("before_neck", description="the vector that the loss is computed on")

    separates_identities: ClassVar[bool] = True
    """Whether the loss can move different identities apart, so that it may be the only one of a recipe."""

    has_classifier: ClassVar[bool] = False
    """Whether the module is a `ClassifierLoss`."""

    has_memory: ClassVar[bool] = False
    """Whether the module overrides `update_memory`."""

    @property
    def needs_positives(self) -> bool:
        """Whether the loss is 0, without a gradient, for a batch in which no identity has two images."""
        return False

    def make(self, *, dimension: int, classes: int) -> Loss:
        """Build the loss for features of length `dimension` and so many identities."""
        raise NotImplementedError


class Loss(nn.Module):
    """Base of a loss.

    Attributes:
        settings: what it was built from.

    """

    settings: BaseLossSettings

    def __init__(self, settings: BaseLossSettings) -> None:
        super().__init__()
        self.settings = settings

    def forward(self, out: Output, labels: Tensor) -> Tensor:
        """Return the scalar loss of a batch; labels (B,) in [0, C)."""
        raise NotImplementedError

    def update_memory(self, out: Output, labels: Tensor) -> None:
        """Move what the loss keeps of its identities by the batch of all processes.

        Called after `forward` in training mode, without gradients. The settings' `has_memory` is true.

        Args:
            out: of the batch; `forward` may see that of this process only (`engine.mining: local`).
            labels: (B,) int64 in [0, C).

        """

    def vectors(self, out: Output) -> Tensor:
        """Return the vectors (B, D) that the loss is computed on."""
        return out.vector(self.settings.feature)

    def identity_rows(self) -> Tensor | None:
        """Return the vectors (C, D) that the loss has learnt of its identities, not detached; None = it has none."""
        return None

    def start_rows(self, x: Tensor, labels: Tensor) -> None:
        """Set the identity rows from vectors.

        Args:
            x: (N, D) vectors of the kind that the loss is computed on.
            labels: (N,) int64, all of 0..C-1.

        """


class ClassifierLoss(Loss):
    """Base of a loss with a bias-free linear classifier.

    Args:
        settings: of the loss; `has_classifier` is true.
        dimension: length D of the features.
        classes: number C of identities.
        std: standard deviation of the normal distribution that the weights begin with.

    """

    def __init__(self, settings: BaseLossSettings, *, dimension: int, classes: int, std: float) -> None:
        super().__init__(settings)
        self.classifier = nn.Linear(dimension, classes, bias=False)
        nn.init.normal_(self.classifier.weight, std=std)

    def identity_rows(self) -> Tensor:
        """Return the weights of the classifier (C, D)."""
        return self.classifier.weight

    def start_rows(self, x: Tensor, labels: Tensor) -> None:
        """Set the weights to the directions of the mean vectors."""
        with torch.no_grad():
            self.classifier.weight.copy_(class_means(x, labels))


def class_means(x: Tensor, labels: Tensor) -> Tensor:
    """Return the direction of the mean of each person's vectors, (C, D) of unit length.

    Args:
        x: (N, D).
        labels: (N,) int64, all of 0..C-1.

    >>> class_means(torch.tensor([[1.0, 0.0], [5.0, 0.0], [0.0, 2.0]]), torch.tensor([0, 0, 1]))
    tensor([[1., 0.],
            [0., 1.]])
    """
    sums = x.new_zeros(int(labels.max()) + 1, x.shape[1]).index_add(0, labels, x)
    return F.normalize(sums)


# ---- what a later stage takes over from the losses of an earlier one


def classifiers(losses: nn.ModuleDict) -> dict[str, nn.Linear]:
    """Return the classifier of each loss that has one, by name."""
    return {name: loss.classifier for name, loss in losses.items() if isinstance(loss, ClassifierLoss)}


def identity_rows(losses: nn.ModuleDict) -> dict[str, Tensor]:
    """Return the identity rows of each loss that has some, (C, D) without gradients, by name."""
    each_rows = {name: loss.identity_rows() for name, loss in losses.items() if isinstance(loss, Loss)}
    return {name: rows.detach() for name, rows in each_rows.items() if rows is not None}
