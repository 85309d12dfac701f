"""Sampling of joint training: images drawn from each data set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from passerby.training.run_log import DrawnRecord, EpochRecord


@dataclass(frozen=True)
class DrawnShare:
    """The images that one stage has drawn from one of its data sets.

    Attributes:
        stage: its title.
        dataset: the data set.
        images: drawn, repeats counted.
        percent: of all images that the stage drew, in 0..100.
        batches: those in which the data set was.
        count_batches: all batches of the stage.

    """

    stage: str
    dataset: str
    images: int
    percent: float
    batches: int
    count_batches: int


def shares(epochs: Sequence[EpochRecord], *, batch_sizes: Sequence[int]) -> list[DrawnShare]:
    """Return the sums over the epochs of each joint stage; empty when no stage joined data sets.

    Args:
        epochs: the epochs of a run.
        batch_sizes: images in a batch of each stage, of all processes together.

    """
    joint: dict[tuple[int, str], list[dict[str, DrawnRecord]]] = {}
    for record in epochs:
        if record.drawn:
            joint.setdefault((record.stage, record.title), []).append(record.drawn)
    return [
        share
        for (number, title), counts in joint.items()
        for share in _of_stage(title, counts, batch_sizes[number - 1])
    ]


def _of_stage(title: str, counts: Sequence[dict[str, DrawnRecord]], batch_size: int) -> list[DrawnShare]:
    images = {name: sum(epoch[name].images for epoch in counts) for name in counts[0]}
    batches = {name: sum(epoch[name].batches for epoch in counts) for name in counts[0]}
    total = sum(images.values())
    return [
        DrawnShare(title, name, images[name], 100 * images[name] / total, batches[name], total // batch_size)
        for name in images
    ]
