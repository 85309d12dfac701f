"""Camera-aware Jaccard encoding: every image has a list of neighbours in its own camera, and one in all others.

In a joint list the images of one camera, which share light and background, crowd out the images of the same person in
other cameras. With two lists, neighbours in other cameras count as much as those in the own camera, however far they
are.

Reference: Chen, Fan, Chen, Zhu, "CA-Jaccard: Camera-aware Jaccard Distance for Person Re-identification", CVPR 2024.
"""

from __future__ import annotations

import numpy as np
import torch
from scipy.sparse import csr_array

from passerby.distances.nearest import smallest
from passerby.distances.pairwise import PairwiseDistances, vectors_on
from passerby.distances.sparse import SparseRows
from passerby.errors import UserError
from passerby.types import Bools, Floats, Ints


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
    if min(k1_intra, k1_inter, k2_intra) < 1 or k2_inter < 0:
        raise UserError(
            "k1_intra, k1_inter and k2_intra must be at least 1 and k2_inter at least 0, got "
            f"k1_intra={k1_intra}, k1_inter={k1_inter}, k2_intra={k2_intra}, k2_inter={k2_inter}"
        )
    counts = max(k1_intra + 1, k2_intra), max(k1_inter + 1, k2_inter)
    (same, same_square), (other, other_square) = _two_lists(vectors, cam, counts=counts, device=device)
    row = np.concatenate([same[:, : k1_intra + 1], other[:, : k1_inter + 1]], axis=1)
    square = np.concatenate([same_square[:, : k1_intra + 1], other_square[:, : k1_inter + 1]], axis=1)
    encoding = _summing_to_1(_reciprocal(_weights(row, np.exp(-square))))
    nearest = np.concatenate([same[:, :k2_intra], other[:, :k2_inter]], axis=1)
    mean = _summing_to_1(_weights(nearest, np.ones(nearest.shape, np.float32))) @ encoding
    return SparseRows(mean.indptr.astype(np.int64), mean.indices.astype(np.int64), mean.data, len(vectors))


def _two_lists(
    vectors: Floats, cam: Ints, *, counts: tuple[int, int], device: str
) -> tuple[tuple[Ints, Floats], tuple[Ints, Floats]]:
    """Return rows (N, K) and squared distances (N, K) of the nearest in the same camera, itself first, and in others.

    A list that is longer than its group of images ends in rows of -1.
    """
    side = vectors_on(vectors, metric="cosine", device=device)
    cameras = torch.from_numpy(np.unique(cam, return_inverse=True)[1]).to(side.rows.device)
    same, other = (_empty_list(len(vectors), min(count, len(vectors))) for count in counts)
    for start, block in PairwiseDistances((side,), (side,), "cosine").blocks():
        lines = slice(start, start + len(block))
        is_same = cameras[lines, None] == cameras
        _fill(same, lines, block.masked_fill(~is_same, torch.inf), own=start)
        _fill(other, lines, block.masked_fill_(is_same, torch.inf), own=None)
    same[1][:, 0] = 0  # of an image to itself
    return same, other


def _empty_list(count_rows: int, count: int) -> tuple[Ints, Floats]:
    return np.empty((count_rows, count), np.int64), np.empty((count_rows, count), np.float32)


def _fill(neighbours: tuple[Ints, Floats], lines: slice, block: torch.Tensor, *, own: int | None) -> None:
    """Write the nearest of a block (B, N) of -cos, inf = not of the group, into the lists."""
    row, square = neighbours
    columns, values = smallest(block, row.shape[1], own=own)
    row[lines] = np.where(np.isinf(values), -1, columns)
    square[lines] = np.maximum(2 + 2 * values, 0)


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
