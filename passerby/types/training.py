"""Types of training: stage, batch and output of the model."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from passerby.errors import UserError
from passerby.types.columns import Bools, Ints, column
from passerby.types.images import Split
from passerby.types.vectors import VectorName

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, eq=False)
class Stage:
    """One leg of a run.

    Attributes:
        name: shown in the log and the report.
        train: the images to learn from; pids are relabelled 0..C-1 unless unlabelled.
        labelled: whether the pids may be used.
        epochs: how often the images are seen, >= 1.
        sources: the data sets that `train` was joined from, by name; default: one, called as the stage.
        origin: (N,) which of the sources each image comes from, 0..len(sources)-1; default: the first.
        recalled: share of the people of each batch, in [0, 1), that come from the last of the sources, which then holds
            images of earlier stages and does not count for the length of an epoch; 0 = there is no such source.
        absent: how many people of earlier stages classifiers are to know beside those of `train`, >= 0.
        truth: (N,) who is really in each image where `train` does not tell, -1 = unknown; for measuring, and for a
            method that asks for labels; of a single data set by its own numbers; default: the pids of `train`.
        iterations: batches in an epoch, >= 1; None = new images by the size of a batch.
        source: those of the sources that are labelled and shown together with the unlabelled ones.

    """

    name: str
    train: Split
    labelled: bool
    epochs: int
    sources: tuple[str, ...] = ()
    origin: Ints = field(default_factory=lambda: np.empty(0, np.int64))
    recalled: float = 0.0
    absent: int = 0
    truth: Ints = field(default_factory=lambda: np.empty(0, np.int64))
    iterations: int | None = None
    source: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.sources:
            object.__setattr__(self, "sources", (self.name,))
            object.__setattr__(self, "origin", np.zeros(len(self.train), np.int64))
        object.__setattr__(self, "origin", column("origin", self.origin, len(self.train), np.int64))
        if not np.isin(self.origin, np.arange(len(self.sources))).all():
            raise UserError(f"column 'origin' must hold 0..{len(self.sources) - 1}, the numbers of the sources")
        truth = self.truth if len(self.truth) else self.train.pid
        object.__setattr__(self, "truth", column("truth", truth, len(self.train), np.int64))

    @property
    def classes(self) -> int:
        """Number of classes of a classifier of the stage."""
        return self.train.count_identities + self.absent

    @property
    def learnt(self) -> tuple[str, ...]:
        """The data sets that the stage is about."""
        return tuple(name for name in self.sources if name not in self.source)

    @property
    def fresh(self) -> Bools:
        """(N,) which images are new, and not shown again from an earlier stage."""
        last: Bools = self.origin == len(self.sources) - 1
        return ~last if self.recalled else np.ones(len(self.train), bool)


@dataclass(frozen=True, eq=False)
class Batch:
    """Input of one training step.

    Attributes:
        images: (B, 3, H, W) uint8, colour order and size as the model's input settings say.
        labels: (B,) or (B, V) int64, 0..C-1, one column per label view; -1 = left out.
        cam: (B,) int64.
        index: (B,) int64 rows of the stage's training split.
        mask: (B, 1, H, W) uint8 in {0, 1}, 1 = person, or None; in a training step only where it weights the pooling.

    """

    images: torch.Tensor
    labels: torch.Tensor
    cam: torch.Tensor
    index: torch.Tensor
    mask: torch.Tensor | None = None

    @property
    def identities(self) -> torch.Tensor:
        """(B,) the labels, of whole images where there are several views."""
        return self.labels if self.labels.ndim == 1 else self.labels[:, 0]


@dataclass(frozen=True, eq=False)
class Output:
    """Output of an embedder.

    Attributes:
        before_neck: (B, D) pooled.
        after_neck: (B, D) what the neck makes of it.
        map: (B, C, h, w) the backbone's last feature map.
        stripes: (B, P, D) one row per horizontal stripe of the map, or None.
        projected: (B, E) the image in the space of another encoder, such as that of texts, or None.

    """

    before_neck: torch.Tensor
    after_neck: torch.Tensor
    map: torch.Tensor
    stripes: torch.Tensor | None = None
    projected: torch.Tensor | None = None

    def vector(self, name: VectorName) -> torch.Tensor:
        """Return the vectors (B, D) before or after the neck."""
        return self.before_neck if name == "before_neck" else self.after_neck
