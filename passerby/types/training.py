"""Types of training: stage, batch and output of the model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from passerby.errors import UserError
from passerby.types.columns import UNKNOWN, Bools, Ints, column
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
        replay_ratio: share of the identities of each batch, in [0, 1), that come from the last of the sources, which
            then holds images of earlier stages and does not count for the length of an epoch; 0 = no such source.
        count_old_classes: number of identities of earlier stages that classifiers have beside those of `train`, >= 0.
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
    replay_ratio: float = 0.0
    count_old_classes: int = 0
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
        return self.train.count_identities + self.count_old_classes

    @property
    def learnt(self) -> tuple[str, ...]:
        """The data sets that the stage is about."""
        return tuple(name for name in self.sources if name not in self.source)

    @property
    def is_new(self) -> Bools:
        """(N,) which images are new, not replayed from an earlier stage."""
        last: Bools = self.origin == len(self.sources) - 1
        return ~last if self.replay_ratio else np.ones(len(self.train), bool)


@dataclass(frozen=True, eq=False)
class Inputs:
    """All that a model may use of a batch of images; the only argument of `Embedder.forward`.

    Attributes:
        images: (B, 3, H, W), values 0 to 255 in any dtype, colour order and size as the model's input settings say.
        cam: (B,) int64 rows of the camera table of the model, equal only for one camera of one data set; -1 = unknown.
        mask: (B, 1, H, W) in {0, 1}, 1 = person, which weights the pooling; None = plain pooling.
        view: (B,) int64 viewpoints, -1 = unknown; None where no data set has them.

    """

    images: torch.Tensor
    cam: torch.Tensor
    mask: torch.Tensor | None = None
    view: torch.Tensor | None = None

    @classmethod
    def of_images(cls, images: torch.Tensor, mask: torch.Tensor | None = None) -> Inputs:
        """Return images (B, 3, H, W) of unknown cameras and viewpoints."""
        count = images.shape[0]  # not len(), which would fix the number of images in an exported graph
        return cls(images, images.new_full((count,), UNKNOWN, dtype=_int64()), mask)

    def __len__(self) -> int:
        return len(self.images)

    def map(self, change: Callable[[torch.Tensor], torch.Tensor]) -> Inputs:
        """Return the inputs with each tensor changed: moved to a device, or cut to some rows."""
        mask, view = (None if tensor is None else change(tensor) for tensor in (self.mask, self.view))
        return Inputs(change(self.images), change(self.cam), mask, view)

    def mirrored(self) -> Inputs:
        """Return the mirror images, with their masks."""
        return replace(self, images=self.images.flip(3), mask=None if self.mask is None else self.mask.flip(3))


def _int64() -> torch.dtype:
    import torch  # not at the top: folders are read without it

    return torch.int64


@dataclass(frozen=True, eq=False)
class Batch:
    """Inputs and labels of one training step.

    Attributes:
        inputs: what the model gets; with a mask in a training step only where it weights the pooling.
        labels: (B,) or (B, V) int64, 0..C-1, one column per label view; -1 = left out.
        index: (B,) int64 rows of the stage's training split.

    """

    inputs: Inputs
    labels: torch.Tensor
    index: torch.Tensor

    def __len__(self) -> int:
        return len(self.inputs)

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
        projected: (B, E) the last numbers of `before_neck`, the image in the space of texts, or None.
        penultimate: (B, C') the vector of the last block or stage but one, or None.

    """

    before_neck: torch.Tensor
    after_neck: torch.Tensor
    map: torch.Tensor
    stripes: torch.Tensor | None = None
    projected: torch.Tensor | None = None
    penultimate: torch.Tensor | None = None

    def vector(self, name: VectorName) -> torch.Tensor:
        """Return the vectors (B, D) before or after the neck."""
        return self.before_neck if name == "before_neck" else self.after_neck
