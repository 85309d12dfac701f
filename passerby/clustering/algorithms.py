"""Clustering algorithms: their settings and their results.

DBSCAN, HDBSCAN and InfoMap work on the graph of `jaccard_neighbours`, average linkage on the nearest neighbours, so
nothing of size (N, N) is made; k-means works on the vectors. The union `AnyClustering` is the list of all.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from typing import Annotated, Literal, Self, get_args

import numpy as np
from pydantic import Field, model_validator

from passerby.clustering.clusters import Clusters
from passerby.clustering.graph import smallest_share_mean, within
from passerby.clustering.graph_settings import GraphClustering
from passerby.clustering.impostors import automatic_threshold, highest_threshold
from passerby.clustering.kmeans import kmeans
from passerby.clustering.linkage import average_linkage, near_pairs
from passerby.clustering.precomputed import NOISE, connected, sorted_rows, without_small
from passerby.clustering.radius import choose_radius
from passerby.device import find_device
from passerby.distances.sparse import SparseRows
from passerby.distances.units import unit_rows
from passerby.errors import UserError
from passerby.settings import Plain, Settings, build, override
from passerby.types import Floats, Ints

# ---- on the graph


class DbscanSettings(GraphClustering):
    """DBSCAN: images with `min_samples` neighbours within eps, themselves included, hold a cluster together.

    Reference: Ester et al., "A Density-based Algorithm for Discovering Clusters", KDD 1996. eps 0.6 is that of Ge et
    al., NeurIPS 2020; `share` is that of Fu et al., ICCV 2019; `auto` see `choose_radius`.
    """

    kind: Literal["dbscan"] = "dbscan"
    eps: Annotated[float, Field(gt=0, lt=1)] | Literal["share", "auto"] = Field(
        0.6,
        description="radius; share: the mean of the smallest share of all distances; auto: where clusters are many and "
        "hold most images",
    )
    share: Annotated[float, Field(gt=0, le=1)] = Field(
        1.6e-3, description="share of all pairs whose mean distance is the radius, for eps: share"
    )
    min_samples: Annotated[int, Field(ge=1)] = 4

    @property
    def idle(self) -> frozenset[str]:
        """The share, where eps is a number."""
        return super().idle | (frozenset() if self.eps == "share" else frozenset({"share"}))

    @model_validator(mode="after")
    def _nothing_idle(self) -> Self:
        if "share" in self.idle and self.share != type(self).model_fields["share"].default:
            raise ValueError(f"share has no effect with eps: {self.eps}; it belongs to eps: share")
        return self

    def radius(self, graph: SparseRows) -> float:
        """Return eps, of this graph where it is not a number."""
        if self.eps == "share":
            return smallest_share_mean(graph, self.share)
        return choose_radius(lambda eps: self._labels(graph, eps)) if self.eps == "auto" else self.eps

    def _labels(self, graph: SparseRows, eps: float) -> Ints:
        """Return the clusters (N,) at a radius, -1 = noise."""
        from sklearn.cluster import DBSCAN

        near = sorted_rows(within(graph, eps))
        labels: Ints = DBSCAN(eps=eps, min_samples=self.min_samples, metric="precomputed").fit(near).labels_
        return labels

    def fit(
        self, vectors: Floats, graph: SparseRows | None = None, *, eps: float | None = None, device: str = "cpu"
    ) -> Clusters:
        """Cluster `vectors` (N, D).

        Args:
            vectors: the images; without effect when there is a graph.
            graph: (N, N); None = it is computed from the vectors.
            eps: a radius that was chosen before, in place of the settings' own.
            device: where matrix products and nearest neighbours of a new graph are computed.

        Raises:
            UserError: not more images than k1, or an eps so large that all pairs are near.

        """
        if eps is None and isinstance(self.eps, float):
            eps = self.eps
        if graph is None:
            graph = self.neighbours(vectors, at_most=1.0 if eps is None else eps, device=device)
        eps = self.radius(graph) if eps is None else eps
        if not 0 < eps < 1:
            raise UserError(f"eps must be in (0, 1), got {eps:g}; images without common neighbours are 1 apart")
        return Clusters(self._labels(graph, eps), eps)


class HdbscanSettings(GraphClustering):
    """HDBSCAN: DBSCAN over all radii at once; the clusters that last longest are kept.

    Reference: Campello, Moulavi, Sander, "Density-based Clustering Based on Hierarchical Density Estimates", PAKDD
    2013. An image with fewer stored neighbours than `min_samples` is noise; the order of ties would decide otherwise.
    """

    kind: Literal["hdbscan"] = "hdbscan"
    min_size: Annotated[int, Field(ge=2)] = Field(4, description="number of images of the smallest cluster")
    min_samples: Annotated[int, Field(ge=1)] = Field(
        4, description="number of neighbours whose distance measures the density"
    )
    selection: Literal["eom", "leaf"] = Field(
        "eom", description="choice of clusters from the hierarchy; eom: the most stable; leaf: the finest"
    )

    def fit(
        self, vectors: Floats, graph: SparseRows | None = None, *, eps: float | None = None, device: str = "cpu"
    ) -> Clusters:
        """Cluster `vectors` (N, D); see `DbscanSettings.fit`, `eps` has no meaning here."""
        from sklearn.cluster import HDBSCAN

        graph = self.neighbours(vectors, device=device) if graph is None else graph
        if len(graph) < max(self.min_size, self.min_samples):
            raise UserError(
                f"{len(graph)} images are fewer than min_size={self.min_size} or min_samples={self.min_samples}"
            )
        found = HDBSCAN(
            min_cluster_size=self.min_size,
            min_samples=self.min_samples,
            metric="precomputed",
            cluster_selection_method=self.selection,
            metric_params={"max_distance": 1.0},
            copy=False,
        )
        labels = found.fit(connected(graph, at_least=self.min_samples)).labels_
        labels[np.diff(graph.start) < self.min_samples] = NOISE  # as far from all as images can be
        return Clusters(without_small(labels, self.min_size))


class InfomapSettings(GraphClustering):
    """InfoMap: groups in which a random walk over the graph stays for long. Needs the extra `infomap` (GPL-3).

    Reference: Rosvall, Bergstrom, "Maps of Random Walks on Complex Networks Reveal Community Structure", PNAS 2008.
    """

    kind: Literal["infomap"] = "infomap"
    eps: Annotated[float, Field(gt=0, lt=1)] = Field(0.6, description="largest distance of two linked images")
    min_size: Annotated[int, Field(ge=2)] = Field(4, description="number of images of the smallest cluster")
    trials: Annotated[int, Field(ge=1)] = Field(1, description="number of random starts; the shortest code is kept")
    seed: Annotated[int, Field(ge=1)] = 1

    def fit(
        self, vectors: Floats, graph: SparseRows | None = None, *, eps: float | None = None, device: str = "cpu"
    ) -> Clusters:
        """Cluster `vectors` (N, D); see `DbscanSettings.fit`.

        Raises:
            UserError: not more images than k1, or the package is not installed.

        """
        if find_spec("infomap") is None:
            raise UserError(
                "clustering by infomap needs a package that is not installed and whose licence is the GPL-3: "
                "pip install 'infomap>=2.16'; dbscan and hdbscan need nothing"
            )
        from infomap import Infomap

        eps = self.eps if eps is None else eps
        graph = self.neighbours(vectors, at_most=eps, device=device) if graph is None else within(graph, eps)
        pairs = graph.scipy().tocoo()
        once = pairs.row < pairs.col
        links = np.stack([pairs.row[once], pairs.col[once], 1 - pairs.data[once]], axis=1).astype(np.float64)
        labels = np.full(len(graph), NOISE, np.int64)
        if len(links):
            network = Infomap(two_level=True, silent=True, seed=self.seed, num_trials=self.trials)
            network.add_links(links)
            modules = dict(network.run().modules())
            labels[list(modules)] = list(modules.values())
        return Clusters(without_small(labels, self.min_size))


# ---- on the vectors


class LinkageSettings(Settings):
    """Average linkage: the two clusters with the smallest mean cosine distance are joined, up to a threshold.

    An image that is joined with no other is noise. Reference: see `average_linkage`; of `auto`, `automatic_threshold`.
    """

    kind: Literal["linkage"] = "linkage"
    threshold: Annotated[float, Field(gt=0, lt=2)] | Literal["auto"] = Field(
        "auto",
        description="largest mean cosine distance of two clusters that are joined; auto: what distances of different "
        "people do not fall below, or that of the best silhouette",
    )
    neighbours: Annotated[int, Field(ge=1)] = Field(
        30, description="number of nearest images that each image is compared with"
    )

    def fit(
        self, vectors: Floats, graph: SparseRows | None = None, *, eps: float | None = None, device: str = "cpu"
    ) -> Clusters:
        """Cluster `vectors` (N, D).

        Args:
            vectors: the images.
            graph: has no effect, as the mean distances need the vectors.
            eps: has no effect.
            device: where nearest neighbours are computed.

        Raises:
            UserError: vectors that are not finite, or the device is not there.

        """
        pairs = near_pairs(vectors, neighbours=self.neighbours, device=device)
        merges = average_linkage(pairs, highest_threshold(pairs) if self.threshold == "auto" else self.threshold)
        threshold = automatic_threshold(pairs, merges) if self.threshold == "auto" else self.threshold
        return Clusters(without_small(merges.labels(threshold), 2), threshold=threshold)


class KmeansSettings(Settings):
    """k-means on normalised vectors: a given number of clusters, and no noise.

    Reference: Lloyd, "Least Squares Quantization in PCM", IEEE Transactions on Information Theory 1982; starts as in
    Arthur and Vassilvitskii, "k-means++", SODA 2007.
    """

    kind: Literal["kmeans"] = "kmeans"
    k: Annotated[int, Field(ge=2)] | Literal["auto"] = Field(
        500, description="number of clusters; auto: as many as DBSCAN with the usual settings finds"
    )
    restarts: Annotated[int, Field(ge=1)] = Field(
        1, description="number of random starts; the clusters with the lowest inertia are kept"
    )
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0

    def fit(
        self, vectors: Floats, graph: SparseRows | None = None, *, eps: float | None = None, device: str = "cpu"
    ) -> Clusters:
        """Cluster `vectors` (N, D).

        Args:
            vectors: the images.
            graph: has no effect, as k-means works on the vectors.
            eps: has no effect.
            device: where distances and means are computed: on the CPU by scikit-learn, elsewhere by torch, whose random
                starts are others.

        Raises:
            UserError: fewer images than k, or the device is not there.

        """
        k = _usual_count(vectors, device=device) if self.k == "auto" else self.k
        if len(vectors) < k:
            raise UserError(
                f"fewer images than clusters: {len(vectors)} images with k={k}; k=auto takes the number "
                "that DBSCAN finds"
            )
        unit = unit_rows(vectors)
        if find_device(device).type != "cpu":
            return Clusters(kmeans(unit, k, seed=self.seed, restarts=self.restarts, device=device))
        from sklearn.cluster import KMeans
        from threadpoolctl import threadpool_limits

        # several threads add up centres in any order, and a resumed run would not find the same
        with threadpool_limits(1, user_api="openmp"):
            found = KMeans(k, n_init=self.restarts, random_state=self.seed).fit(unit)
        return Clusters(found.labels_)


def _usual_count(vectors: Floats, *, device: str) -> int:
    """Return how many clusters the usual DBSCAN finds in vectors (N, D), at least 2."""
    usual = build(DbscanSettings, USUAL["dbscan"], source="clustering")
    usual = usual.model_copy(update={"k1": max(1, min(usual.k1, len(vectors) - 1))})
    return max(2, usual.fit(vectors, device=device).count)


USUAL: dict[str, dict[str, Plain]] = {
    "dbscan": {"kind": "dbscan", "eps": "auto", "k1": 15, "k2": 4},
    "kmeans": {"kind": "kmeans", "k": "auto"},
}
"""The usual settings of each algorithm, where no published figures are repeated. k1 is about the number of
images of a person; with twice as many neighbours the same radius joins different people.
"""

AnyClustering = Annotated[
    DbscanSettings | HdbscanSettings | KmeansSettings | InfomapSettings | LinkageSettings, Field(discriminator="kind")
]


class _Choice(Settings):
    cluster: AnyClustering


def clustering_settings(kind: str, assignments: Sequence[str] = ()) -> AnyClustering:
    """Return an algorithm by its name as it is usually used, with some of its settings changed.

    >>> clustering_settings("dbscan", ["eps=0.5"]).eps
    0.5

    Raises:
        UserError: no such algorithm or setting, or not such a value.

    """
    data: dict[str, Plain] = {"kind": kind, **USUAL.get(kind, {})}
    for assignment in assignments:
        _require_setting(kind, assignment)
        data = override(data, assignment)
    return build(_Choice, {"cluster": data}, source="clustering").cluster


def _require_setting(kind: str, assignment: str) -> None:
    """Refuse a setting of another algorithm with the name of that one."""
    key = assignment.partition("=")[0].partition(".")[0]
    settings = {str(each.model_fields["kind"].default): each for each in get_args(get_args(AnyClustering)[0])}
    others = [name for name, each in settings.items() if key in each.model_fields]
    if kind in settings and others and kind not in others:
        raise UserError(f"{key} is a setting of {' and '.join(others)}, not of {kind}; add --kind {others[0]}")
