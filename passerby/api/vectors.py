"""Re-rank and cluster the vectors of any program."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from passerby.clustering.algorithms import clustering_settings
from passerby.clustering.findings import Findings, find_clusters
from passerby.distances import kreciprocal
from passerby.types import UNKNOWN, CameraNorm, Embeddings, Floats, Rerank

USUAL = Rerank()


def rerank(
    query: Floats,
    gallery: Floats,
    *,
    parameters: Rerank = USUAL,
    metric: Literal["cosine", "euclidean"] = "cosine",
    device: str = "cpu",
) -> Floats:
    """Return distances (Q, G) in [0, 1], re-ranked by k-reciprocal neighbours.

    Args:
        query: (Q, D) float32.
        gallery: (G, D) float32 of the same data set as the queries.
        parameters: k1, k2 and the weight of the original distance.
        metric: of the original distance; `cosine` normalises the vectors before.
        device: where matrix products and nearest neighbours are computed.

    >>> vectors = np.eye(6, 3, dtype=np.float32)
    >>> rerank(vectors[:2], vectors, parameters=Rerank(k1=2, k2=1)).shape
    (2, 6)

    Reference: Zhong et al., "Re-ranking Person Re-identification with k-reciprocal Encoding", CVPR 2017.

    Raises:
        UserError: vectors of different lengths, or no such device.

    """
    source = kreciprocal.rerank(query, gallery, parameters=parameters, metric=metric, device=device)
    return np.concatenate([block.cpu().numpy() for _, block in source.blocks()])


def cluster(
    vectors: Embeddings | Floats,
    algorithm: str = "linkage",
    settings: Sequence[str] = (),
    *,
    camera_norm: CameraNorm | None = None,
    device: str = "cpu",
) -> Findings:
    """Cluster vectors into identities and measure the quality of the clusters.

    Args:
        vectors: (N, D) float32, or a table whose identities, where known, are compared with the clusters.
        algorithm: `linkage` or `kmeans`, or on a graph of Jaccard distances `dbscan`, `hdbscan` or `infomap`.
        settings: `key=value` that change it, for example `threshold=0.5`.
        camera_norm: what is taken out of the vectors of each camera; None = `auto` with `linkage` where two cameras
            are known, else nothing.
        device: where matrix products and nearest neighbours are computed.

    Returns:
        The findings; `clusters.labels` (N,) are 0..K-1, and -1 for images in no cluster.

    >>> vectors = np.repeat(np.eye(3, dtype=np.float32), 4, axis=0)
    >>> cluster(vectors, "kmeans", ["k=3"]).clusters.sizes.tolist()
    [4, 4, 4]

    Raises:
        UserError: too few vectors, an unknown algorithm or setting, or fewer than two clusters.

    """
    table = vectors if isinstance(vectors, Embeddings) else _unlabelled(vectors)
    return find_clusters(table, clustering_settings(algorithm, settings), camera_norm=camera_norm, device=device)


def _unlabelled(vectors: Floats) -> Embeddings:
    unknown = np.full(len(vectors), UNKNOWN)
    return Embeddings(vectors, pid=unknown, cam=unknown, role=np.full(len(vectors), ""))
