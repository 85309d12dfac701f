"""Batches of two parts: new images, and images of a memory that are shown again."""

from __future__ import annotations

import numpy as np

from passerby.types import Ints


def interleave(plan: Ints, other: Ints, *, instances: int) -> Ints:
    """Join two plans of equally many batches, the identities of the second spread evenly among those of the first.

    Thus every rank of a distributed run gets its share of both.

    Args:
        plan: (count, P * K) rows.
        other: (count, Q * K) rows.
        instances: K, images of each identity.

    Returns:
        (count, (P + Q) * K) rows; images of an identity stand together.

    >>> interleave(np.array([[1, 2, 3, 4]]), np.array([[8, 9]]), instances=1).tolist()
    [[1, 2, 8, 3, 4, 9]]
    """
    first, second = plan.shape[1] // instances, other.shape[1] // instances
    places = (np.arange(1, second + 1) * (first + second) // second) - 1  # of the second's identities in a batch
    joined = np.empty((len(plan), first + second, instances), dtype=np.int64)
    of_second = np.zeros(first + second, dtype=bool)
    of_second[places] = True
    joined[:, of_second] = other.reshape(len(plan), second, instances)
    joined[:, ~of_second] = plan.reshape(len(plan), first, instances)
    return joined.reshape(len(plan), -1)


def replayed_identities(identities: int, share: float) -> int:
    """Return how many of P identities in a batch come from a memory: the share, but at least one of either kind.

    >>> [replayed_identities(16, share) for share in (0.01, 0.5, 0.99)]
    [1, 8, 15]
    """
    return min(identities - 1, max(1, round(share * identities)))
