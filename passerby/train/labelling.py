"""Pseudo-labels: assigned by a method at the start of every epoch of an unlabelled stage."""

from __future__ import annotations

from typing import cast

import numpy as np
import torch

from passerby.data.transforms import mix_seeds
from passerby.errors import UserError
from passerby.losses.loss import Loss
from passerby.train import distributed
from passerby.train.groupings import Grouping, save_vectors
from passerby.train.run import Run
from passerby.types import UNKNOWN, Ints


def choose_labels(run: Run) -> Ints:
    """Return the labels of the coming epoch: those of the checkpoint, of a method, or of the data, in this order.

    In an unlabelled stage the losses are made anew for what a method has assigned, and all methods get ready for it.

    Returns:
        (N,) or (N, V) int64, -1 = not to be used.

    """
    if run.labels is not None:
        return cast("Ints", run.labels.numpy())
    run.embedding_cache = {}
    spoken = (method.pseudo_labels(run) for method in run.active_methods)
    labels = next((found for found in spoken if found is not None), run.stage.train.pid)
    labels = np.ascontiguousarray(labels)
    if not run.stage.labelled:
        _adopt(run, labels)
    run.embedding_cache, run.labels = None, torch.from_numpy(labels)
    return labels


def _adopt(run: Run, labels: Ints) -> None:
    """Make the losses for other people, let the methods get ready, and give the optimiser what learns now."""
    people = labels if labels.ndim == 1 else labels[:, 0]
    _require_batch(run, people)
    torch.manual_seed(mix_seeds(run.recipe.engine.seed, run.stage_number, run.epoch))
    earlier = run.losses
    run.make_losses(int(people.max()) + 1)
    _begin_at_means(run, people)
    for name, learnt in earlier.log_variances.items():
        run.losses.log_variances[name] = learnt
    for method in run.active_methods:
        method.on_epoch_start(run, labels)
    run.renew_optimiser()
    if distributed.rank() == 0:
        save_labels(run, labels)


def _require_batch(run: Run, people: Ints) -> None:
    wanted, found = run.recipe.data.identities, len(np.unique(people[people >= 0]))
    if found < wanted:
        raise UserError(
            f"{run.stage.name}: {found} people were found among its {len(people):,} images, and a batch needs {wanted} "
            f"(data.identities); make batches smaller, or the clusters more (a smaller eps)"
        )


def _begin_at_means(run: Run, people: Ints) -> None:
    """Let what the losses learn of identities begin at the vectors of the clusters."""
    known = people >= 0
    labels = torch.from_numpy(people[known]).to(run.device)
    if not run.losses.losses:
        return
    found = run.vectors()
    for loss in run.losses.losses.values():
        if isinstance(loss, Loss):
            vectors = torch.from_numpy(found.vector(loss.settings.feature)[known]).to(run.device)
            loss.start_rows(vectors, labels)


def save_labels(run: Run, labels: Ints) -> None:
    """Keep the labels of an epoch with their images, and what they were read off."""
    evidence = {name: value for method in run.active_methods for name, value in method.evidence().items()}
    train = run.stage.train
    grouping = Grouping(
        stage=run.stage_number + 1,
        epoch=run.epoch + 1,
        labels=labels,
        path=train.path,
        cam=train.told_cam,
        truth=run.stage.truth,
        hidden=train.pid == UNKNOWN,
        curve=evidence.get("curve"),
        site=np.array(run.stage.sources)[run.stage.origin],
    )
    grouping.save(run.folder)
    if "vectors" in evidence:
        save_vectors(run.folder, grouping, evidence["vectors"])
