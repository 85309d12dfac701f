"""Which images an epoch draws, in which batches, and from which data sets."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from passerby.data.loading import DataSettings
from passerby.data.samplers import (
    dataset_batches,
    group_batches,
    interleave,
    replayed_identities,
    require_even_shares,
    require_identities,
    shuffled_batches,
)
from passerby.errors import UserError
from passerby.training.run_log import DrawnRecord
from passerby.types import UNKNOWN, Bools, Ints, Split, Stage


def count_batches(stage: Stage, settings: DataSettings) -> int:
    """Return the length of an epoch: what the stage says, or all its new images by the size of a batch.

    Labelled images beside unlabelled ones do not count, as little as those of a memory.
    """
    if stage.iterations is not None:
        return stage.iterations
    new = stage.fresh if stage.labelled else stage.train.pid == UNKNOWN
    return max(1, int(new.sum()) // (settings.identities * settings.instances))


def plan_epoch(stage: Stage, labels: Ints, generator: np.random.Generator, *, settings: DataSettings) -> Ints:
    """Plan one epoch by the sampling that the settings name.

    Args:
        stage: what is learnt from.
        labels: (N,) identity of each image in this epoch, -1 = not to be used.
        generator: source of randomness.
        settings: the size of batches, and how data sets share them.

    Returns:
        (count, P * K) rows.

    Raises:
        UserError: too few people for a batch.

    """
    instances, count = settings.instances, count_batches(stage, settings)
    if settings.sampler == "shuffle":
        return shuffled_batches(labels, generator, size=settings.identities * instances, count=count)
    cam = stage.train.cam if settings.sampler == "pk_cameras" else None
    if not stage.labelled:
        drawn = lone_together(labels, stage.origin, generator, instances=instances)
        cam = None if cam is None else _apart(cam, drawn != labels)
        labels = drawn
    if not stage.recalled:
        return _plan_new(stage, labels, generator, settings=settings, identities=settings.identities, cam=cam)
    old = np.where(stage.fresh, -1, labels)
    recalled = min(len(np.unique(old[old >= 0])), replayed_identities(settings.identities, stage.recalled))
    new = np.where(stage.fresh, labels, -1)
    plan = _plan_new(stage, new, generator, settings=settings, identities=settings.identities - recalled, cam=cam)
    again = group_batches(old, generator, identities=recalled, instances=instances, count=count, cam=cam)
    return interleave(plan, again, instances=instances)


def lone_together(labels: Ints, origin: Ints, generator: np.random.Generator, *, instances: int) -> Ints:
    """Return labels (N,) by which to draw images where some are the only ones of their label.

    Such images are drawn as if `instances` of them, at random and of one data set, showed one person. Each of them
    would be repeated otherwise, and batches would be full of copies.

    Args:
        labels: (N,), -1 = not to be used.
        origin: (N,) which data set each image comes from.
        generator: source of randomness.
        instances: K, images of each person in a batch.

    >>> lone_together(np.array([0, 0, 1, 2]), np.zeros(4, int), np.random.default_rng(0), instances=2).tolist()
    [0, 0, 3, 3]
    """
    counts = np.bincount(labels[labels >= 0])
    lone = (labels >= 0) & (counts[np.maximum(labels, 0)] == 1) if len(counts) else np.zeros(len(labels), bool)
    drawn, following = labels.copy(), len(counts)
    for number in np.unique(origin[lone]):
        rows = generator.permutation(np.flatnonzero(lone & (origin == number)))
        drawn[rows] = following + np.arange(len(rows)) // instances
        following += -(-len(rows) // instances)
    return drawn


def _apart(cam: Ints, lone: Bools) -> Ints:
    """Return cameras (N,) in which each lone image has one of its own, so that each is drawn once in its group."""
    apart = cam.copy()
    apart[lone] = cam.max(initial=0) + 1 + np.arange(int(lone.sum()))
    return apart


def _plan_new(
    stage: Stage,
    labels: Ints,
    generator: np.random.Generator,
    *,
    settings: DataSettings,
    identities: int,
    cam: Ints | None,
) -> Ints:
    """Plan what is drawn of the new images, so many people a batch."""
    instances, count = settings.instances, count_batches(stage, settings)
    sources = stage.sources[:-1] if stage.recalled else stage.sources
    if settings.sampling == "datasets":
        return dataset_batches(
            labels,
            stage.origin,
            generator,
            sources=sources,
            identities=identities,
            instances=instances,
            count=count,
            cam=cam,
        )
    return group_batches(labels, generator, identities=identities, instances=instances, count=count, cam=cam)


def require_cameras(stages: Sequence[tuple[Stage, DataSettings]]) -> None:
    """Raise `UserError` when images of other cameras are to be preferred and no stage knows two cameras."""
    drawing = [stage for stage, settings in stages if settings.sampler == "pk_cameras"]
    if drawing and all(stage.train.count_cameras < 2 for stage in drawing):
        raise UserError(
            "data.sampler: pk_cameras has no effect: no stage has training images from two known cameras; set it to pk"
        )


def require_batch(stage: Stage, settings: DataSettings) -> None:
    """Raise `UserError` when the people of a labelled stage do not fill a batch."""
    if settings.sampler == "shuffle":
        shuffled_batches(
            stage.train.pid, np.random.default_rng(0), size=settings.identities * settings.instances, count=1
        )
    elif settings.sampling == "datasets":
        require_even_shares(stage.train.pid, stage.origin, sources=stage.sources, identities=settings.identities)
    else:
        require_identities(stage.train.pid, identities=settings.identities)


def drawn(plan: Ints, stage: Stage) -> dict[str, DrawnRecord]:
    """Count what a plan (count, B) draws of each data set of a joint stage; nothing when there is only one set."""
    if len(stage.sources) == 1:
        return {}
    origin = stage.origin[plan]  # (count, B)
    return {
        name: DrawnRecord(images=int((origin == number).sum()), batches=int((origin == number).any(axis=1).sum()))
        for number, name in enumerate(stage.sources)
    }


SAMPLING = {
    "identities": "all identities alike",
    "datasets": "an equal share of each data set in every batch",
}
"""How the people of a joint batch are chosen, in words."""


def stage_sentences(stage: Stage, settings: DataSettings) -> list[str]:
    """Say what a stage learns from: how many images, people and cameras, of joined data sets each by itself."""
    whole = _counts(stage.train)
    if len(stage.sources) == 1:
        return [f"{stage.name}: {whole}, {stage.epochs} epochs"]
    rows = [np.flatnonzero(stage.origin == number) for number in range(len(stage.sources))]
    parts = [f"{name} {_counts(stage.train.select(own))}" for name, own in zip(stage.sources, rows, strict=True)]
    found = [
        f"{stage.name}: {' + '.join(parts)}, jointly, {SAMPLING[settings.sampling]}: {whole} in all, "
        f"{stage.epochs} epochs"
    ]
    if settings.sampling == "datasets":
        share = count_batches(stage, settings) * settings.identities * settings.instances / len(stage.sources)
        times = ", ".join(f"{name} {share / len(own):.2g}" for name, own in zip(stage.sources, rows, strict=True))
        found.append(f"{stage.name}: how often an epoch shows each image on average: {times} times")
    return found


def _counts(split: Split) -> str:
    people = f"{split.count_identities:,} people" if split.count_identities else "unknown people"
    cameras = f"from {split.count_cameras} cameras" if split.count_cameras else "from unknown cameras"
    return f"{len(split):,} images of {people} {cameras}"
