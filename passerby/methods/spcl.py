"""Self-paced contrast: labelled people, clusters and images in no cluster are told apart in one memory.

The memory has a row for each labelled person and one for each unlabelled image, so that nothing is left out. Clusters
are found in the memory itself; those that change with the radius are taken apart again, and are tried anew each epoch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, Self

import numpy as np
import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from passerby.clustering.algorithms import Clusters, DbscanSettings
from passerby.clustering.reliability import alone_apart, keep_reliable
from passerby.distances.sparse import SparseRows
from passerby.losses.loss import class_means
from passerby.losses.mix import LossTerm
from passerby.methods.clustered import Clustered, ClusteredSettings, beside_known, hidden_rows, unit
from passerby.methods.memory import moved_rows
from passerby.methods.settings import End, RecipeView, StageView
from passerby.models.domains import Division, second_norms
from passerby.models.embedder import describe_network, network_of
from passerby.types import Batch, Floats, Ints, Output, Stage

if TYPE_CHECKING:
    from passerby.training.context import MethodContext


def memory_loss(
    embeddings: Tensor, labels: Tensor, memory: Tensor, people: Tensor, *, temperature: float = 0.05
) -> Tensor:
    """Return the mean cross-entropy of images against all people of a memory of images.

    What an image has to do with a person is the mean of its cosines with that person's rows, which is not the cosine
    with the person's mean direction.

    Args:
        embeddings: (B, D), of any length.
        labels: (B,) int64 in [0, C).
        memory: (M, D) of unit length.
        people: (M,) int64, the person in each row, all of 0..C-1.
        temperature: by which cosines are divided.

    Reference: Ge et al., "Self-paced Contrastive Learning with Hybrid Memory for Domain Adaptive Object Re-ID", NeurIPS
    2020, equation 1.
    Differs from the published code: the softmax has no 1e-6 added to it.

    """
    cosines = F.normalize(embeddings.float()) @ memory.T / temperature  # (B, M)
    counts = torch.bincount(people).clamp(min=1)
    sums = cosines.new_zeros(len(cosines), len(counts)).index_add(1, people, cosines)
    return F.cross_entropy(sums / counts, labels)


def hybrid_loss(
    embeddings: Tensor,
    labels: Tensor,
    memory: Tensor,
    people: Tensor,
    *,
    count_known: int,
    temperature: float = 0.05,
) -> Tensor:
    """Return the sum of `memory_loss` over the labelled images of a batch and over the unlabelled ones, a mean each.

    Args:
        embeddings: (B, D), of any length.
        labels: (B,) int64 in [0, C), below `count_known` for labelled images.
        memory: (M, D) of unit length.
        people: (M,) int64, the person in each row, all of 0..C-1.
        count_known: labelled people.
        temperature: by which cosines are divided.

    Reference: Ge et al., NeurIPS 2020, as its code has it: loss_s + loss_t, over two batches. A batch of one kind alone
    has one mean.

    """
    is_known = labels < count_known
    losses = [
        memory_loss(embeddings[rows], labels[rows], memory, people, temperature=temperature)
        for rows in (is_known, ~is_known)
        if bool(rows.any())
    ]
    return torch.stack(losses).sum()


def neighbouring_radii(eps: float, step: float) -> tuple[float, float]:
    """Return eps - step and eps + step; where one of them would leave (0, 1), half the way to that end instead.

    >>> neighbouring_radii(0.5, 0.25), neighbouring_radii(0.01, 0.02)
    ((0.25, 0.75), (0.005, 0.03))
    """
    tight = eps - step if step < eps else eps / 2
    loose = eps + step if step < 1 - eps else (eps + 1) / 2
    return tight, loose


class SpclSettings(ClusteredSettings):
    """SpCL."""

    trains_alone: ClassVar[bool] = True
    end: ClassVar[End] = "replaces"

    cluster: DbscanSettings = DbscanSettings()
    weight: Annotated[float, Field(gt=0)] = 1.0
    temperature: Annotated[float, Field(gt=0)] = 0.05
    momentum: Annotated[float, Field(ge=0, lt=1)] = Field(0.2, description="share of a row of the memory that stays")
    step: Annotated[float, Field(gt=0, lt=0.5)] = Field(
        0.02,
        description="by how much the radius is made smaller and larger to see which clusters last; half the way to 0 "
        "or 1 where cluster.eps: share leaves less room",
    )
    norms: Literal["apart", "shared"] = Field(
        "apart", description="batch norms of the new site and of labelled images beside it"
    )

    @model_validator(mode="after")
    def _room(self) -> Self:
        if isinstance(eps := self.cluster.eps, float) and not self.step < min(eps, 1 - eps):
            raise ValueError(f"step {self.step} leaves no radius in (0, 1) around cluster.eps {eps}")
        return self

    def check(self, recipe: RecipeView, stage: StageView) -> None:
        """Require that batch norms of two kinds of images can be kept apart, where there are two."""
        super().check(recipe, stage)
        if self.norms == "shared" and not any(_has_source(other) for other in recipe.stages):
            raise ValueError("method.spcl.norms: shared has no effect: no stage has source data sets")
        if self.norms == "shared" or not stage.source:
            return
        if recipe.engine.batch_norm == "synchronised":
            raise ValueError(
                "method.spcl.norms: apart and engine.batch_norm: synchronised exclude each other, since processes "
                "that see other kinds of images would wait for one another; use local or shared"
            )
        if stage.optim.batch_norm != "train":
            raise ValueError(
                f"method.spcl.norms: apart has no effect with optim.batch_norm: {stage.optim.batch_norm}, under "
                "which all images have the same norms; use shared"
            )


def _has_source(stage: StageView) -> bool:
    """Whether a stage shows labelled images beside the memory of the method."""
    return bool(stage.source) and any(isinstance(chosen, SpclSettings) for chosen in stage.method.chosen.values())


class Spcl(Clustered, settings_class=SpclSettings):
    """SpCL: a memory of labelled people and unlabelled images, and clusters that must prove reliable.

    Where nothing labelled is shown beside, the memory has unlabelled images only. Otherwise the loss is the sum of two
    means, over the labelled images of a batch and over the others, as in the published code. The stage leaves the batch
    norms of the new site.

    Reference: Ge et al., "Self-paced Contrastive Learning with Hybrid Memory for Domain Adaptive Object Re-ID", NeurIPS
    2020.
    Differs from the paper: images that are in no cluster are drawn in groups, as many together as a batch shows of a
    person.

    """

    settings: SpclSettings
    memory: Tensor
    people: Tensor
    threshold: Tensor

    def __init__(self, settings: SpclSettings) -> None:
        super().__init__(settings)
        self.register_buffer("memory", torch.empty(0, 0))  # (S + M, D): labelled people, then unlabelled images
        self.register_buffer("people", torch.empty(0, dtype=torch.int64))  # (S + M,) who is in each row this epoch
        self.register_buffer("threshold", torch.full((1,), torch.nan, dtype=torch.float64))
        self.norms = nn.ModuleList()  # those of the labelled images beside
        self.division: Division | None = None
        self.described: list[str] | None = None  # the network whose norms have a second one

    @property
    def bounds(self) -> dict[str, Tensor]:
        """See `Clustered`."""
        return {**super().bounds, "least independence": self.threshold}

    def on_stage_start(self, ctx: MethodContext) -> None:
        """Fill the memory, and give labelled images beside the new site norms of their own."""
        super().on_stage_start(ctx)
        self.threshold.fill_(torch.nan)
        hidden = hidden_rows(ctx.stage)
        vectors = torch.from_numpy(unit(ctx.vectors().vector(self.settings.feature)))
        known = (
            class_means(vectors[~hidden], torch.from_numpy(ctx.stage.train.pid[~hidden])) if (~hidden).any() else None
        )
        self.memory = torch.cat([*([] if known is None else [known]), vectors[hidden]]).to(ctx.device)
        if known is not None and self.settings.norms == "apart":
            self.described = describe_network(ctx.embedder)
            self._divide(ctx)

    def looked_at(self, ctx: MethodContext) -> Floats:
        """Return what the memory holds of unlabelled images (M, D), in the rows of a table of all (N, D)."""
        hidden = hidden_rows(ctx.stage)
        found = np.zeros((len(hidden), self.memory.shape[1]), np.float32)
        found[hidden] = self.memory[ctx.stage.train.count_identities :].cpu().numpy()
        found[hidden] = self.evened(found[hidden], ctx.stage.train.cam[hidden])
        return found

    def find(
        self, vectors: Floats, graph: SparseRows | None = None, *, view: int = 0
    ) -> tuple[Clusters, SparseRows | None]:
        """Group vectors (M, D) and leave out what does not last when the radius changes."""
        clusters, graph = super().find(vectors, graph, view=view)
        chosen, eps, before = self.settings, float(self.eps[view]), float(self.threshold)
        radii = neighbouring_radii(eps, chosen.step)
        tight, loose = (chosen.cluster.fit(vectors, graph, eps=radius).labels for radius in radii)
        found = keep_reliable(clusters.labels, tight, loose, threshold=None if np.isnan(before) else before)
        self.threshold.fill_(found.threshold)
        return Clusters(found.labels, clusters.eps), graph

    def pseudo_labels(self, ctx: MethodContext) -> Ints:
        """Return (N,) who is in each image: labelled people, clusters, and each image in none as one of its own."""
        found, hidden = super().pseudo_labels(ctx), hidden_rows(ctx.stage)
        clusters = np.where(found[hidden] >= 0, found[hidden] - ctx.stage.train.count_identities, -1)
        labels = beside_known(ctx.stage, alone_apart(clusters))
        known = torch.arange(ctx.stage.train.count_identities)
        self.people = torch.cat([known, torch.from_numpy(labels[hidden])]).to(ctx.device)
        return labels

    def losses(self, ctx: MethodContext, batch: Batch, out: Output) -> dict[str, LossTerm]:
        """Return how well the people of the batch are told from all others."""
        seen, labels = ctx.gather(self.compared(out), batch.labels, use="mean")
        known, temperature = ctx.stage.train.count_identities, self.settings.temperature
        loss = hybrid_loss(seen, labels, self.memory, self.people, count_known=known, temperature=temperature)
        return {"memory": LossTerm(loss, self.settings.weight)}

    def after_step(self, ctx: MethodContext, batch: Batch, out: Output) -> None:
        """Move the rows of the batch: an image's own, or that of its labelled person."""
        stage, known = ctx.stage, ctx.stage.train.count_identities
        place = np.cumsum(hidden_rows(stage)) - 1 + known  # (N,) of unlabelled images
        own = torch.from_numpy(place).to(ctx.device)[batch.index]
        seen, rows = ctx.gather(self.compared(out), torch.where(batch.labels < known, batch.labels, own))
        touched, rows = rows.unique(return_inverse=True)  # the whole memory may be hundreds of megabytes
        self.memory[touched] = moved_rows(self.memory[touched], seen, rows, momentum=self.settings.momentum)

    def get_extra_state(self) -> list[str] | None:
        """Return the settings of the network whose norms have a second one; None where there are none."""
        return self.described

    def set_extra_state(self, state: list[str] | None) -> None:
        """Build second norms like those of the network."""
        self.described = state
        if state is not None:
            self.norms = second_norms(network_of(state))

    def extend_stage(self, ctx: MethodContext, stage: Stage) -> Stage:
        """Put second norms that a checkpoint brought back beside those of the model."""
        if len(self.norms):
            self._divide(ctx, self.norms)
        return stage

    def _divide(self, ctx: MethodContext, norms: nn.ModuleList | None = None) -> None:
        """Send the labelled images of each batch through second norms, copies of the model's unless given."""

        def labelled() -> Tensor | None:  # a function, which a copy of the model shares: `copy.deepcopy` would copy ctx
            return None if ctx.batch is None else ctx.batch.labels < ctx.stage.train.count_identities

        self.division = Division(ctx.embedder, labelled, norms)
        self.norms = self.division.norms

    def on_stage_end(self, ctx: MethodContext) -> None:
        """Leave the batch norms of the new site and let go of the memory."""
        if self.division is not None:
            self.division.end()
        self.norms, self.division, self.described = nn.ModuleList(), None, None
        self.memory, self.people = self.memory[:0], self.people[:0]
