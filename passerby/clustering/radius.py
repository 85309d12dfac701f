"""The radius of DBSCAN from the images alone."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from passerby.types import Ints

RADII = tuple(round(0.3 + 0.025 * step, 3) for step in range(17))
"""Jaccard distances that are compared, 0.3 to 0.7: below, only near copies are neighbours; above, two images share less
than three tenths of their neighbours, and chains of such pairs join nearly everything."""


def covered_clusters(labels: Ints) -> float:
    """Return the number of clusters times the share of the images that are in one; labels (N,), -1 = in none.

    >>> covered_clusters(np.array([0, 0, 1, -1]))
    1.5
    """
    inside = labels >= 0
    return len(np.unique(labels[inside])) * float(inside.mean()) if len(labels) else 0.0


def choose_radius(labels_at: Callable[[float], Ints]) -> float:
    """Return the radius at which clusters are many and hold most images.

    As the radius grows, more images come into clusters, and clusters of different people merge: the share of images
    inside rises, the number of clusters falls. Their product is largest where another step would lose more clusters by
    merging than it gains images. It is averaged with that of the next smaller and larger radius, so that one lucky
    radius does not decide; of equal ones the smallest is taken.

    Args:
        labels_at: returns the clusters (N,) at a radius, -1 = in none.

    """
    products = np.array([covered_clusters(labels_at(radius)) for radius in RADII])
    padded = np.concatenate([products[:1], products, products[-1:]])
    smoothed = (padded[:-2] + padded[1:-1] + padded[2:]) / 3
    return RADII[int(np.argmax(smoothed.round(9)))]
