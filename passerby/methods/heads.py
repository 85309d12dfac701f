"""Classifiers of earlier stages, and bias-free classifiers whose number and sizes change during a run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol, Self, runtime_checkable

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from passerby.training.context import MethodContext


@runtime_checkable
class HasEarlierHeads(Protocol):
    """A method with classifiers of earlier stages, which a method that interpolates the weights interpolates too."""

    def interpolate_heads(self, ctx: MethodContext, *, alpha: float) -> None:
        """Set the classifiers of earlier identities to alpha x present + (1 - alpha) x those before the stage."""
        ...


class HeadList(nn.ModuleList):
    """Classifiers (C, D); loading a state builds as many as it has, of their sizes."""

    @classmethod
    def from_rows(cls, rows: Sequence[Tensor], *, learning: int | None = None) -> Self:
        """Return one classifier for each of the tensors (C, D), which it begins at.

        Args:
            rows: what the classifiers begin at.
            learning: the first so many learn; None = all.

        """
        count = len(rows) if learning is None else learning
        return cls(_head(each, learns=place < count) for place, each in enumerate(rows))

    def get_extra_state(self) -> list[list[int | bool]]:
        """Return (C, D) of each, and whether it learns."""
        return [[*weight.shape, weight.requires_grad] for weight in self.parameters()]

    def set_extra_state(self, state: list[list[int | bool]]) -> None:
        """Build classifiers without values, which the rest of the state gives."""
        self._modules.clear()
        for count, dimension, learns in state:
            self.append(_head(torch.empty(count, dimension, device="meta"), learns=bool(learns)))


def _head(rows: Tensor, *, learns: bool) -> nn.Linear:
    head = nn.Linear(rows.shape[1], rows.shape[0], bias=False, device="meta")
    head.weight = nn.Parameter(rows.detach().clone(), requires_grad=learns)
    return head
