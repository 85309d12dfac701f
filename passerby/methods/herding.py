"""Which images of a person to keep, when only a few can be kept."""

from __future__ import annotations

import numpy as np

from passerby.types import Floats, Ints


def herd(features: Floats, count: int) -> Ints:
    """Return the rows whose mean follows the mean of all as closely as it can, in the order in which they are chosen.

    Each next row is the one with which the mean of the chosen comes nearest to the mean of all, so the first rows of
    the answer are the answer for fewer. The rows nearest to the mean are something else: they look alike.

    Args:
        features: (N, D); normalise them first when only directions count.
        count: how many, at most N are returned.

    Reference: Rebuffi et al., "iCaRL: Incremental Classifier and Representation Learning", CVPR 2017, algorithm 4.

    >>> herd(np.array([[4.0], [0.0], [1.1], [5.0]], dtype=np.float32), 2).tolist()
    [2, 0]
    """
    mean, total = features.mean(axis=0), np.zeros(features.shape[1])
    chosen: list[int] = []
    left = np.ones(len(features), dtype=bool)
    for number in range(1, min(count, len(features)) + 1):
        away = np.linalg.norm(mean - (total + features) / number, axis=1)  # (N,)
        row = int(np.where(left, away, np.inf).argmin())
        chosen.append(row)
        left[row] = False
        total += features[row]
    return np.array(chosen, dtype=np.int64)
