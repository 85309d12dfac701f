"""Cluster contrast: each cluster is one vector in a memory, and images are classified among all clusters."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from passerby.losses.loss import class_means
from passerby.losses.mix import LossTerm
from passerby.methods.clustered import unit
from passerby.methods.memory import moved_rows
from passerby.methods.method import Method
from passerby.methods.settings import BaseMethodSettings
from passerby.methods.taught import Taught, TaughtSettings
from passerby.types import Batch, Ints, Output, VectorName

if TYPE_CHECKING:
    from passerby.training.context import MethodContext


def contrast_loss(embeddings: Tensor, labels: Tensor, memory: Tensor, *, temperature: float = 0.05) -> Tensor:
    """Return the mean cross-entropy of images against the vectors of all clusters.

    Args:
        embeddings: (B, D), of any length.
        labels: (B,) int64 in [0, C).
        memory: (C, D) of unit length.
        temperature: by which cosines are divided.

    Reference: Dai et al., "Cluster Contrast for Unsupervised Person Re-Identification", ACCV 2022, equation 3.
    """
    return F.cross_entropy(F.normalize(embeddings.float()) @ memory.T / temperature, labels)


def moved_memory(
    memory: Tensor, embeddings: Tensor, labels: Tensor, *, momentum: float = 0.1, update: Literal["all", "hard"] = "all"
) -> Tensor:
    """Return the memory (C, D) after a batch; clusters that are not in the batch stay.

    Args:
        memory: (C, D) of unit length.
        embeddings: (B, D), of any length.
        labels: (B,) int64 in [0, C).
        momentum: share of a vector that stays at each update.
        update: all: every image updates its cluster, in the order of the batch; hard: only the image that is
            farthest from its cluster does.

    Reference: Dai et al., ACCV 2022, equations 4 and 5.
    """
    if update == "hard":
        hardest = _hardest(memory, F.normalize(embeddings.float()), labels)
        embeddings, labels = embeddings[hardest], labels[hardest]
    return moved_rows(memory, embeddings, labels, momentum=momentum)


def _hardest(memory: Tensor, vectors: Tensor, labels: Tensor) -> Tensor:
    """Return for each cluster in a batch the row of the image that is farthest from the cluster's vector."""
    rows = [torch.nonzero(labels == label).flatten() for label in labels.unique()]
    return torch.stack([each[(vectors[each] @ memory[labels[each[0]]]).argmin()] for each in rows])


class MemorySettings(BaseMethodSettings):
    """A memory with one vector for each identity or cluster, and the loss against it."""

    trains_alone: ClassVar[bool] = True

    weight: Annotated[float, Field(gt=0)] = 1.0
    temperature: Annotated[float, Field(gt=0)] = 0.05
    momentum: Annotated[float, Field(ge=0, lt=1)] = Field(
        0.1, description="share of a cluster's vector that stays at an update"
    )
    update: Literal["all", "hard"] = Field(
        "all", description="all: every image updates its cluster; hard: only the image farthest from it"
    )
    feature: VectorName = Field("after_neck", description="feature that is compared, at unit length")


class MemoryContrast(Method):
    """Base of the methods with a memory, made anew in each epoch and updated by every batch."""

    settings: MemorySettings
    memory: Tensor

    def __init__(self, settings: MemorySettings) -> None:
        super().__init__(settings)
        self.register_buffer("memory", torch.empty(0, 0))  # (C, D) of unit length

    def on_epoch_start(self, ctx: MethodContext, labels: Ints) -> None:
        """Set the memory to the mean directions of the identities or clusters."""
        known = labels >= 0
        vectors = torch.from_numpy(unit(ctx.vectors().vector(self.settings.feature)[known]))
        self.memory = class_means(vectors, torch.from_numpy(labels[known])).to(ctx.device)

    def losses(self, ctx: MethodContext, batch: Batch, out: Output) -> dict[str, LossTerm]:
        """Return the cross-entropy of the batch against the whole memory."""
        settings, vectors = self.settings, out.vector(self.settings.feature)
        loss = contrast_loss(vectors, batch.labels, self.memory, temperature=settings.temperature)
        return {"contrast": LossTerm(loss, settings.weight)}

    def after_step(self, ctx: MethodContext, batch: Batch, out: Output) -> None:
        """Update the memory by the vectors of the batch."""
        momentum, update = self.settings.momentum, self.settings.update
        vectors, labels = ctx.gather(out.vector(self.settings.feature), batch.labels)
        self.memory = moved_memory(self.memory, vectors, labels, momentum=momentum, update=update)

    def on_stage_end(self, ctx: MethodContext) -> None:
        """Discard the memory."""
        self.memory = self.memory[:0]


class ContrastSettings(TaughtSettings, MemorySettings):
    """ClusterContrast (Dai et al., ACCV 2022)."""


class Contrast(MemoryContrast, Taught, settings_class=ContrastSettings):
    """ClusterContrast: a memory of cluster vectors, made anew in each epoch and updated by every batch.

    Reference: Dai et al., "Cluster Contrast for Unsupervised Person Re-Identification", ACCV 2022.
    """

    settings: ContrastSettings


class PrototypesSettings(MemorySettings):
    """Prototype contrast of known identities, as PCL-CLIP has it."""

    labelled_only: ClassVar[bool] = True

    momentum: Annotated[float, Field(ge=0, lt=1)] = Field(
        0.2, description="share of an identity's prototype that stays at an update"
    )
    update: Literal["all", "hard"] = Field(
        "hard", description="all: every image updates the prototype of its identity; hard: only the farthest from it"
    )


class Prototypes(MemoryContrast, settings_class=PrototypesSettings):
    """One prototype per known identity, made anew in each epoch, which every batch is classified by and updates.

    Reference: Li, Gong, "Prototypical Contrastive Learning-based CLIP Fine-tuning for Object Re-identification",
    arXiv:2310.17218, 2023.
    """

    settings: PrototypesSettings
