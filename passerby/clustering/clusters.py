"""Cluster labels of a set of images, and the refusal of those that nothing can be learnt from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from passerby.clustering.precomputed import NOISE
from passerby.errors import UserError
from passerby.types import Ints


def numbered(labels: Ints) -> Ints:
    """Return the same clusters (N,) numbered 0..K-1 in order of first appearance; `-1` stays.

    >>> numbered(np.array([7, -1, 3, 7, 3])).tolist()
    [0, -1, 1, 0, 1]
    """
    names, first, place = np.unique(labels, return_index=True, return_inverse=True)
    first[names == NOISE] = -1
    rank = np.empty(len(names), np.int64)
    rank[np.argsort(first)] = np.arange(len(names))
    return rank[place].reshape(labels.shape) - int(NOISE in names)


@dataclass(frozen=True, eq=False)
class Clusters:
    """Cluster labels of a set of images.

    Attributes:
        labels: (N,) int64, 0..K-1 in order of first appearance, -1 = noise; any numbering may be given.
        eps: the radius of DBSCAN, None of the others.
        threshold: the largest mean distance within clusters of average linkage, None of the others.

    """

    labels: Ints
    eps: float | None = None
    threshold: float | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "labels", numbered(np.asarray(self.labels, np.int64)))

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def count(self) -> int:
        """K, the number of clusters."""
        return int(self.labels.max(initial=NOISE)) + 1

    @property
    def sizes(self) -> Ints:
        """(K,) images of each cluster."""
        return np.bincount(self.labels[self.labels != NOISE], minlength=self.count)

    @property
    def noise(self) -> float:
        """Share of the images that belong to no cluster, in [0, 1]."""
        return float((self.labels == NOISE).mean()) if len(self) else 0.0


def require_usable(clusters: Clusters, *, max_noise_ratio: float = 0.95) -> None:
    """Raise `UserError` unless there are two clusters or more to learn from, and not nearly all is noise.

    Args:
        clusters: result of an algorithm.
        max_noise_ratio: the largest share of noise that is allowed, in [0, 1].

    """
    linked = clusters.threshold is not None
    closer = "raise threshold" if linked else "raise eps (or k1), or lower min_samples"
    farther = "lower threshold" if linked else "lower eps (or k1), or raise min_samples"
    if clusters.count == 0:
        raise UserError(f"clustering found no cluster, only noise, in {len(clusters)} images: {closer}")
    if clusters.noise > max_noise_ratio:
        raise UserError(
            f"clustering left {100 * clusters.noise:.1f} % of {len(clusters)} images as noise, more than the "
            f"{100 * max_noise_ratio:g} % allowed: {closer}"
        )
    if clusters.count == 1:
        raise UserError(
            f"clustering put {clusters.sizes[0]} of {len(clusters)} images into one cluster, as if all were one "
            f"person: {farther}"
        )
