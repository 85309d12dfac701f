"""Plans of epochs: the images of each batch, and the number drawn from each data set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from passerby.data.samplers.parts import interleave, replayed_identities
from passerby.data.samplers.sampler import EpochImages, GroupSamplerSettings, SamplerSettings
from passerby.errors import UserError
from passerby.training.run_log import DrawnRecord
from passerby.types import UNKNOWN, Bools, Ints, Split, Stage


def count_batches(stage: Stage, sampler: SamplerSettings) -> int:
    """Return the length of an epoch: that of the stage's settings, or all its new images by the size of a batch.

    Images of the labelled source and of a memory are not counted.
    """
    if stage.iterations is not None:
        return stage.iterations
    new = stage.is_new if stage.labelled else stage.train.pid == UNKNOWN
    return max(1, int(new.sum()) // sampler.batch_size)


def epoch_images(stage: Stage, labels: Ints) -> EpochImages:
    """Return the images of a stage as a sampler sees them, with labels (N,), -1 = not to be used."""
    return EpochImages(labels, stage.train.cam, stage.origin, stage.sources)


def plan_epoch(stage: Stage, labels: Ints, generator: np.random.Generator, *, sampler: SamplerSettings) -> Ints:
    """Plan one epoch.

    Args:
        stage: the training images.
        labels: (N,) identity of each image in this epoch, -1 = not to be used.
        generator: source of randomness.
        sampler: how images are drawn.

    Returns:
        (count, B) rows.

    Raises:
        UserError: too few identities or images for a batch.

    """
    images, count = epoch_images(stage, labels), count_batches(stage, sampler)
    if not isinstance(sampler, GroupSamplerSettings):
        return sampler.plan(images, generator, count=count)
    if not stage.labelled:
        images = _lone_drawn_together(images, generator, instances=sampler.instances)
    if not stage.replay_ratio:
        return sampler.plan(images, generator, count=count)
    return _plan_with_memory(stage, images, generator, sampler=sampler, count=count)


def _plan_with_memory(
    stage: Stage, images: EpochImages, generator: np.random.Generator, *, sampler: GroupSamplerSettings, count: int
) -> Ints:
    """Plan an epoch in which a share of the identities of each batch comes from the last source, a memory."""
    old = np.where(stage.is_new, -1, images.labels)
    replayed = min(len(np.unique(old[old >= 0])), replayed_identities(sampler.identities, stage.replay_ratio))
    new = replace(images, labels=np.where(stage.is_new, images.labels, -1), sources=images.sources[:-1])
    plan = sampler.with_identities(sampler.identities - replayed).plan(new, generator, count=count)
    of_memory = sampler.for_one_dataset().with_identities(replayed)
    again = of_memory.plan(replace(images, labels=old), generator, count=count)
    return interleave(plan, again, instances=sampler.instances)


def _lone_drawn_together(images: EpochImages, generator: np.random.Generator, *, instances: int) -> EpochImages:
    """Return images with labels and cameras by which those that are the only ones of their label are grouped."""
    labels = lone_together(images.labels, images.origin, generator, instances=instances)
    return replace(images, labels=labels, cam=_apart(images.cam, labels != images.labels))


def lone_together(labels: Ints, origin: Ints, generator: np.random.Generator, *, instances: int) -> Ints:
    """Return labels (N,) by which to draw images where some are the only ones of their label.

    Such images are drawn as if `instances` of them, at random and of one data set, showed one identity. Each of them
    would be repeated otherwise, and batches would be full of copies.

    Args:
        labels: (N,), -1 = not to be used.
        origin: (N,) which data set each image comes from.
        generator: source of randomness.
        instances: K, images of each identity in a batch.

    >>> lone_together(np.array([0, 0, 1, 2]), np.zeros(4, int), np.random.default_rng(0), instances=2).tolist()
    [0, 0, 3, 3]
    """
    counts = np.bincount(labels[labels >= 0])
    lone = (labels >= 0) & (counts[np.maximum(labels, 0)] == 1) if len(counts) else np.zeros(len(labels), bool)
    grouped, following = labels.copy(), len(counts)
    for number in np.unique(origin[lone]):
        rows = generator.permutation(np.flatnonzero(lone & (origin == number)))
        grouped[rows] = following + np.arange(len(rows)) // instances
        following += -(-len(rows) // instances)
    return grouped


def _apart(cam: Ints, lone: Bools) -> Ints:
    """Return cameras (N,) with a separate one for each lone image, so that each is drawn once in its group."""
    apart = cam.copy()
    apart[lone] = cam.max(initial=0) + 1 + np.arange(int(lone.sum()))
    return apart


def require_cameras(stages: Sequence[tuple[Stage, SamplerSettings]]) -> None:
    """Raise `UserError` when images of other cameras are to be preferred and no stage has two known cameras."""
    preferring = [(stage, sampler) for stage, sampler in stages if sampler.without_cameras]
    if preferring and all(stage.train.count_cameras < 2 for stage, _ in preferring):
        sampler = preferring[0][1]
        raise UserError(
            f"data.sampler: {sampler.kind} prefers images from other cameras, which has no effect: no stage has "
            f"training images from two known cameras; set {sampler.without_cameras}"
        )


def require_batch(stage: Stage, sampler: SamplerSettings) -> None:
    """Raise `UserError` when the identities or images of a labelled stage do not fill a batch."""
    sampler.require_images(epoch_images(stage, stage.train.pid))


def drawn(plan: Ints, stage: Stage) -> dict[str, DrawnRecord]:
    """Count what a plan (count, B) draws of each data set of a joint stage; nothing when there is only one set."""
    if len(stage.sources) == 1:
        return {}
    origin = stage.origin[plan]  # (count, B)
    return {
        name: DrawnRecord(images=int((origin == number).sum()), batches=int((origin == number).any(axis=1).sum()))
        for number, name in enumerate(stage.sources)
    }


def stage_sentences(stage: Stage, sampler: SamplerSettings) -> list[str]:
    """Return sentences on the training images of a stage: counts of images, identities and cameras of each data set."""
    total = _counts(stage.train)
    if len(stage.sources) == 1:
        return [f"{stage.name}: {total}, {stage.epochs} epochs"]
    rows = [np.flatnonzero(stage.origin == number) for number in range(len(stage.sources))]
    parts = [f"{name} {_counts(stage.train.select(of_set))}" for name, of_set in zip(stage.sources, rows, strict=True)]
    sentences = [
        f"{stage.name}: {' + '.join(parts)}, jointly, {sampler.sharing}: {total} in all, {stage.epochs} epochs"
    ]
    if sampler.shares_evenly:
        share = count_batches(stage, sampler) * sampler.batch_size / len(stage.sources)
        times = ", ".join(f"{name} {share / len(of_set):.2g}" for name, of_set in zip(stage.sources, rows, strict=True))
        sentences.append(f"{stage.name}: how often an epoch shows each image on average: {times} times")
    return sentences


def _counts(split: Split) -> str:
    people = f"{split.count_identities:,} people" if split.count_identities else "unknown people"
    cameras = f"from {split.count_cameras} cameras" if split.count_cameras else "from unknown cameras"
    return f"{len(split):,} images of {people} {cameras}"
