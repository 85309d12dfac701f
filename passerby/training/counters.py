"""The position of a run, and the sums of the present epoch.

Stage, epoch and batch count from 0 in code, and from 1 where people read them.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor

from passerby.losses.mix import LossTerm


@dataclass(eq=False)
class Counters:
    """The position of a run, with the labels and sums of the unfinished epoch.

    Attributes:
        stage, epoch, iteration: what comes next, each from 0; the iteration counts batches in the epoch.
        ended: whether the methods of the present stage have done their work after its last epoch.
        labels: (N,) or (N, V) labels of the present epoch.
        earlier_labels: those of the epoch before in the same stage.
        sums: of each loss term in the present epoch: the sums of its values and of what was added, the latest weight.

    """

    stage: int = 0
    epoch: int = 0
    iteration: int = 0
    ended: bool = False
    labels: Tensor | None = None
    earlier_labels: Tensor | None = None
    sums: dict[str, list[float]] = field(default_factory=dict)

    def __str__(self) -> str:
        return position_text(stage=self.stage, epoch=self.epoch, batch=self.iteration)

    @property
    def at_start(self) -> bool:
        """Whether the first batch of the present stage comes next."""
        return self.epoch == self.iteration == 0

    def begin_stage(self, number: int) -> None:
        """Go to the first batch of a stage."""
        self.stage, self.epoch, self.iteration, self.ended = number, 0, 0, False
        self.labels, self.earlier_labels, self.sums = None, None, {}

    def assign(self, labels: Tensor) -> None:
        """Keep the labels of the present epoch."""
        self.labels = labels

    def end_batch(self) -> None:
        """Go to the next batch of the epoch."""
        self.iteration += 1

    def end_epoch(self) -> None:
        """Go to the first batch of the next epoch."""
        self.epoch, self.iteration, self.sums = self.epoch + 1, 0, {}
        self.labels, self.earlier_labels = None, self.labels

    def end_stage(self) -> None:
        """Mark the end-of-stage work of the methods as finished."""
        self.ended = True

    def add_losses(self, terms: dict[str, LossTerm], values: list[float], weighted: list[float]) -> None:
        """Add the loss terms of a batch to the sums of the epoch.

        Args:
            terms: by name.
            values: of each term, as computed.
            weighted: of each term, as added to the total.

        """
        for (name, term), value, added in zip(terms.items(), values, weighted, strict=True):
            before = self.sums.get(name, [0.0, 0.0])
            self.sums[name] = [before[0] + value, before[1] + added, term.weight]


def position_text(**indices: int) -> str:
    """Return indices from 0 in words, counted from 1, with commas in those above a thousand.

    >>> position_text(stage=0, epoch=2)
    'stage 1, epoch 3'
    >>> position_text(batch=999_999)
    'batch 1,000,000'
    """
    return ", ".join(f"{name} {index + 1:,}" for name, index in indices.items())
