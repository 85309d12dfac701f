"""Triplet loss in four forms: a far positive against a near negative of each anchor."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator
from torch import Tensor
from torch.nn import functional as F

from passerby.losses.loss import BaseLossSettings, Loss
from passerby.losses.mining import Distance, complete_anchors, hardest, pair_distances, softly_hardest
from passerby.losses.pieces import Pieces, combine, cut, require_pieces
from passerby.types import Output, VectorName

Form = Literal["hard", "soft", "weighted", "pull"]
"""With p the positive and n the negative of an anchor. `hard`: relu(p - n + margin), of the hardest; `soft`:
log(1 + exp(p - n)), of the hardest; `weighted`: the same of p and n averaged softly over all pairs; `pull`:
p + relu(p - n + margin), of the hardest, which keeps pulling an identity together after the margin is met."""


def triplet_loss(
    x: Tensor,
    labels: Tensor,
    *,
    form: Form = "hard",
    margin: float = 0.3,
    distance: Distance = "euclidean",
    anchors: Literal["valid", "all"] = "valid",
) -> Tensor:
    """Return the mean over anchors of one of the forms of the triplet loss.

    Args:
        x: (B, D) features.
        labels: (B,) identities.
        form: see `Form`.
        margin: in units of `distance`, >= 0; the forms `soft` and `weighted` have none.
        distance: see `Distance`.
        anchors: `valid` leaves out anchors without another image of theirs or without any other identity, and gives 0
            (with a zero gradient) when none is left; `all` keeps them, a lone image being its own positive.

    Reference: Hermans et al., "In Defense of the Triplet Loss for Person Re-Identification", arXiv 2017, equation 5 and
    section 2 (soft margin); Ye et al., "Deep Learning for Person Re-identification: A Survey and Outlook", TPAMI 2021,
    equation 4 (weighted).

    >>> import torch
    >>> x, labels = torch.tensor([[0.0], [1.0], [3.0], [4.0]]), torch.tensor([0, 0, 1, 1])
    >>> triplet_loss(x, labels, margin=2.0).item()
    0.5
    >>> triplet_loss(x, labels, margin=2.0, form="pull").item()
    1.5
    """
    select_pairs = softly_hardest if form == "weighted" else hardest
    positive, negative = select_pairs(pair_distances(x, distance=distance), labels)
    gap = positive - negative  # (B,)
    losses = F.softplus(gap) if form in ("soft", "weighted") else (gap + margin).relu()
    if form == "pull":
        losses = losses + positive
    if anchors == "all":
        return losses.mean()
    valid = complete_anchors(labels)
    return losses[valid].sum() / valid.sum().clamp_min(1)


class TripletSettings(BaseLossSettings):
    """Triplet loss."""

    form: Form = Field(
        "hard", description="hard: hinge of the hardest pairs; soft: soft margin; weighted: soft mining; pull: hard + p"
    )
    margin: Annotated[float, Field(ge=0)] = Field(0.3, description="margin, for the forms hard and pull")
    distance: Distance = Field("euclidean", description="distance between features")
    feature: VectorName = Field("before_neck", description="feature that is compared")
    pieces: Pieces = 1
    anchors: Literal["valid", "all"] = Field(
        "valid", description="valid: anchors with a positive and a negative; all: every image"
    )

    @property
    def idle(self) -> frozenset[str]:
        """The margin, of the forms that have none."""
        return frozenset({"margin"}) if self.form in ("soft", "weighted") else frozenset()

    @property
    def needs_positives(self) -> bool:
        """Whether anchors without another image of their identity are left out."""
        return self.anchors == "valid"

    @model_validator(mode="after")
    def _nothing_idle(self) -> Self:
        """Refuse a margin that would have no effect."""
        if "margin" in self.idle and self.margin != type(self).model_fields["margin"].default:
            raise ValueError(f"margin has no effect with form: {self.form}")
        return self

    def make(self, *, dimension: int, classes: int) -> Triplet:
        """Build the loss for features of `dimension`; the identities have no part in it."""
        require_pieces(dimension, self.pieces, loss="triplet")
        return Triplet(self)


class Triplet(Loss):
    """`triplet_loss` of an embedder's output.

    With `pieces: projection` the vector of the last block but one is compared too, before the neck, as in CLIP-ReID.
    """

    settings: TripletSettings

    def forward(self, out: Output, labels: Tensor) -> Tensor:
        """Return the scalar loss of a batch; labels (B,)."""
        settings = self.settings
        each_loss = partial(
            triplet_loss,
            form=settings.form,
            margin=settings.margin,
            distance=settings.distance,
            anchors=settings.anchors,
        )
        pieces = cut(out, settings.feature, settings.pieces)
        if settings.pieces == "projection" and settings.feature == "before_neck" and out.penultimate is not None:
            pieces = (out.penultimate, *pieces)
        return combine([each_loss(piece, labels) for piece in pieces], settings.pieces)
