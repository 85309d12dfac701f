"""Batch-hard triplets: for each anchor the farthest of its own and the nearest of the others.

Mining looks at labels, never at positions in the batch. Distances are computed in float32 even when the network is not.
"""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from passerby.settings import Settings
from passerby.types import Output

Distance = Literal["euclidean", "euclidean_norm", "cosine_sq"]
"""`euclidean`: of the vectors as they are; `euclidean_norm`: of L2-normalised vectors, in [0, 2]; `cosine_sq`: the
square of that, 2 - 2 cos, in [0, 4]. The last two order pairs alike but give a margin another meaning."""

_FLOOR = 1e-12  # a root has no gradient at 0


def pair_distances(x: Tensor, *, distance: Distance = "euclidean") -> Tensor:
    """Return all distances (B, B) of the rows of x (B, D), with a gradient everywhere."""
    x = x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
    if distance != "euclidean":
        x = nn.functional.normalize(x)
    squares = x.square().sum(dim=1)
    squared = squares[:, None] + squares[None, :] - 2 * x @ x.T  # (B, B)
    if distance == "cosine_sq":
        return squared.clamp_min(0)
    return squared.clamp_min(_FLOOR).sqrt()


def hardest(distances: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the hardest positive (B,), the hardest negative (B,) and whether the anchor has both (B,).

    The anchor itself counts as its positive, so a lone image has a hardest positive of about 0. Without any negative
    the second value is infinite.
    """
    same = labels[:, None] == labels[None, :]  # (B, B)
    positive = distances.masked_fill(~same, -torch.inf).amax(dim=1)
    negative = distances.masked_fill(same, torch.inf).amin(dim=1)
    return positive, negative, (same.sum(dim=1) > 1) & ~same.all(dim=1)


def batch_hard_triplet(
    x: Tensor,
    labels: Tensor,
    *,
    margin: float = 0.3,
    distance: Distance = "euclidean",
    anchors: Literal["valid", "all"] = "valid",
) -> Tensor:
    """Return the mean over anchors of relu(hardest positive - hardest negative + margin).

    Args:
        x: (B, D) features.
        labels: (B,) identities.
        margin: in units of `distance`, >= 0.
        distance: see `Distance`.
        anchors: `valid` leaves out anchors without another image of theirs or without any other identity, and gives 0
            (with a zero gradient) when none is left; `all` keeps them, a lone image being its own positive.

    Reference: Hermans et al., "In Defense of the Triplet Loss for Person Re-Identification", arXiv 2017, equation 5.

    >>> batch_hard_triplet(torch.tensor([[0.0], [1.0], [3.0], [4.0]]), torch.tensor([0, 0, 1, 1]), margin=2.0).item()
    0.5
    """
    positive, negative, valid = hardest(pair_distances(x, distance=distance), labels)
    losses = (positive - negative + margin).relu()  # (B,)
    if anchors == "all":
        return losses.mean()
    return losses[valid].sum() / valid.sum().clamp_min(1)


class TripletSettings(Settings):
    """Batch-hard triplet loss."""

    weight: Annotated[float, Field(ge=0)] = 1.0
    margin: Annotated[float, Field(ge=0)] = 0.3
    distance: Distance = "euclidean"
    feature: Literal["embedding", "feature"] = Field("feature", description="what is compared")
    anchors: Literal["valid", "all"] = "valid"

    def make(self, *, dimension: int, classes: int) -> Triplet:
        """Build the loss; the arguments are those of every loss, a triplet needs none of them."""
        return Triplet(self)


class Triplet(nn.Module):
    """`batch_hard_triplet` of an embedder's output."""

    def __init__(self, settings: TripletSettings) -> None:
        super().__init__()
        self.settings = settings

    def forward(self, out: Output, labels: Tensor) -> Tensor:
        """Return the scalar loss of a batch; labels (B,)."""
        chosen = self.settings
        vectors = out.feature if chosen.feature == "feature" else out.embedding
        return batch_hard_triplet(
            vectors, labels, margin=chosen.margin, distance=chosen.distance, anchors=chosen.anchors
        )
