"""The forward pass of a run and the losses of its stage."""

from __future__ import annotations

import torch

from passerby.losses.mix import LossTerm
from passerby.training import distributed
from passerby.training.setup import Setup
from passerby.training.state import TrainState
from passerby.types import Batch, Output


def forward(setup: Setup, state: TrainState, batch: Batch) -> Output:
    """Return the output of the trained model for a batch, with a graph; that of a stage without images is empty."""
    if not state.settings.reads_images:
        nothing = batch.labels.new_empty((len(batch), 0), dtype=torch.float32)
        return Output(nothing, nothing, nothing[:, :, None, None])
    with setup.autocast():
        out: Output = state.embedder(batch.inputs)
    return out


def compute_losses(setup: Setup, state: TrainState, batch: Batch, out: Output) -> dict[str, LossTerm]:
    """Return the losses of the stage for an output, in float32, over the batches of all processes or of this one.

    What losses keep of identities, such as centres, moves by the batches of all processes in any case, or it would be
    another one in each process.
    """
    labels, local = batch.identities, setup.recipe.engine.mining == "local"
    terms: dict[str, LossTerm]
    if not local:
        terms = state.losses(*distributed.gather(out, labels))
        return terms
    joint = None
    if state.losses.has_memory:
        with torch.no_grad():
            joint = distributed.gather(out, labels)
    terms = state.losses(out, labels, joint=joint)
    return terms
