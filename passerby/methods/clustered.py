"""What all methods share that find people by clustering: look at the images, group them, tell how well it went."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar, Self

import numpy as np
import torch
from pydantic import Field, model_validator
from torch import Tensor

from passerby.clustering.algorithms import AnyClustering, Clusters, DbscanSettings, GraphClustering, require_usable
from passerby.clustering.cameras import AcrossCameras, evened
from passerby.clustering.doubt import giant_sentence
from passerby.clustering.graph import k_distances
from passerby.clustering.quality import against_truth, agreement, silhouette
from passerby.distances.sparse import SparseRows
from passerby.methods.method import Method
from passerby.methods.settings import BaseMethodSettings, RecipeView, StageView
from passerby.methods.stopping import StopSettings
from passerby.types import UNKNOWN, Bools, Floats, Ints, Output, Stage, VectorName

if TYPE_CHECKING:
    from passerby.training.context import MethodContext

UNSEEN = -2
"""Stands in the place of the clusters of an epoch before the first."""


class ClusteredSettings(BaseMethodSettings):
    """How people are found."""

    assigns_labels: ClassVar[bool] = True
    views: ClassVar[tuple[str, ...]] = ("clusters",)
    """The names in the log of the views of an image that are clustered, each by itself."""

    cluster: AnyClustering = DbscanSettings()
    feature: VectorName = Field("after_neck", description="what is clustered, at unit length")
    cameras: AcrossCameras = Field(
        "ignore", description="take each camera's mean, or mean and spread, out of what is clustered"
    )
    outliers: Annotated[float, Field(gt=0, le=1)] = Field(
        0.95, description="share of images outside all clusters at which the run stops"
    )
    stop: StopSettings | None = Field(None, description="end a stage when its clusters are at rest; null = never")

    @model_validator(mode="after")
    def _can_be_judged(self) -> Self:
        if self.stop is not None and self.stop.when == "silhouette" and not isinstance(self.cluster, GraphClustering):
            raise ValueError(
                f"stop.when: silhouette needs a clustering on the graph, and cluster is {self.cluster.kind}"
            )
        return self

    def check(self, recipe: RecipeView, stage: StageView) -> None:
        """Require that the stage can end early, where that is asked for."""
        if self.stop is not None and self.stop.epochs + 1 >= stage.epochs:
            raise ValueError(
                f"{self.key(stage)}.stop has no effect: the stage ends before {self.stop.epochs} epochs at rest"
            )


class Clustered(Method):
    """Base of the methods that cluster the unlabelled images of a stage at the start of every epoch.

    The radius that a clustering found for itself in the first epoch of a stage stays. A method may cluster the images
    in several views of them, each by itself; the first of them is what the others are measured by.
    """

    settings: ClusteredSettings
    eps: Tensor
    earlier: Tensor
    rest: Tensor
    tightest: Tensor

    def __init__(self, settings: ClusteredSettings) -> None:
        super().__init__(settings)
        self.device = "cpu"  # where distances are computed; that of the run once it begins
        self.register_buffer("eps", torch.full((len(settings.views),), torch.nan, dtype=torch.float64))
        self.register_buffer("earlier", torch.empty(len(settings.views), 0, dtype=torch.int64))  # (V, M), last epoch
        self.register_buffer("rest", torch.zeros((), dtype=torch.int64))  # epochs in a row without a change
        self.register_buffer("tightest", torch.full((), -torch.inf, dtype=torch.float64))  # silhouette so far

    def on_stage_start(self, ctx: MethodContext) -> None:
        """Forget the clusters of another stage."""
        self.eps = torch.full((len(self.settings.views),), torch.nan, dtype=torch.float64)
        self.earlier = torch.empty(len(self.settings.views), 0, dtype=torch.int64)
        self.rest.zero_()
        self.tightest.fill_(-torch.inf)

    def pseudo_labels(self, ctx: MethodContext) -> Ints:
        """Return (N,) what cluster each image is in, after the people who are known beside; -1 = in none."""
        clusters, _ = self.grouped(ctx, self.looked_at(ctx))
        return beside_known(ctx.stage, clusters.labels)

    @property
    def bounds(self) -> dict[str, Tensor]:
        """What the first look fixed for the later ones, by the name in the log: (V,) buffers, NaN = not yet."""
        return {"eps": self.eps}

    @property
    def should_stop(self) -> bool:
        """Whether the clusters have been at rest for long enough."""
        return self.settings.stop is not None and int(self.rest) >= self.settings.stop.epochs

    def grouped(self, ctx: MethodContext, vectors: Floats, *, view: int = 0) -> tuple[Clusters, SparseRows | None]:
        """Group the unknown of all images by their vectors (N, D), refuse what is of no use, and tell of the rest."""
        self.device = str(ctx.device)
        hidden, vectors = hidden_rows(ctx.stage), unit(vectors)
        graph = self.neighbours(vectors[hidden], vectors[~hidden])
        clusters, graph = self.find(vectors[hidden], graph, view=view)
        if view == 0:
            ctx.record_clustering(vectors[hidden], curve=k_distance_curve(self.settings.cluster, graph))
        require_usable(clusters, outliers=self.settings.outliers)
        self._tell(ctx, clusters, graph, truth=ctx.stage.truth[hidden], view=view)
        return clusters, graph

    def looked_at(self, ctx: MethodContext) -> Floats:
        """Return the vectors (N, D) that are clustered."""
        found: Floats = ctx.vectors().vector(self.settings.feature)
        return self.evened(found, ctx.stage.train.cam)

    def compared(self, out: Output) -> Tensor:
        """Return of the output for a batch the vectors (B, D) that are clustered."""
        return out.vector(self.settings.feature)

    def evened(self, vectors: Floats, cam: Ints) -> Floats:
        """Return vectors (N, D) as the settings say that they are compared across cameras (N,)."""
        return evened(vectors, cam, how=self.settings.cameras)

    def neighbours(self, vectors: Floats, known: Floats) -> SparseRows | None:
        """Return the graph that vectors (M, D) are grouped on, if it is one; known (S, D) are shown beside them."""
        chosen = self.settings.cluster
        return chosen.neighbours(vectors, device=self.device) if isinstance(chosen, GraphClustering) else None

    def find(
        self, vectors: Floats, graph: SparseRows | None = None, *, view: int = 0
    ) -> tuple[Clusters, SparseRows | None]:
        """Group vectors (M, D) of unit length; also return the graph that they were grouped on, if it was one."""
        eps = float(self.eps[view])
        graph = self.neighbours(vectors, vectors[:0]) if graph is None else graph
        chosen = self.settings.cluster
        clusters = chosen.fit(vectors, graph, eps=None if np.isnan(eps) else eps, device=self.device)
        if clusters.eps is not None:
            self.eps[view] = clusters.eps
        return clusters, graph

    def _tell(
        self, ctx: MethodContext, clusters: Clusters, graph: SparseRows | None, *, truth: Ints, view: int = 0
    ) -> None:
        """Put into the log how many people were found, and how well where that can be known."""
        figures = {"people": float(clusters.count), "share in no cluster": clusters.noise}
        figures |= {name: value for name, of in self.bounds.items() if not np.isnan(value := float(of[view]))}
        if graph is not None:
            figures["silhouette"] = silhouette(graph, clusters.labels)
        if (before := self._replaced(clusters.labels, view)) is not None:
            figures["agreement with the epoch before"] = agreement(before, clusters.labels).rand
        if (known := against_truth(clusters.labels, truth)) is not None:
            found = {"adjusted Rand index": known.rand, "purity": known.purity, "pairwise F": known.f}
            figures |= {
                name: value for name, value in found.items() if not np.isnan(value)
            }  # nobody known in a cluster
        if view == 0 and self.settings.stop is not None:
            figures |= self._stop_figures(ctx, self.settings.stop, figures)
        ctx.log_metrics(self.settings.views[view], figures, note=giant_sentence(clusters))

    def _replaced(self, labels: Ints, view: int) -> Ints | None:
        """Keep the clusters (M,) of a view for the next epoch, and return those of the epoch before."""
        if self.earlier.shape[1] != len(labels):
            self.earlier = torch.full((len(self.settings.views), len(labels)), UNSEEN, device=self.earlier.device)
        before: Ints = self.earlier[view].cpu().numpy().copy()
        self.earlier[view] = torch.from_numpy(labels)
        return None if (before == UNSEEN).all() else before

    def _stop_figures(self, ctx: MethodContext, stop: StopSettings, figures: dict[str, float]) -> dict[str, float]:
        """Count the epochs at rest, and tell when there have been enough."""
        resting, tightest = stop.judge(
            agreement=figures.get("agreement with the epoch before"),
            silhouette=figures.get("silhouette"),
            tightest=float(self.tightest),
        )
        self.rest = self.rest + 1 if resting else torch.zeros_like(self.rest)
        self.tightest.fill_(tightest)
        last, planned = ctx.epoch + 1, ctx.stage.epochs
        if self.should_stop and last < planned:
            note = f"The clusters are at rest: the stage ends after epoch {last} of {planned}."
            ctx.log_metrics("stop", {"last epoch": float(last), "planned": float(planned)}, note=note)
        return {"epochs at rest": float(self.rest)}


def k_distance_curve(cluster: AnyClustering, graph: SparseRows | None) -> Floats | None:
    """Return the sorted k-distances (M,) of the graph that DBSCAN clusters; None for other algorithms."""
    if graph is None or not isinstance(cluster, DbscanSettings):
        return None
    return k_distances(graph, cluster.min_samples)


def hidden_rows(stage: Stage) -> Bools:
    """(N,) whose people a stage does not know; the others are shown beside them."""
    hidden: Bools = stage.train.pid == UNKNOWN
    return hidden


def beside_known(stage: Stage, clusters: Ints) -> Ints:
    """Return (N,) labels of a whole stage: known people keep their numbers, clusters (M,) come after them."""
    hidden, labels = hidden_rows(stage), stage.train.pid.copy()
    labels[hidden] = np.where(clusters >= 0, clusters + stage.train.count_identities, UNKNOWN)
    return labels


def unit(vectors: Floats) -> Floats:
    """Return vectors (N, D) at length 1; one of length 0 stays."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    scaled: Floats = vectors / np.maximum(lengths, 1e-12, dtype=np.float32)
    return scaled
