"""Camera-aware Jaccard encoding: every image has a list of neighbours in its own camera, and one in all others.

In a joint list the images of one camera, which share light and background, crowd out the images of the same person in
other cameras. With two lists, neighbours in other cameras count as much as those in the own camera, however far they
are.

Reference: Chen, Fan, Chen, Zhu, "CA-Jaccard: Camera-aware Jaccard Distance for Person Re-identification", CVPR 2024.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy.sparse import csr_array

from passerby.distances.cameras import lack_of_cameras
from passerby.distances.kreciprocal import RerankedDistances, blended, rerank, squared_in_place
from passerby.distances.nearest import smallest
from passerby.distances.pairwise import SMALLEST_SQUARE, Metric, PairwiseDistances, ScaledVectors, pairwise, vectors_on
from passerby.distances.sparse import SparseRows
from passerby.errors import UserError
from passerby.types import AnyRerank, Bools, CameraRerank, Floats, Ints, Rerank


@dataclass(frozen=True, eq=False)
class _Lists:
    """The nearest of each image of a set, in two lists that end in rows of -1 where their group of images ends.

    Attributes:
        same, same_square: (N, K) rows of the same camera, the image first, and squared distances.
        other, other_square: (N, K') rows of other cameras.
        largest: (N,) the largest squared distance of each image.

    """

    same: Ints
    same_square: Floats
    other: Ints
    other_square: Floats
    largest: Floats


def camera_aware_rows(
    vectors: Floats,
    cam: Ints,
    *,
    k1_intra: int = 5,
    k1_inter: int = 20,
    k2_intra: int = 2,
    k2_inter: int = 4,
    device: str = "cpu",
) -> SparseRows:
    """Return the camera-aware encoding (N, N) of one set, rows that sum to 1; `jaccard_graph` makes distances of it.

    With O(i) the k1_intra + 1 nearest images in the camera of image i, itself first, and A(i) the k1_inter + 1 nearest
    in all other cameras, R(i) holds the j in O(i) with i in O(j), and the j in A(i) with i in A(j). Row i is the
    softmax of -(2 - 2 cos) over R(i), and then the mean of the rows of its k2_intra nearest images in its camera,
    itself first, and of its k2_inter nearest in the others.

    Args:
        vectors: (N, D), compared as if they were normalised.
        cam: (N,) camera of each; images of unknown camera (-1) count as one more camera.
        k1_intra: nearest images in the same camera, beside the image itself, that may be reciprocal, >= 1.
        k1_inter: nearest images in other cameras that may be reciprocal, less one, >= 1.
        k2_intra: images of the same camera in the mean, the image itself included, >= 1.
        k2_inter: images of other cameras in the mean, >= 0.
        device: device of the matrix products and of the nearest neighbours.

    Raises:
        UserError: a number of neighbours that is too small, or the device is not there.

    Reference: Chen et al., CVPR 2024.
    Differs from its code: a list ends where its group of images ends, where the code goes on with the nearest images of
    the other group; there all averages of the first epoch are over 3 and 3 images.

    >>> rows = camera_aware_rows(np.eye(4, 2, dtype=np.float32), np.array([0, 1, 0, 1]), k2_intra=1, k2_inter=0)
    >>> rows.scipy().toarray().sum(axis=1).round(5).tolist()
    [1.0, 1.0, 1.0, 1.0]
    """
    numbers = CameraRerank(k1_intra=k1_intra, k1_inter=k1_inter, k2_intra=k2_intra, k2_inter=k2_inter)
    lists = _two_lists((vectors_on(vectors, metric="cosine", device=device),), cam, numbers, metric="cosine")
    return _encode(lists, numbers, scale=np.ones_like(lists.largest))


def camera_rerank(
    query: Floats,
    gallery: Floats,
    cam: tuple[Ints, Ints],
    *,
    parameters: CameraRerank,
    metric: Metric = "euclidean",
    device: str = "cpu",
) -> RerankedDistances:
    """Re-rank the gallery (G, D) for every query (Q, D) by neighbours in the same and in other cameras.

    With d the squared distances, each divided by the largest of its row, and J the Jaccard distances of the rows of
    `camera_aware_rows` over query and gallery, with the softmax of -d in them, the result is (1 - weight) J + weight d.

    Args:
        query: float32 vectors.
        gallery: float32 vectors of the same length, from the same site.
        cam: cameras (Q,) and (G,); images of unknown camera (-1) count as one more camera.
        parameters: numbers of neighbours, and the weight of the original distance.
        metric: `euclidean` takes the vectors as they are, `cosine` as if they were normalised.
        device: where matrix products and nearest neighbours are computed; the sets are made on the CPU in any case.

    Raises:
        UserError: the two differ in D, or the device is not there.

    Reference: Chen et al., CVPR 2024, section on re-ranking.
    Differs from its code: a list ends where its group of images ends; sparse rows, where the code has (N, N) matrices.

    >>> x, cam = np.eye(4, 2, dtype=np.float32), np.array([0, 1, 0, 1])
    >>> camera_rerank(x[:3], x, (cam[:3], cam), parameters=CameraRerank(k1_intra=1, k1_inter=1)).shape
    (3, 4)
    """
    original = pairwise(query, gallery, metric=metric, device=device)
    lists = _two_lists((*original.left, *original.right), np.concatenate(cam), parameters, metric=metric)
    rows = _encode(lists, parameters, scale=lists.largest)
    return blended(original, rows, metric=metric, largest=lists.largest, weight=parameters.weight)


def rerank_any(
    query: Floats,
    gallery: Floats,
    cam: tuple[Ints, Ints],
    *,
    parameters: AnyRerank,
    metric: Metric = "euclidean",
    device: str = "cpu",
) -> RerankedDistances:
    """Return what `rerank` or, with `CameraRerank`, `camera_rerank` does.

    Raises:
        UserError: camera-aware re-ranking without two known cameras, and as these.

    """
    if isinstance(parameters, Rerank):
        return rerank(query, gallery, parameters=parameters, metric=metric, device=device)
    if lack := lack_of_cameras(np.concatenate(cam)):
        raise UserError(f"re-ranking by ca_jaccard needs two cameras, and {lack}; re-rank by jaccard")
    return camera_rerank(query, gallery, cam, parameters=parameters, metric=metric, device=device)


def _encode(lists: _Lists, numbers: CameraRerank, *, scale: Floats) -> SparseRows:
    """Return the encoding (N, N) with the softmax of -squares / scale, scale (N,)."""
    first, second = slice(numbers.k1_intra + 1), slice(numbers.k1_inter + 1)
    row = np.concatenate([lists.same[:, first], lists.other[:, second]], axis=1)
    square = np.concatenate([lists.same_square[:, first], lists.other_square[:, second]], axis=1)
    encoding = _summing_to_1(_reciprocal(_weights(row, np.exp(-square / scale[:, None]))))
    nearest = np.concatenate([lists.same[:, : numbers.k2_intra], lists.other[:, : numbers.k2_inter]], axis=1)
    mean = _summing_to_1(_weights(nearest, np.ones(nearest.shape, np.float32))) @ encoding
    return SparseRows(mean.indptr.astype(np.int64), mean.indices.astype(np.int64), mean.data, len(row))


def _two_lists(sides: tuple[ScaledVectors, ...], cam: Ints, numbers: CameraRerank, *, metric: Metric) -> _Lists:
    """Return the nearest of each image of the joined sides, of cameras (N,)."""
    source = PairwiseDistances(sides, sides, metric)
    count_rows = source.shape[0]
    cameras = torch.from_numpy(np.unique(cam, return_inverse=True)[1]).to(sides[0].rows.device)
    same = _empty_list(count_rows, max(numbers.k1_intra + 1, numbers.k2_intra))
    other = _empty_list(count_rows, max(numbers.k1_inter + 1, numbers.k2_inter))
    largest = torch.empty(count_rows)
    for start, block in source.blocks():
        lines = slice(start, start + len(block))
        largest[lines] = block.amax(dim=1).cpu()
        is_same = cameras[lines, None] == cameras
        _fill(same, lines, block.masked_fill(~is_same, torch.inf), own=start, metric=metric)
        _fill(other, lines, block.masked_fill_(is_same, torch.inf), own=None, metric=metric)
    same[1][:, 0] = SMALLEST_SQUARE  # of an image to itself
    return _Lists(*same, *other, squared_in_place(largest, metric).numpy())


def _empty_list(count_rows: int, count: int) -> tuple[Ints, Floats]:
    count = min(count, count_rows)
    return np.empty((count_rows, count), np.int64), np.empty((count_rows, count), np.float32)


def _fill(
    neighbours: tuple[Ints, Floats], lines: slice, block: torch.Tensor, *, own: int | None, metric: Metric
) -> None:
    """Write the nearest of a block (B, N), inf = not of the group, into the lists."""
    row, square = neighbours
    columns, values = smallest(block, row.shape[1], own=own)
    row[lines] = np.where(np.isinf(values), -1, columns)
    square[lines] = squared_in_place(torch.from_numpy(values), metric).numpy()


def _weights(row: Ints, value: Floats) -> csr_array:
    """Return the (N, N) matrix with the values (N, K) at the columns (N, K), those of -1 left out."""
    is_filled: Bools = row >= 0
    start = np.concatenate([[0], np.cumsum(is_filled.sum(axis=1))])
    return csr_array((value[is_filled], row[is_filled], start), shape=(len(row), len(row)))


def _reciprocal(weights: csr_array) -> csr_array:
    """Return the positive entries (i, j) for which there is an entry (j, i)."""
    return csr_array(weights.multiply(weights.T.sign()))


def _summing_to_1(weights: csr_array) -> csr_array:
    """Return the matrix with each row divided by its sum; every row has an entry, the image itself."""
    sums = weights.sum(axis=1)
    scaled = weights.data / np.repeat(sums, np.diff(weights.indptr))
    return csr_array((scaled.astype(np.float32), weights.indices, weights.indptr), shape=weights.shape)
