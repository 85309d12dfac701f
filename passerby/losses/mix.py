"""The weighted sum of the losses of a recipe; each is computed once and logged separately."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, cast

import torch
from torch import Tensor, nn

from passerby.choices import ChoiceSettings
from passerby.losses.loss import BaseLossSettings, Loss
from passerby.losses.table import LOSSES
from passerby.losses.weights import LIMIT, learned_share
from passerby.registry import Table
from passerby.types import Output, VectorName


@dataclass(frozen=True)
class LossTerm:
    """One part of the total loss.

    Attributes:
        value: () the loss without its weight.
        weight: factor in the sum.
        log_variance: () the s of a learnt weight, of which `weight` is then the present value; None when it is fixed.

    """

    value: Tensor
    weight: float = 1.0
    log_variance: Tensor | None = None

    @property
    def weighted(self) -> Tensor:
        """The weighted value, a summand of the total."""
        return self.weight * self.value if self.log_variance is None else learned_share(self.value, self.log_variance)


class LossSettings(ChoiceSettings):
    """The losses of the sum, by their keys in `LOSSES`; `null` removes one."""

    table: ClassVar[Table[BaseLossSettings]] = LOSSES

    @property
    def chosen(self) -> dict[str, BaseLossSettings]:
        """The active losses by name, in the order of the table."""
        return super().chosen

    @property
    def features(self) -> dict[str, VectorName]:
        """Vector that each loss that is present trains: `before_neck` or `after_neck`."""
        return {name: loss.feature for name, loss in self.chosen.items()}

    @property
    def of_pairs(self) -> tuple[str, ...]:
        """The losses that are 0, without a gradient, for a batch in which no identity has two images."""
        return tuple(name for name, loss in self.chosen.items() if loss.needs_positives)

    @property
    def separating_losses(self) -> tuple[str, ...]:
        """The losses with a weight that separate identities from each other."""
        return tuple(n for n, loss in self.chosen.items() if loss.separates_identities and loss.weight != 0)


def default_losses() -> LossSettings:
    """Return the losses of a recipe that names none."""
    return LossSettings.model_validate({"softmax": LOSSES["softmax"](), "triplet": LOSSES["triplet"]()})


class LossMix(nn.Module):
    """The losses of one stage, with their own parameters.

    Args:
        settings: which losses.
        dimension: length D of the features.
        classes: number C of identities; in an unlabelled stage that of the clusters of the present epoch, 0 before.

    """

    def __init__(self, settings: LossSettings, *, dimension: int, classes: int) -> None:
        super().__init__()
        self.losses = nn.ModuleDict(
            {name: loss.make(dimension=dimension, classes=classes) for name, loss in settings.chosen.items()}
        )
        weights = {name: loss.weight for name, loss in settings.chosen.items()}
        self.weights = {name: weight for name, weight in weights.items() if weight != "learned"}
        self.has_memory = any(chosen.has_memory for chosen in settings.chosen.values())
        self.log_variances = nn.ParameterDict(
            {name: nn.Parameter(torch.zeros(())) for name, weight in weights.items() if weight == "learned"}
        )

    def forward(
        self, out: Output, labels: Tensor, *, joint: tuple[Output, Tensor] | None = None
    ) -> dict[str, LossTerm]:
        """Return one term per loss; images with label -1 take no part.

        Args:
            out: the vectors that the losses are computed on.
            labels: (B,) int64.
            joint: output and labels of all processes, which move the memories of losses; None: `out` has them already.

        """
        out, labels = _labelled(out, labels)
        terms = {name: self._term(name, loss(out, labels)) for name, loss in self.losses.items()}
        if self.training and self.has_memory:
            self._update_memories(*((out, labels) if joint is None else _labelled(*joint)))
        return terms

    @torch.no_grad()
    def _update_memories(self, out: Output, labels: Tensor) -> None:
        for loss in self.losses.values():
            cast("Loss", loss).update_memory(out, labels)

    @property
    def no_weight_decay(self) -> list[nn.Parameter]:
        """The parameters excluded from weight decay."""
        return list(self.log_variances.parameters())

    def _term(self, name: str, value: Tensor) -> LossTerm:
        if name in self.weights:
            return LossTerm(value, self.weights[name])
        log_variance = self.log_variances[name]
        with torch.no_grad():  # not a clamp in the graph, where an s at the limit would have no gradient to return by
            log_variance.clamp_(-LIMIT, LIMIT)
        return LossTerm(value, math.exp(-log_variance.item()), log_variance)


def _labelled(out: Output, labels: Tensor) -> tuple[Output, Tensor]:
    """Leave out images with label -1."""
    labelled = labels >= 0
    return (out, labels) if bool(labelled.all()) else (_rows(out, labelled), labels[labelled])


def _rows(out: Output, rows: Tensor) -> Output:
    """Select rows of the vectors; the feature map stays whole, because no loss uses it."""
    optional = (out.stripes, out.projected, out.penultimate)
    stripes, projected, penultimate = (None if vectors is None else vectors[rows] for vectors in optional)
    return Output(out.before_neck[rows], out.after_neck[rows], out.map, stripes, projected, penultimate)


def total(terms: dict[str, LossTerm]) -> Tensor:
    """Sum the weighted terms."""
    return torch.stack([term.weighted.float() for term in terms.values()]).sum()
