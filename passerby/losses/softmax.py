"""Identity classification: a linear layer over the training identities and a label-smoothed cross-entropy.

The classifier lives here and not in the model, so that a new stage can bring a new one and an export needs none.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from passerby.losses.mining import widen
from passerby.losses.weights import Weight
from passerby.settings import Settings
from passerby.types import Output


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
    return F.cross_entropy(widen(logits), labels, label_smoothing=smoothing)


class SoftmaxSettings(Settings):
    """Label-smoothed softmax over identities."""

    weight: Weight = 1.0
    smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.1
    feature: Literal["embedding", "feature"] = Field("embedding", description="what the classifier sees")

    def make(self, *, dimension: int, classes: int) -> Softmax:
        """Build the loss for features of `dimension` and `classes` identities."""
        return Softmax(self, dimension=dimension, classes=classes)


class Softmax(nn.Module):
    """A bias-free classifier, N(0, 0.001) at the start (Luo et al., 2019), with its loss."""

    def __init__(self, settings: SoftmaxSettings, *, dimension: int, classes: int) -> None:
        super().__init__()
        self.settings = settings
        self.classifier = nn.Linear(dimension, classes, bias=False)
        nn.init.normal_(self.classifier.weight, std=0.001)

    def forward(self, out: Output, labels: Tensor) -> Tensor:
        """Return the scalar loss of a batch; labels (B,) in [0, C)."""
        return smoothed_cross_entropy(self.logits(out), labels, smoothing=self.settings.smoothing)

    def logits(self, out: Output) -> Tensor:
        """Return what the classifier says (B, C)."""
        logits: Tensor = self.classifier(out.embedding if self.settings.feature == "embedding" else out.feature)
        return logits


# ---- what a new classifier takes over from an earlier one


def classifiers(losses: nn.ModuleDict) -> dict[str, nn.Linear]:
    """Return the classifier of each loss that has one, by name."""
    found = {name: getattr(loss, "classifier", None) for name, loss in losses.items()}
    return {name: head for name, head in found.items() if isinstance(head, nn.Linear)}


def person_rows(losses: nn.ModuleDict) -> dict[str, Tensor]:
    """Return what each loss knows of each person, (C, D) without gradients, by name: its classifier, or its centres."""
    heads = {name: head.weight.detach() for name, head in classifiers(losses).items()}
    centres = {name: getattr(loss, "centres", None) for name, loss in losses.items()}
    return heads | {name: rows for name, rows in centres.items() if isinstance(rows, Tensor)}
