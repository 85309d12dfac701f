"""The forward pass of a run and the losses of its stage."""

from __future__ import annotations

from passerby.losses.mix import LossTerm
from passerby.training import distributed
from passerby.training.setup import Setup
from passerby.training.state import TrainState
from passerby.types import Batch, Output


def forward(setup: Setup, state: TrainState, batch: Batch) -> Output:
    """Return the output of the trained model for a batch, with a graph."""
    with setup.autocast():
        out: Output = state.embedder(batch.inputs)
    return out


def compute_losses(setup: Setup, state: TrainState, batch: Batch, out: Output) -> dict[str, LossTerm]:
    """Return the losses of the stage for an output, in float32 and over the batches of all processes."""
    local = setup.recipe.engine.mining == "local"
    seen, labels = (out, batch.identities) if local else distributed.gather(out, batch.identities)
    terms: dict[str, LossTerm] = state.losses(seen, labels)
    return terms
