"""All losses of a recipe together: each is computed once, logged apart, and added with its fixed or learnt weight."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from passerby.losses.center import CenterSettings
from passerby.losses.circle import CircleSettings
from passerby.losses.margins import ArcfaceSettings, CircleSoftmaxSettings, CosfaceSettings
from passerby.losses.softmax import SoftmaxSettings
from passerby.losses.triplet import TripletSettings
from passerby.losses.weights import LIMIT, learned_share
from passerby.settings import Settings
from passerby.types import Output


@dataclass(frozen=True)
class Term:
    """One part of the total loss.

    Attributes:
        value: () the loss without its weight.
        weight: what it is multiplied with.
        log_variance: () the s of a learnt weight, of which `weight` is then the present value; None when it is fixed.

    """

    value: Tensor
    weight: float = 1.0
    log_variance: Tensor | None = None

    @property
    def weighted(self) -> Tensor:
        """What goes into the total."""
        return self.weight * self.value if self.log_variance is None else learned_share(self.value, self.log_variance)


AnyLoss = SoftmaxSettings | ArcfaceSettings | CosfaceSettings | CircleSoftmaxSettings | TripletSettings | CircleSettings


class LossSettings(Settings):
    """Which losses are summed. A key leads to the class of the same name; `null` removes one."""

    softmax: SoftmaxSettings | None = None
    arcface: ArcfaceSettings | None = None
    cosface: CosfaceSettings | None = None
    circle_softmax: CircleSoftmaxSettings | None = None
    triplet: TripletSettings | None = None
    circle: CircleSettings | None = None
    center: CenterSettings | None = None

    @property
    def chosen(self) -> dict[str, AnyLoss]:
        """The losses that are present, by name, in the order of the class."""
        return {name: value for name in type(self).model_fields if (value := getattr(self, name)) is not None}

    @property
    def features(self) -> dict[str, str]:
        """Which vector each loss that is present trains: `feature` before the neck, or `embedding` after it."""
        return {name: chosen.feature for name, chosen in self.chosen.items()}

    @property
    def of_pairs(self) -> tuple[str, ...]:
        """The losses that are 0, without a gradient, for a batch in which nobody has two images."""
        triplet = self.triplet is not None and self.triplet.anchors == "valid"
        return (*(("triplet",) if triplet else ()), *(("circle",) if self.circle is not None else ()))

    @property
    def apart(self) -> tuple[str, ...]:
        """The losses that can move people away from each other: those with a weight, without the one of centres."""
        return tuple(name for name, chosen in self.chosen.items() if name != "center" and chosen.weight != 0)


class LossMix(nn.Module):
    """The losses of one stage, with whatever they learn themselves.

    Args:
        settings: which losses.
        dimension: length D of the features.
        classes: number C of identities; in an unlabelled stage that of the clusters of the present epoch, 0 before.

    """

    def __init__(self, settings: LossSettings, *, dimension: int, classes: int) -> None:
        super().__init__()
        self.losses = nn.ModuleDict(
            {name: chosen.make(dimension=dimension, classes=classes) for name, chosen in settings.chosen.items()}
        )
        weights = {name: chosen.weight for name, chosen in settings.chosen.items()}
        self.weights = {name: weight for name, weight in weights.items() if weight != "learned"}
        self.log_variances = nn.ParameterDict(
            {name: nn.Parameter(torch.zeros(())) for name, weight in weights.items() if weight == "learned"}
        )

    def forward(self, out: Output, labels: Tensor) -> dict[str, Term]:
        """Return one term per loss; images with label -1 take no part."""
        known = labels >= 0
        if not bool(known.all()):
            out, labels = _rows(out, known), labels[known]
        return {name: self._term(name, loss(out, labels)) for name, loss in self.losses.items()}

    @property
    def undecayed(self) -> list[nn.Parameter]:
        """The parameters that weight decay would pull to where they do not belong."""
        return list(self.log_variances.parameters())

    def _term(self, name: str, value: Tensor) -> Term:
        if name in self.weights:
            return Term(value, self.weights[name])
        log_variance = self.log_variances[name]
        with torch.no_grad():  # not a clamp in the graph, where an s at the limit would have no gradient to return by
            log_variance.clamp_(-LIMIT, LIMIT)
        return Term(value, math.exp(-log_variance.item()), log_variance)


def _rows(out: Output, rows: Tensor) -> Output:
    """Keep some rows of the vectors; the map stays whole, because losses look at vectors."""
    parts = None if out.parts is None else out.parts[rows]
    return replace(out, feature=out.feature[rows], embedding=out.embedding[rows], parts=parts)


def total(terms: dict[str, Term]) -> Tensor:
    """Sum the weighted terms."""
    return torch.stack([term.weighted.float() for term in terms.values()]).sum()
