"""Base of the methods that cluster: embed the images, cluster them, log the quality of the clusters."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar, Self

import numpy as np
import torch
from pydantic import Field, model_validator
from torch import Tensor

from passerby.clustering.algorithms import AnyClustering, DbscanSettings
from passerby.clustering.clusters import Clusters, require_usable
from passerby.clustering.doubt import giant_sentence
from passerby.clustering.graph import k_distances
from passerby.clustering.graph_settings import GraphClustering
from passerby.clustering.quality import against_truth, agreement, silhouette
from passerby.distances.camera_norm import normalise_cameras
from passerby.distances.sparse import SparseRows
from passerby.methods.method import Method
from passerby.methods.settings import BaseMethodSettings, RecipeView, StageView
from passerby.methods.stopping import StopSettings, rises
from passerby.types import UNKNOWN, Bools, CameraNorm, Floats, Ints, Output, Stage, VectorName

if TYPE_CHECKING:
    from passerby.training.context import MethodContext

UNSEEN = -2
"""Fills the labels of the epoch before the first."""


class ClusteredSettings(BaseMethodSettings):
    """Clustering of the unlabelled images."""

    assigns_labels: ClassVar[bool] = True
    views: ClassVar[tuple[str, ...]] = ("clusters",)
    """The names in the log of the views of an image that are clustered, each by itself."""

    cluster: AnyClustering = DbscanSettings()
    feature: VectorName = Field("after_neck", description="feature that is clustered, at unit length")
    camera_norm: CameraNorm = Field(
        "none",
        description="normalisation per camera before clustering: centre subtracts the mean, standardise also divides "
        "by the deviation, auto subtracts what of the mean the number of people in the camera supports",
    )
    max_noise_ratio: Annotated[float, Field(gt=0, le=1)] = Field(
        0.95, description="largest share of images outside all clusters; a run with more of them stops with an error"
    )
    stop: StopSettings | None = Field(None, description="end a stage when its clusters have converged; null = never")

    @model_validator(mode="after")
    def _has_silhouette(self) -> Self:
        if self.stop is not None and self.stop.when == "silhouette" and not isinstance(self.cluster, GraphClustering):
            raise ValueError(
                f"stop.when: silhouette needs a clustering on the graph, and cluster is {self.cluster.kind}"
            )
        return self

    @property
    def clusters_teacher(self) -> bool:
        """Whether the vectors of a teacher are clustered, in place of those of the model in training."""
        return False

    def check(self, recipe: RecipeView, stage: StageView) -> None:
        """Require that the stage can end early, where that is asked for."""
        if self.stop is not None and self.stop.patience + 1 >= stage.epochs:
            raise ValueError(
                f"{self.key(stage)}.stop has no effect: the stage ends before {self.stop.patience} epochs with "
                "converged clusters; lower its patience, or give the stage more epochs"
            )


class Clustered(Method):
    """Base of the methods that cluster the unlabelled images of a stage at the start of every epoch.

    A radius that is estimated in the first epoch of a stage stays for the others. A method may cluster the images
    in several views, each by itself; early stopping follows the first of them.
    """

    settings: ClusteredSettings
    eps: Tensor
    previous_labels: Tensor
    converged_epochs: Tensor
    best_silhouette: Tensor

    def __init__(self, settings: ClusteredSettings) -> None:
        super().__init__(settings)
        self.device = "cpu"  # where distances are computed; that of the run once it begins
        self.register_buffer("eps", torch.full((len(settings.views),), torch.nan, dtype=torch.float64))
        self.register_buffer(
            "previous_labels", torch.empty(len(settings.views), 0, dtype=torch.int64)
        )  # (V, M), last epoch
        self.register_buffer("converged_epochs", torch.zeros((), dtype=torch.int64))  # in a row
        self.register_buffer("best_silhouette", torch.full((), -torch.inf, dtype=torch.float64))

    def on_stage_start(self, ctx: MethodContext) -> None:
        """Reset radius, labels and early stopping."""
        self.eps = torch.full((len(self.settings.views),), torch.nan, dtype=torch.float64)
        self.previous_labels = torch.empty(len(self.settings.views), 0, dtype=torch.int64)
        self.converged_epochs.zero_()
        self.best_silhouette.fill_(-torch.inf)

    def pseudo_labels(self, ctx: MethodContext) -> Ints:
        """Return (N,) clusters, numbered after the labelled identities of source images; -1 = in none."""
        clusters, _ = self.cluster_images(ctx, self.vectors_to_cluster(ctx))
        return number_after_labelled(ctx.stage, clusters.labels)

    @property
    def bounds(self) -> dict[str, Tensor]:
        """Thresholds that the first epoch of a stage fixes, by the name in the log: (V,) buffers, NaN = not yet."""
        return {"eps": self.eps}

    @property
    def should_stop(self) -> bool:
        """Whether the clusters have converged for as many epochs as the patience."""
        return self.settings.stop is not None and int(self.converged_epochs) >= self.settings.stop.patience

    def cluster_images(
        self, ctx: MethodContext, vectors: Floats, *, view: int = 0
    ) -> tuple[Clusters, SparseRows | None]:
        """Cluster the unlabelled images by the vectors (N, D) of all, refuse useless clusters, and log the others."""
        self.device = str(ctx.device)
        hidden, vectors = unlabelled_rows(ctx.stage), unit(vectors)
        cam = ctx.stage.train.cam[hidden]
        graph = self.neighbours(vectors[hidden], vectors[~hidden], cam=cam)
        clusters, graph = self.find(vectors[hidden], graph, view=view)
        if view == 0:
            ctx.record_clustering(vectors[hidden], curve=k_distance_curve(self.settings.cluster, graph))
        require_usable(clusters, max_noise_ratio=self.settings.max_noise_ratio)
        self._log(ctx, clusters, graph, truth=ctx.stage.truth[hidden], view=view)
        return clusters, graph

    def vectors_to_cluster(self, ctx: MethodContext) -> Floats:
        """Return the vectors (N, D) that are clustered."""
        vectors: Floats = ctx.vectors().vector(self.settings.feature)
        return self.evened(vectors, ctx.stage.train.cam)

    def compared(self, out: Output) -> Tensor:
        """Return the vectors (B, D) of a batch that are clustered."""
        return out.vector(self.settings.feature)

    def evened(self, vectors: Floats, cam: Ints) -> Floats:
        """Return vectors (N, D) adjusted across cameras (N,), see `cameras` of the settings."""
        return normalise_cameras(vectors, cam, how=self.settings.camera_norm)

    def neighbours(self, vectors: Floats, known: Floats, *, cam: Ints | None = None) -> SparseRows | None:
        """Return the graph of vectors (M, D) of cameras (M,), if any; known (S, D) are those of source images."""
        cluster = self.settings.cluster
        if not isinstance(cluster, GraphClustering):
            return None
        return cluster.neighbours(vectors, cam=cam, device=self.device)

    def find(
        self, vectors: Floats, graph: SparseRows | None = None, *, cam: Ints | None = None, view: int = 0
    ) -> tuple[Clusters, SparseRows | None]:
        """Cluster vectors (M, D) of unit length; also return the graph that they were clustered on, None without.

        The graph is made of the vectors and their cameras (M,) unless there is one.
        """
        eps = float(self.eps[view])
        graph = self.neighbours(vectors, vectors[:0], cam=cam) if graph is None else graph
        known = None if np.isnan(eps) else eps  # of the first epoch
        clusters = self.settings.cluster.fit(vectors, graph, eps=known, device=self.device)
        if clusters.eps is not None:
            self.eps[view] = clusters.eps
        return clusters, graph

    def _log(
        self, ctx: MethodContext, clusters: Clusters, graph: SparseRows | None, *, truth: Ints, view: int = 0
    ) -> None:
        """Log the number of clusters, their noise and, where the truth is known, their quality."""
        figures = {"people": float(clusters.count), "share in no cluster": clusters.noise}
        figures |= {name: value for name, of in self.bounds.items() if not np.isnan(value := float(of[view]))}
        if graph is not None:
            figures["silhouette"] = silhouette(graph, clusters.labels)
        if (before := self._replaced(clusters.labels, view)) is not None:
            figures["agreement with the epoch before"] = agreement(before, clusters.labels).rand
        if (quality := against_truth(clusters.labels, truth)) is not None:
            values = {"adjusted Rand index": quality.rand, "purity": quality.purity, "pairwise F": quality.f}
            figures |= {name: value for name, value in values.items() if not np.isnan(value)}  # NaN: no truth in them
        if view == 0 and self.settings.stop is not None:
            figures |= self._stop_figures(ctx, self.settings.stop, figures)
        notes = [giant_sentence(clusters), self._camera_note(ctx, view)]
        ctx.log_metrics(self.settings.views[view], figures, note="; ".join(filter(None, notes)))

    def _camera_note(self, ctx: MethodContext, view: int) -> str:
        """Return a sentence in the first epoch of a stage where clustering needs cameras that are not known."""
        cluster = self.settings.cluster
        if ctx.epoch or view or not isinstance(cluster, GraphClustering):
            return ""
        return cluster.camera_note(ctx.stage.train.cam[unlabelled_rows(ctx.stage)])

    def _replaced(self, labels: Ints, view: int) -> Ints | None:
        """Keep the clusters (M,) of a view for the next epoch, and return those of the epoch before, None without."""
        if self.previous_labels.shape[1] != len(labels):
            self.previous_labels = torch.full(
                (len(self.settings.views), len(labels)), UNSEEN, device=self.previous_labels.device
            )
        before: Ints = self.previous_labels[view].cpu().numpy().copy()
        self.previous_labels[view] = torch.from_numpy(labels)
        return None if (before == UNSEEN).all() else before

    def _stop_figures(self, ctx: MethodContext, stop: StopSettings, figures: dict[str, float]) -> dict[str, float]:
        """Count the epochs with converged clusters, and log the end of a stage that they end."""
        value, best = figures.get("silhouette"), float(self.best_silhouette)
        agreed = figures.get("agreement with the epoch before")
        has_converged = stop.has_converged(agreement=agreed, silhouette=value, best_silhouette=best)
        self.converged_epochs = self.converged_epochs + 1 if has_converged else torch.zeros_like(self.converged_epochs)
        if stop.when == "silhouette" and value is not None and rises(value, best):
            self.best_silhouette.fill_(value)
        last, planned = ctx.epoch + 1, ctx.stage.epochs
        if self.should_stop and last < planned:
            note = f"The clusters have converged: the stage ends after epoch {last} of {planned}."
            ctx.log_metrics("stop", {"last epoch": float(last), "planned": float(planned)}, note=note)
        return {"converged epochs": float(self.converged_epochs)}


def k_distance_curve(cluster: AnyClustering, graph: SparseRows | None) -> Floats | None:
    """Return the sorted k-distances (M,) of the graph that DBSCAN clusters; None for other algorithms."""
    if graph is None or not isinstance(cluster, DbscanSettings):
        return None
    return k_distances(graph, cluster.min_samples)


def unlabelled_rows(stage: Stage) -> Bools:
    """(N,) which images of a stage are unlabelled; the others are source images."""
    hidden: Bools = stage.train.pid == UNKNOWN
    return hidden


def number_after_labelled(stage: Stage, clusters: Ints) -> Ints:
    """Return (N,) labels of a whole stage: labelled identities keep their numbers, clusters (M,) come after them."""
    hidden, labels = unlabelled_rows(stage), stage.train.pid.copy()
    labels[hidden] = np.where(clusters >= 0, clusters + stage.train.count_identities, UNKNOWN)
    return labels


def unit(vectors: Floats) -> Floats:
    """Return vectors (N, D) at length 1; one of length 0 stays."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    scaled: Floats = vectors / np.maximum(lengths, 1e-12, dtype=np.float32)
    return scaled
