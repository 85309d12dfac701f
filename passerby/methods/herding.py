"""Herding: the images of an identity whose mean follows the mean of all, for a small memory."""

from __future__ import annotations

import numpy as np

from passerby.types import Floats, Ints


def herd(features: Floats, count: int) -> Ints:
    """Return the rows whose mean follows the mean of all as closely as possible, in the order of their selection.

    Each next row is the one with which the mean of the selected rows is nearest to the mean of all, so the first rows
    are the result for a smaller count. The rows nearest to the mean are others: they are similar to each other.

    Args:
        features: (N, D); normalise them first when only directions count.
        count: number of rows, at most N are returned.

    Reference: Rebuffi et al., "iCaRL: Incremental Classifier and Representation Learning", CVPR 2017, algorithm 4.

    >>> herd(np.array([[4.0], [0.0], [1.1], [5.0]], dtype=np.float32), 2).tolist()
    [2, 0]
    """
    mean, total = features.mean(axis=0), np.zeros(features.shape[1])
    selected: list[int] = []
    remaining = np.ones(len(features), dtype=bool)
    for number in range(1, min(count, len(features)) + 1):
        distances = np.linalg.norm(mean - (total + features) / number, axis=1)  # (N,)
        row = int(np.where(remaining, distances, np.inf).argmin())
        selected.append(row)
        remaining[row] = False
        total += features[row]
    return np.array(selected, dtype=np.int64)
