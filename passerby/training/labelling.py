"""The labels of an epoch: in an unlabelled stage, pseudo-labels that a method assigns, and losses that fit them."""

from __future__ import annotations

from typing import cast

import numpy as np
import torch

from passerby.data.transforms import mix_seeds
from passerby.errors import UserError
from passerby.losses.loss import Loss
from passerby.training import distributed
from passerby.training.builder import StageBuilder
from passerby.training.groupings import Grouping, save_vectors
from passerby.types import UNKNOWN, Ints


def choose_labels(builder: StageBuilder) -> Ints:
    """Return the labels of the coming epoch: those of the checkpoint, of a method, or of the data, in this order.

    In an unlabelled stage the losses are made anew for the labels that a method assigns, and all methods get ready.

    Returns:
        (N,) or (N, V) int64, -1 = not to be used.

    """
    state, context = builder.state, builder.context
    if state.counters.labels is not None:
        return cast("Ints", state.counters.labels.numpy())
    with context.embedding_once():
        assigned = (method.pseudo_labels(context) for method in state.active_methods)
        labels = next((each for each in assigned if each is not None), state.stage.train.pid)
        labels = np.ascontiguousarray(labels)
        if not state.stage.labelled:
            _adopt(builder, labels)
    state.counters.assign(torch.from_numpy(labels))
    return labels


def _adopt(builder: StageBuilder, labels: Ints) -> None:
    """Make the losses for other identities, let the methods get ready, and optimise what is trained now."""
    state, at = builder.state, builder.state.counters
    identities = labels if labels.ndim == 1 else labels[:, 0]
    _require_batch(builder, identities)
    torch.manual_seed(mix_seeds(builder.setup.recipe.engine.seed, at.stage, at.epoch))
    earlier = state.losses
    builder.make_losses(int(identities.max()) + 1)
    _begin_at_means(builder, identities)
    for name, learnt in earlier.log_variances.items():
        state.losses.log_variances[name] = learnt
    for method in state.active_methods:
        method.on_epoch_start(builder.context, labels)
    builder.renew_optimiser()
    if distributed.rank() == 0:
        save_labels(builder, labels)


def _require_batch(builder: StageBuilder, identities: Ints) -> None:
    data = builder.state.settings.data
    wanted, count = data.identities, len(np.unique(identities[identities >= 0]))
    if count < wanted and data.sampler != "shuffle":
        raise UserError(
            f"{builder.state.stage.name}: {count} people were found among its {len(identities):,} images, and a batch "
            f"needs {wanted} (data.identities); make batches smaller, or the clusters more (a smaller eps)"
        )


def _begin_at_means(builder: StageBuilder, identities: Ints) -> None:
    """Let what the losses learn of identities begin at the vectors of the clusters."""
    losses, device = builder.state.losses.losses, builder.setup.device
    known = identities >= 0
    labels = torch.from_numpy(identities[known]).to(device)
    if not losses:
        return
    found = builder.context.vectors()
    for loss in losses.values():
        if isinstance(loss, Loss):
            vectors = torch.from_numpy(found.vector(loss.settings.feature)[known]).to(device)
            loss.start_rows(vectors, labels)


def save_labels(builder: StageBuilder, labels: Ints) -> None:
    """Keep the labels of an epoch with their images, and what they were read off."""
    state = builder.state
    evidence = {name: value for method in state.active_methods for name, value in method.evidence().items()}
    train = state.stage.train
    grouping = Grouping(
        stage=state.counters.stage + 1,
        epoch=state.counters.epoch + 1,
        labels=labels,
        path=train.path,
        cam=train.raw_cam,
        truth=state.stage.truth,
        hidden=train.pid == UNKNOWN,
        curve=evidence.get("curve"),
        site=np.array(state.stage.sources)[state.stage.origin],
    )
    grouping.save(builder.setup.folder)
    if "vectors" in evidence:
        save_vectors(builder.setup.folder, grouping, evidence["vectors"])
