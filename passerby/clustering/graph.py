"""The neighbourhood graph of one site without labels: Jaccard distances of the pairs that share neighbours.

Two images that share no neighbour are at distance 1, and such pairs, nearly all of them, are not stored: memory grows
with the number of images and not with its square. All clustering and all figures of quality start from this graph.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from passerby.distances.camera_jaccard import camera_aware_rows
from passerby.distances.jaccard import jaccard_graph
from passerby.distances.kreciprocal import k_reciprocal_rows
from passerby.distances.sparse import SparseRows
from passerby.errors import UserError
from passerby.types import Floats, Ints

GraphDistance = Literal["jaccard", "ca_jaccard"]
"""`jaccard`: neighbours among all images; `ca_jaccard`: neighbours in the same camera and in the other ones."""

GraphForm = Literal["clustering", "reranking"]
"""`clustering`: k1 neighbours, weighted by their distances as they are (SpCL, ClusterContrast); `reranking`: k1 + 1
neighbours, distances divided by the largest of their row (Zhong et al., SSG)."""

SMALLEST = 1e-6
"""Distances are at least this, so that exact duplicates are not taken for pairs that are not stored."""


def jaccard_neighbours(
    vectors: Floats,
    *,
    k1: int = 30,
    k2: int = 6,
    form: GraphForm = "clustering",
    at_most: float = 1.0,
    device: str = "cpu",
) -> SparseRows:
    """Return the k-reciprocal Jaccard distances (N, N), in [1e-6, 1], of one set; pairs that are missing are at 1.

    Args:
        vectors: (N, D), compared as if they were normalised.
        k1: neighbours that may be reciprocal (the image itself is one of them), 1..N-1.
        k2: neighbours averaged in the query expansion, >= 1; 1 = none.
        form: which of the two encodings in use.
        at_most: pairs farther apart are left out as well; most that share neighbours at all are nearly at 1, and of
            12,936 images these take a gigabyte.
        device: where the matrix products and the nearest neighbours are computed.

    Raises:
        UserError: k1 or k2 below 1, not more images than k1, or the device is not there.

    Reference: Zhong et al., "Re-ranking Person Re-identification with k-reciprocal Encoding", CVPR 2017, equations 3
    to 11; as in Ge et al., "Self-paced Contrastive Learning with Hybrid Memory", NeurIPS 2020, where `clustering`.
    With `reranking` it is that of Fu et al., "Self-similarity Grouping", ICCV 2019, whose code adds the vector of the
    mirror image before it normalises; here each image has one vector, whatever it was made of.

    >>> graph = jaccard_neighbours(np.repeat(np.eye(2, dtype=np.float32), 3, axis=0), k1=3, k2=1)
    >>> missing_at_1(graph)[:, 0].round(3).tolist()
    [0.0, 0.0, 0.0, 1.0, 1.0, 1.0]
    """
    if len(vectors) <= k1:
        raise UserError(
            f"fewer images than k1: {len(vectors)} images with k1={k1}; cluster.k1 must be smaller than their number"
        )
    variant: Literal["rerank", "cluster"] = "cluster" if form == "clustering" else "rerank"
    return jaccard_graph(k_reciprocal_rows(vectors, k1=k1, k2=k2, variant=variant, device=device), at_most=at_most)


def camera_jaccard_neighbours(
    vectors: Floats,
    cam: Ints,
    *,
    k1: tuple[int, int] = (5, 20),
    k2: tuple[int, int] = (2, 4),
    at_most: float = 1.0,
    device: str = "cpu",
) -> SparseRows:
    """Return the camera-aware Jaccard distances (N, N), in [1e-6, 1], of one set; pairs that are missing are at 1.

    Args:
        vectors: (N, D), compared as if they were normalised.
        cam: (N,) camera of each; images of unknown camera (-1) count as one more camera.
        k1: neighbours that may be reciprocal, in the same camera and in the others; see `camera_aware_rows`.
        k2: neighbours averaged in the query expansion, in the same camera and in the others.
        at_most: pairs farther apart are left out as well.
        device: where the matrix products and the nearest neighbours are computed.

    Raises:
        UserError: a number of neighbours that is too small, or the device is not there.

    Reference: Chen, Fan, Chen, Zhu, "CA-Jaccard: Camera-aware Jaccard Distance for Person Re-identification", CVPR
    2024.

    >>> vectors = np.repeat(np.eye(2, dtype=np.float32), 4, axis=0)
    >>> graph = camera_jaccard_neighbours(vectors, np.arange(8) % 2, k1=(1, 1), k2=(1, 0))
    >>> missing_at_1(graph)[0].round(3).tolist()
    [0.0, 0.0, 0.0, 0.0, 1.0, 1.0, 1.0, 1.0]
    """
    rows = camera_aware_rows(
        vectors, cam, k1_intra=k1[0], k1_inter=k1[1], k2_intra=k2[0], k2_inter=k2[1], device=device
    )
    return jaccard_graph(rows, at_most=at_most)


def smallest_share_mean(graph: SparseRows, share: float) -> float:
    """Return the mean of the smallest `share` of all pair distances: the radius that SSG clusters with.

    All M = N (N - 1) / 2 pairs count, missing ones at distance 1, but those that are at the floor: duplicates carry
    no information on how far apart the images of one person are. The mean is over max(1, round(share M)) pairs.

    Args:
        graph: (N, N) symmetric distances, N >= 2, at least 1e-6 where they are stored.
        share: in (0, 1].

    Returns:
        A distance in (1e-6, 1].

    Reference: Fu et al., "Self-similarity Grouping: A Simple Unsupervised Cross Domain Adaptation Approach for Person
    Re-identification", ICCV 2019, section 3.2.
    Differs from its code: at least one pair is averaged, so that a small set has a radius too.

    >>> from passerby.distances.sparse import SparseRows
    >>> two = SparseRows(np.array([0, 2, 4, 5]), np.array([0, 1, 0, 1, 2]), np.float32([0, 0.25, 0.25, 0, 0]), 3)
    >>> smallest_share_mean(two, 0.33), smallest_share_mean(two, 1.0)
    (0.25, 0.75)
    """
    if not 0 < share <= 1:
        raise UserError(f"share must be in (0, 1], got {share}")
    stored = graph.value[_row_of_entry(graph) < graph.column]
    near = stored[stored > SMALLEST]
    count_pairs = len(graph) * (len(graph) - 1) // 2 - (len(stored) - len(near))
    wanted = max(1, round(share * count_pairs))
    if wanted < len(near):
        near = np.partition(near, wanted - 1)[:wanted]
    missing = wanted - len(near)
    return (float(near.sum(dtype=np.float64)) + missing) / wanted


def within(graph: SparseRows, radius: float) -> SparseRows:
    """Return only the pairs at most `radius` (< 1) apart."""
    kept = np.flatnonzero(graph.value <= np.float32(radius))
    start = np.searchsorted(kept, graph.start)
    return SparseRows(start, graph.column[kept], graph.value[kept], graph.count_columns)


def k_distances(graph: SparseRows, k: int) -> Floats:
    """Return (N,) how far each image is from its k-th nearest, the image itself being the first, in ascending order.

    Where the curve bends upwards, images begin to stand apart from all clusters: a radius below the bend leaves them
    out. Pairs that are missing are at 1.

    Reference: Ester et al., KDD 1996, section 4.2.
    """
    order = np.lexsort((graph.value, _row_of_entry(graph)))
    enough = np.diff(graph.start) >= k
    found = np.ones(len(graph), np.float32)
    found[enough] = graph.value[order[graph.start[:-1][enough] + k - 1]]
    return np.sort(found)


def mixed_with_source(graph: SparseRows, away: Floats, *, share: float = 0.1) -> SparseRows:
    """Return (1 - share) J_ij + share (s_i + s_j) for the stored pairs: images far from the source are held apart.

    Pairs that share no neighbour stay missing, at distance 1: they are at least 1 - share apart, beyond any radius in
    use.

    Args:
        graph: (N, N) Jaccard distances J.
        away: (N,) s, how far each image is from its nearest in the source, in [0, 1].
        share: in [0, 1), the paper's lambda.

    Reference: Fu et al., ICCV 2019, section 3.3.
    """
    pairs = away[_row_of_entry(graph)] + away[graph.column]
    value = np.maximum((1 - share) * graph.value + share * pairs, SMALLEST).astype(np.float32)
    return SparseRows(graph.start, graph.column, value, graph.count_columns)


def missing_at_1(graph: SparseRows) -> Floats:
    """Return the whole matrix (N, N), for small sets: missing pairs at 1, every image at 0 from itself."""
    whole = np.ones((len(graph), graph.count_columns), np.float32)
    whole[_row_of_entry(graph), graph.column] = graph.value
    np.fill_diagonal(whole, 0)
    return whole


def _row_of_entry(graph: SparseRows) -> Ints:
    return np.repeat(np.arange(len(graph)), np.diff(graph.start))
