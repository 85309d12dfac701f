"""All losses of a recipe together: each is computed once, logged apart, and added with its weight."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from passerby.errors import UserError
from passerby.losses.circle import CircleSettings
from passerby.losses.margins import ArcfaceSettings, CircleSoftmaxSettings, CosfaceSettings
from passerby.losses.softmax import SoftmaxSettings
from passerby.losses.triplet import TripletSettings
from passerby.settings import Settings
from passerby.types import Output


@dataclass(frozen=True)
class Term:
    """One part of the total loss: an unweighted scalar and the weight it is added with."""

    value: Tensor
    weight: float = 1.0

    @property
    def weighted(self) -> Tensor:
        """What goes into the total."""
        return self.weight * self.value


AnyLoss = SoftmaxSettings | ArcfaceSettings | CosfaceSettings | CircleSoftmaxSettings | TripletSettings | CircleSettings


class LossSettings(Settings):
    """Which losses are summed. A key leads to the class of the same name; `null` removes one."""

    softmax: SoftmaxSettings | None = None
    arcface: ArcfaceSettings | None = None
    cosface: CosfaceSettings | None = None
    circle_softmax: CircleSoftmaxSettings | None = None
    triplet: TripletSettings | None = None
    circle: CircleSettings | None = None

    @property
    def chosen(self) -> dict[str, AnyLoss]:
        """The losses that are present, by name, in the order of the class."""
        return {name: value for name in type(self).model_fields if (value := getattr(self, name)) is not None}


class LossMix(nn.Module):
    """The losses of one stage, with whatever they learn themselves.

    Args:
        settings: which losses.
        dimension: length D of the features.
        classes: number C of identities in the stage; 0 when the stage's identities are not known beforehand.

    """

    def __init__(self, settings: LossSettings, *, dimension: int, classes: int) -> None:
        super().__init__()
        if not settings.chosen:
            raise UserError("losses: at least one loss is needed, for example losses: {softmax: {}, triplet: {}}")
        self.losses = nn.ModuleDict(
            {name: chosen.make(dimension=dimension, classes=classes) for name, chosen in settings.chosen.items()}
        )
        self.weights = {name: chosen.weight for name, chosen in settings.chosen.items()}

    def forward(self, out: Output, labels: Tensor) -> dict[str, Term]:
        """Return one term per loss; images with label -1 take no part."""
        known = labels >= 0
        if not bool(known.all()):
            out, labels = _rows(out, known), labels[known]
        return {name: Term(loss(out, labels), self.weights[name]) for name, loss in self.losses.items()}


def _rows(out: Output, rows: Tensor) -> Output:
    """Keep some rows of the vectors; the map stays whole, because losses look at vectors."""
    parts = None if out.parts is None else out.parts[rows]
    return replace(out, feature=out.feature[rows], embedding=out.embedding[rows], parts=parts)


def total(terms: dict[str, Term]) -> Tensor:
    """Sum the weighted terms."""
    return torch.stack([term.weighted.float() for term in terms.values()]).sum()
