"""What all methods share that find people by clustering: look at the images, group them, tell how well it went."""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from passerby.cluster.clustering import AnyClustering, Clusters, DbscanSettings, GraphClustering, require_usable
from passerby.cluster.graph import k_distances
from passerby.cluster.quality import against_truth, agreement, silhouette
from passerby.distances.sparse import SparseRows
from passerby.methods.part import Part, RunState
from passerby.settings import Settings
from passerby.types import UNKNOWN, Bools, Floats, Ints, Stage


def without_cameras(vectors: Floats, cam: Ints, *, spread: Literal["kept", "even"] = "kept") -> Floats:
    """Take out of vectors what all images of a camera have in common.

    People are compared across cameras, but a camera's light and background are in all of its images, so that clusters
    gather images of one camera. Vectors of unknown camera (-1) are taken for one more camera.

    Args:
        vectors: (N, D).
        cam: (N,) camera of each.
        spread: even: each dimension is also divided by its standard deviation within the camera.

    Returns:
        (N, D).

    Reference: Zhuang et al., "Rethinking the Distribution Gap of Person Re-identification with Camera-based Batch
    Normalization", ECCV 2020 (the idea).
    Differs from the paper: of the vectors that are clustered, and not in every layer.

    >>> without_cameras(np.array([[1.0], [3.0], [8.0], [9.0]]), np.array([0, 0, 1, 1])).ravel().tolist()
    [-1.0, 1.0, -0.5, 0.5]
    """
    found = vectors.copy()
    for camera in np.unique(cam):
        rows = cam == camera
        found[rows] -= found[rows].mean(axis=0)
        if spread == "even":
            found[rows] /= np.maximum(found[rows].std(axis=0), 1e-3)
    return found


class ClusteredSettings(Settings):
    """How people are found."""

    cluster: AnyClustering = DbscanSettings()
    feature: Literal["embedding", "feature"] = Field("embedding", description="what is clustered, at unit length")
    cameras: Literal["ignore", "centre", "standardise"] = Field(
        "ignore", description="take each camera's mean, or mean and spread, out of what is clustered"
    )
    outliers: Annotated[float, Field(gt=0, le=1)] = Field(
        0.95, description="share of images outside all clusters at which the run stops"
    )


class Clustered(Part):
    """Base of the parts that cluster the unlabelled images of a stage at the start of every epoch.

    The radius that a clustering found for itself in the first epoch of a stage stays.
    """

    settings: ClusteredSettings
    makes_labels = True
    eps: Tensor
    earlier: Tensor

    def __init__(self, settings: ClusteredSettings) -> None:
        super().__init__()
        self.settings = settings
        self._evidence: dict[str, Floats] = {}
        self.register_buffer("eps", torch.full((), torch.nan, dtype=torch.float64))
        self.register_buffer("earlier", torch.empty(0, dtype=torch.int64))  # (N,) clusters of the epoch before

    def begin(self, run: RunState, stage: Stage) -> None:
        """Forget the clusters of another stage."""
        self.eps.fill_(torch.nan)
        self.earlier = torch.empty(0, dtype=torch.int64)

    def labels(self, run: RunState, stage: Stage) -> Ints:
        """Return (N,) what cluster each image is in, after the people who are known beside; -1 = in none."""
        hidden = hidden_rows(stage)
        clusters, graph = self.find(unit(self.looked_at(run)[hidden]))
        require_usable(clusters, outliers=self.settings.outliers)
        self._tell(run, clusters, graph, truth=stage.truth[hidden])
        return beside_known(stage, clusters.labels)

    def looked_at(self, run: RunState) -> Floats:
        """Return the vectors (N, D) that are clustered."""
        found: Floats = getattr(run.vectors(), self.settings.feature)
        return self.evened(found, run.stage.train.cam)

    def evened(self, vectors: Floats, cam: Ints) -> Floats:
        """Return vectors (N, D) as the settings say that they are compared across cameras (N,)."""
        if self.settings.cameras == "ignore":
            return vectors
        return without_cameras(vectors, cam, spread="kept" if self.settings.cameras == "centre" else "even")

    def find(self, vectors: Floats) -> tuple[Clusters, SparseRows | None]:
        """Group vectors (M, D) of unit length; also return the graph that they were grouped on, if it was one."""
        chosen, eps = self.settings.cluster, float(self.eps)
        graph = chosen.neighbours(vectors) if isinstance(chosen, GraphClustering) else None
        clusters = chosen.fit(vectors, graph, eps=None if np.isnan(eps) else eps)
        if clusters.eps is not None:
            self.eps.fill_(clusters.eps)
        self._evidence = {"vectors": vectors}
        if graph is not None and isinstance(chosen, DbscanSettings):
            self._evidence["curve"] = k_distances(graph, chosen.min_samples)
        return clusters, graph

    def evidence(self) -> dict[str, Floats]:
        """Return the vectors that were clustered and, for DBSCAN, their k-distances; they are let go of."""
        told, self._evidence = self._evidence, {}
        return told

    def _tell(self, run: RunState, clusters: Clusters, graph: SparseRows | None, *, truth: Ints) -> None:
        """Put into the journal how many people were found, and how well where that can be known."""
        figures = {"people": float(clusters.count), "share in no cluster": clusters.noise}
        if clusters.eps is not None:
            figures["eps"] = clusters.eps
        if graph is not None:
            figures["silhouette"] = silhouette(graph, clusters.labels)
        if len(self.earlier) == len(clusters.labels):
            figures["agreement with the epoch before"] = agreement(self.earlier.cpu().numpy(), clusters.labels).rand
        if (known := against_truth(clusters.labels, truth)) is not None:
            figures |= {"adjusted Rand index": known.rand, "purity": known.purity, "pairwise F": known.f}
        self.earlier = torch.from_numpy(clusters.labels.copy())
        run.tell("clusters", figures)


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
