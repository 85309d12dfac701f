"""Self-paced contrast: images are classified among labelled identities, clusters and unclustered images of one memory.

The memory has a row for each labelled identity and one for each unlabelled image, so that no image is left out. The
rows of the memory are clustered; clusters that change with the radius are split into single images for an epoch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, Self

import numpy as np
import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from passerby.clustering.algorithms import DbscanSettings
from passerby.clustering.clusters import Clusters
from passerby.clustering.reliability import alone_apart, keep_reliable
from passerby.distances.sparse import SparseRows
from passerby.losses.loss import class_means
from passerby.losses.mix import LossTerm
from passerby.methods.clustered import Clustered, ClusteredSettings, number_after_labelled, unit, unlabelled_rows
from passerby.methods.memory import moved_rows
from passerby.methods.settings import End, RecipeView, StageView
from passerby.models.domains import Division, second_norms
from passerby.models.embedder import describe_network, network_of
from passerby.types import Batch, Floats, Ints, Output, Stage

if TYPE_CHECKING:
    from passerby.training.context import MethodContext


def memory_loss(
    embeddings: Tensor, labels: Tensor, memory: Tensor, identities: Tensor, *, temperature: float = 0.05
) -> Tensor:
    """Return the mean cross-entropy of images against all identities of a memory of images.

    The logit of an identity is the mean of the cosines with its rows, not the cosine with their mean direction.

    Args:
        embeddings: (B, D), of any length.
        labels: (B,) int64 in [0, C).
        memory: (M, D) of unit length.
        identities: (M,) int64 of the rows, all of 0..C-1.
        temperature: divisor of the cosines.

    Reference: Ge et al., "Self-paced Contrastive Learning with Hybrid Memory for Domain Adaptive Object Re-ID", NeurIPS
    2020, equation 1.
    Differs from the published code: the softmax has no 1e-6 added to it.

    """
    cosines = F.normalize(embeddings.float()) @ memory.T / temperature  # (B, M)
    counts = torch.bincount(identities).clamp(min=1)
    sums = cosines.new_zeros(len(cosines), len(counts)).index_add(1, identities, cosines)
    return F.cross_entropy(sums / counts, labels)


def hybrid_loss(
    embeddings: Tensor,
    labels: Tensor,
    memory: Tensor,
    identities: Tensor,
    *,
    count_known: int,
    temperature: float = 0.05,
) -> Tensor:
    """Return the sum of `memory_loss` over the labelled images of a batch and over the unlabelled ones, a mean each.

    Args:
        embeddings: (B, D), of any length.
        labels: (B,) int64 in [0, C), below `count_known` for labelled images.
        memory: (M, D) of unit length.
        identities: (M,) int64, the identity in each row, all of 0..C-1.
        count_known: number of labelled identities.
        temperature: by which cosines are divided.

    Reference: Ge et al., NeurIPS 2020, as its code has it: loss_s + loss_t, over two batches. A batch of one kind alone
    has one mean.

    """
    is_known = labels < count_known
    losses = [
        memory_loss(embeddings[rows], labels[rows], memory, identities, temperature=temperature)
        for rows in (is_known, ~is_known)
        if bool(rows.any())
    ]
    return torch.stack(losses).sum()


def neighbouring_radii(eps: float, step: float) -> tuple[float, float]:
    """Return eps - step and eps + step; where one of them would leave (0, 1), half the way to that end.

    >>> neighbouring_radii(0.5, 0.25), neighbouring_radii(0.01, 0.02)
    ((0.25, 0.75), (0.005, 0.03))
    """
    tight = eps - step if step < eps else eps / 2
    loose = eps + step if step < 1 - eps else (eps + 1) / 2
    return tight, loose


class SpclSettings(ClusteredSettings):
    """Self-paced contrastive learning (Ge et al., NeurIPS 2020)."""

    trains_alone: ClassVar[bool] = True
    end: ClassVar[End] = "replaces"

    cluster: DbscanSettings = DbscanSettings()
    weight: Annotated[float, Field(gt=0)] = 1.0
    temperature: Annotated[float, Field(gt=0)] = 0.05
    momentum: Annotated[float, Field(ge=0, lt=1)] = Field(
        0.2, description="share of a row of the memory that stays at an update"
    )
    step: Annotated[float, Field(gt=0, lt=0.5)] = Field(
        0.02,
        description="change of the radius, down and up, under which reliable clusters stay; half the way to 0 or 1 "
        "where cluster.eps: share leaves less room",
    )
    batch_norm: Literal["domain_specific", "shared"] = Field(
        "domain_specific", description="batch norms of unlabelled images and of the source images beside them"
    )

    @model_validator(mode="after")
    def _room(self) -> Self:
        if isinstance(eps := self.cluster.eps, float) and not self.step < min(eps, 1 - eps):
            raise ValueError(f"step {self.step} leaves no radius in (0, 1) around cluster.eps {eps}")
        return self

    def check(self, recipe: RecipeView, stage: StageView) -> None:
        """Require source images and trained batch norms where batch norms are domain-specific."""
        super().check(recipe, stage)
        if self.batch_norm == "shared" and not any(_has_source(other) for other in recipe.stages):
            raise ValueError("method.spcl.batch_norm: shared has no effect: no stage has source data sets")
        if self.batch_norm == "shared" or not stage.source:
            return
        if recipe.engine.batch_norm == "synchronised":
            raise ValueError(
                "method.spcl.batch_norm: domain_specific and engine.batch_norm: synchronised exclude each other, since "
                "processes with batches of different domains would wait for each other; use local or shared"
            )
        if stage.optim.batch_norm != "train":
            raise ValueError(
                "method.spcl.batch_norm: domain_specific has no effect with optim.batch_norm: "
                f"{stage.optim.batch_norm}, with which batch norms are fixed; use shared"
            )


def _has_source(stage: StageView) -> bool:
    """Whether a stage has the method and source images."""
    return bool(stage.source) and any(isinstance(method, SpclSettings) for method in stage.method.chosen.values())


class Spcl(Clustered, settings_class=SpclSettings):
    """SpCL: a memory of labelled identities and unlabelled images, and clusters that are filtered by reliability.

    Without source images the memory has unlabelled images only. Otherwise the loss is the sum of two means, over the
    source images of a batch and over the others, as in the published code. The stage keeps the batch norms of the
    unlabelled images.

    Reference: Ge et al., "Self-paced Contrastive Learning with Hybrid Memory for Domain Adaptive Object Re-ID", NeurIPS
    2020.
    Differs from the paper: unclustered images are drawn in groups, as many together as a batch has of an identity.

    """

    settings: SpclSettings
    memory: Tensor
    identities: Tensor
    threshold: Tensor

    def __init__(self, settings: SpclSettings) -> None:
        super().__init__(settings)
        self.register_buffer("memory", torch.empty(0, 0))  # (S + M, D): labelled identities, then unlabelled images
        self.register_buffer("identities", torch.empty(0, dtype=torch.int64))  # (S + M,) of the rows in this epoch
        self.register_buffer("threshold", torch.full((1,), torch.nan, dtype=torch.float64))
        self.norms = nn.ModuleList()  # batch norms of the source images
        self.division: Division | None = None
        self.described: list[str] | None = None  # the network with domain-specific norms

    @property
    def bounds(self) -> dict[str, Tensor]:
        """See `Clustered`."""
        return {**super().bounds, "least independence": self.threshold}

    def on_stage_start(self, ctx: MethodContext) -> None:
        """Fill the memory, and make batch norms domain-specific."""
        super().on_stage_start(ctx)
        self.threshold.fill_(torch.nan)
        hidden = unlabelled_rows(ctx.stage)
        vectors = torch.from_numpy(unit(ctx.vectors().vector(self.settings.feature)))
        known = (
            class_means(vectors[~hidden], torch.from_numpy(ctx.stage.train.pid[~hidden])) if (~hidden).any() else None
        )
        self.memory = torch.cat([*([] if known is None else [known]), vectors[hidden]]).to(ctx.device)
        if known is not None and self.settings.batch_norm == "domain_specific":
            self.described = describe_network(ctx.embedder)
            self._divide(ctx)

    def vectors_to_cluster(self, ctx: MethodContext) -> Floats:
        """Return the rows of the memory of unlabelled images (M, D) within a table of all images (N, D)."""
        hidden = unlabelled_rows(ctx.stage)
        rows = self.memory[ctx.stage.train.count_identities :].cpu().numpy()
        vectors = np.zeros((len(hidden), self.memory.shape[1]), np.float32)
        vectors[hidden] = self.evened(rows, ctx.stage.train.cam[hidden])
        return vectors

    def find(
        self, vectors: Floats, graph: SparseRows | None = None, *, cam: Ints | None = None, view: int = 0
    ) -> tuple[Clusters, SparseRows | None]:
        """Cluster vectors (M, D) and remove clusters that change with the radius."""
        clusters, graph = super().find(vectors, graph, cam=cam, view=view)
        settings, eps, threshold = self.settings, float(self.eps[view]), float(self.threshold)
        radii = neighbouring_radii(eps, settings.step)
        tight, loose = (settings.cluster.fit(vectors, graph, eps=radius).labels for radius in radii)
        reliable = keep_reliable(clusters.labels, tight, loose, threshold=None if np.isnan(threshold) else threshold)
        self.threshold.fill_(reliable.threshold)
        return Clusters(reliable.labels, clusters.eps), graph

    def pseudo_labels(self, ctx: MethodContext) -> Ints:
        """Return (N,) labelled identities, clusters, and an identity of its own for each image in no cluster."""
        clustered, hidden = super().pseudo_labels(ctx), unlabelled_rows(ctx.stage)
        clusters = np.where(clustered[hidden] >= 0, clustered[hidden] - ctx.stage.train.count_identities, -1)
        labels = number_after_labelled(ctx.stage, alone_apart(clusters))
        known = torch.arange(ctx.stage.train.count_identities)
        self.identities = torch.cat([known, torch.from_numpy(labels[hidden])]).to(ctx.device)
        return labels

    def losses(self, ctx: MethodContext, batch: Batch, out: Output) -> dict[str, LossTerm]:
        """Return the cross-entropy of the batch against all identities of the memory."""
        vectors, labels = ctx.gather(self.compared(out), batch.labels, use="mean")
        known, temperature = ctx.stage.train.count_identities, self.settings.temperature
        loss = hybrid_loss(vectors, labels, self.memory, self.identities, count_known=known, temperature=temperature)
        return {"memory": LossTerm(loss, self.settings.weight)}

    def after_step(self, ctx: MethodContext, batch: Batch, out: Output) -> None:
        """Update the rows of the batch: that of the image, or that of its labelled identity."""
        stage, known = ctx.stage, ctx.stage.train.count_identities
        place = np.cumsum(unlabelled_rows(stage)) - 1 + known  # (N,) of unlabelled images
        of_image = torch.from_numpy(place).to(ctx.device)[batch.index]
        vectors, rows = ctx.gather(self.compared(out), torch.where(batch.labels < known, batch.labels, of_image))
        touched, rows = rows.unique(return_inverse=True)  # the whole memory may be hundreds of megabytes
        self.memory[touched] = moved_rows(self.memory[touched], vectors, rows, momentum=self.settings.momentum)

    def get_extra_state(self) -> list[str] | None:
        """Return the description of the network with domain-specific norms; None where they are shared."""
        return self.described

    def set_extra_state(self, state: list[str] | None) -> None:
        """Build the norms of the source images."""
        self.described = state
        if state is not None:
            self.norms = second_norms(network_of(state))

    def extend_stage(self, ctx: MethodContext, stage: Stage) -> Stage:
        """Attach the norms of the source images after a resume; the stage itself stays as it is."""
        if len(self.norms):
            self._divide(ctx, self.norms)
        return stage

    def _divide(self, ctx: MethodContext, norms: nn.ModuleList | None = None) -> None:
        """Normalise the source images of each batch by second norms, copies of the model's unless there are some."""

        def labelled() -> Tensor | None:  # a function, which a copy of the model shares: `copy.deepcopy` would copy ctx
            return None if ctx.batch is None else ctx.batch.labels < ctx.stage.train.count_identities

        self.division = Division(ctx.embedder, labelled, norms)
        self.norms = self.division.norms

    def on_stage_end(self, ctx: MethodContext) -> None:
        """Keep the batch norms of the unlabelled images, and discard the memory."""
        if self.division is not None:
            self.division.end()
        self.norms, self.division, self.described = nn.ModuleList(), None, None
        self.memory, self.identities = self.memory[:0], self.identities[:0]
