"""A method is a list of parts. A part is an `nn.Module`, so device moves, parameters and saved state come free.

A part may speak at five moments; each verb does nothing unless the part says otherwise. What a part remembers must be a
buffer or a submodule, or it is gone after a resume.
"""

from __future__ import annotations

import copy
from typing import Protocol, TypeVar

import torch
from torch import nn

from passerby.losses.mix import LossMix, Term
from passerby.models.embedder import Embedder
from passerby.types import Batch, Ints, Output, Stage

M = TypeVar("M", bound=nn.Module)


class RunState(Protocol):
    """What a part may know of the run it takes part in.

    Attributes:
        embedder: the model that is trained.
        losses: the losses of the present stage.
        device: where both are.
        stage_number, epoch: both from 0.

    """

    embedder: Embedder
    losses: LossMix
    device: torch.device
    stage_number: int
    epoch: int


class Part(nn.Module):
    """Base of all parts."""

    def begin(self, run: RunState, stage: Stage) -> None:
        """Build what the stage needs; called once, before its first epoch, and not again after a resume."""

    def labels(self, run: RunState, stage: Stage) -> Ints | None:
        """Return (N,) or (N, V) labels for the coming epoch, -1 = leave out; None = not mine to say."""
        return None

    def terms(self, run: RunState, batch: Batch, out: Output) -> dict[str, Term]:
        """Return named terms to be added to the loss of this step."""
        return {}

    def after_step(self, run: RunState, batch: Batch, out: Output) -> None:
        """Update moving averages and memories; called without gradients after each optimiser step."""

    def end(self, run: RunState, stage: Stage) -> None:
        """Remember what must not be forgotten; called once, after the stage's last epoch."""


def frozen(module: M) -> M:
    """Return a copy that never learns: `eval` mode, so its batch-norm statistics stand still, and no gradients."""
    return copy.deepcopy(module).eval().requires_grad_(False)
