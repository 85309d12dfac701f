"""Labels of an epoch: in an unlabelled stage, the pseudo-labels of a method, with losses for that many identities."""

from __future__ import annotations

from typing import cast

import numpy as np
import torch

from passerby.data.samplers.sampler import GroupSamplerSettings
from passerby.data.transforms import mix_seeds
from passerby.errors import UserError
from passerby.losses.loss import Loss
from passerby.methods.clustered import number_after_labelled
from passerby.training import distributed
from passerby.training.builder import StageBuilder
from passerby.training.pseudo_labels import PseudoLabels, save_vectors
from passerby.types import UNKNOWN, Ints, Stage


def assign_labels(builder: StageBuilder) -> Ints:
    """Return the labels of the coming epoch, from the checkpoint, a method, or the data, in this order.

    This also calls `on_epoch_start` of all methods, in an unlabelled stage after rebuilding the losses for new labels.

    Returns:
        (N,) or (N, V) int64, -1 = not to be used.

    """
    state, context = builder.state, builder.context
    if state.counters.labels is not None:
        return cast("Ints", state.counters.labels.numpy())
    with context.embedding_once():
        assigned = (method.pseudo_labels(context) for method in state.active_methods)
        pseudo_labels = next((each for each in assigned if each is not None), None)
        labels = np.ascontiguousarray(_unassigned(state.stage) if pseudo_labels is None else pseudo_labels)
        if state.stage.labelled:
            for method in state.active_methods:
                method.on_epoch_start(context, labels)
        else:
            _adopt(builder, labels)
            if pseudo_labels is not None and distributed.rank() == 0:
                save_labels(builder, labels)
    state.counters.assign(torch.from_numpy(labels))
    return labels


def _adopt(builder: StageBuilder, labels: Ints) -> None:
    """Rebuild losses and optimiser for new labels, and call `on_epoch_start` of the methods.

    Losses go on where every image has the label that it had in the epoch before, for example that of a teacher.
    """
    state, at = builder.state, builder.state.counters
    identities = labels if labels.ndim == 1 else labels[:, 0]
    _require_batch(builder, identities)
    torch.manual_seed(mix_seeds(builder.setup.recipe.engine.seed, at.stage, at.epoch))
    count = int(identities.max()) + 1
    unchanged = at.earlier_labels is not None and np.array_equal(labels, at.earlier_labels.numpy())
    if not unchanged or state.classes != count:
        earlier = state.losses
        builder.make_losses(count)
        _begin_at_means(builder, identities)
        for name, learnt in earlier.log_variances.items():
            state.losses.log_variances[name] = learnt
    for method in state.active_methods:
        method.on_epoch_start(builder.context, labels)
    builder.renew_optimiser()


def _unassigned(stage: Stage) -> Ints:
    """Return the labels (N,) of a stage without pseudo-labels: an unlabelled image is its own identity."""
    if stage.labelled:
        return stage.train.pid
    return number_after_labelled(stage, np.arange(int((stage.train.pid == UNKNOWN).sum())))


def _require_batch(builder: StageBuilder, identities: Ints) -> None:
    sampler, count = builder.state.settings.data.sampler, len(np.unique(identities[identities >= 0]))
    if isinstance(sampler, GroupSamplerSettings) and count < sampler.identities:
        raise UserError(
            f"{builder.state.stage.name}: {count} clusters were found in its {len(identities):,} images, and a batch "
            f"needs {sampler.identities} (data.sampler.identities); lower data.sampler.identities, or find more "
            "clusters with a smaller eps"
        )


def _begin_at_means(builder: StageBuilder, identities: Ints) -> None:
    """Initialise the identity rows of the losses with the mean vectors of the clusters."""
    losses, device = builder.state.losses.losses, builder.setup.device
    labelled = identities >= 0
    labels = torch.from_numpy(identities[labelled]).to(device)
    if not losses:
        return
    embedded = builder.context.vectors()
    for loss in losses.values():
        if isinstance(loss, Loss):
            vectors = torch.from_numpy(embedded.vector(loss.settings.feature)[labelled]).to(device)
            loss.start_rows(vectors, labels)


def save_labels(builder: StageBuilder, labels: Ints) -> None:
    """Write the labels of an epoch with their images, and the clustered vectors."""
    state = builder.state
    clustered, train = builder.context.clustered, state.stage.train
    record = PseudoLabels(
        stage=state.counters.stage + 1,
        epoch=state.counters.epoch + 1,
        labels=labels,
        path=train.path,
        cam=train.raw_cam,
        truth=state.stage.truth,
        hidden=train.pid == UNKNOWN,
        curve=None if clustered is None else clustered.curve,
        dataset=np.array(state.stage.sources)[state.stage.origin],
    )
    record.save(builder.setup.folder)
    if clustered is not None:
        save_vectors(builder.setup.folder, record, clustered.vectors)
