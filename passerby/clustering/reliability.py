"""Reliable clusters: those that stay the same under a small change of the radius.

A cluster is independent when a larger radius does not join it to others, and its images are compact when a smaller one
does not tear them apart. Both are overlaps (IoU) of the clusters that an image is in, so 1 means: unchanged.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from passerby.clustering.clusters import numbered
from passerby.clustering.precomputed import NOISE
from passerby.types import Doubles, Ints


def agreement_iou(a: Ints, b: Ints) -> Doubles:
    """Return how much the cluster of each image in `a` overlaps with its cluster in `b`: (N,) IoU in (0, 1].

    Args:
        a, b: (N,) labels of the same images in any numbering; -1 = alone, a cluster of one.

    Reference: Ge et al., "Self-paced Contrastive Learning with Hybrid Memory for Domain Adaptive Object Re-ID",
    NeurIPS 2020, section 3.3.

    >>> agreement_iou(np.array([0, 0, 0, -1]), np.array([0, 0, 1, 1])).round(3).tolist()
    [0.667, 0.667, 0.25, 0.5]
    """
    first, second = alone_apart(a), alone_apart(b)
    count = first.max(initial=0) + 1
    _, place, both = np.unique(second * count + first, return_inverse=True, return_counts=True)
    shared = both[place]
    return shared / (np.bincount(first)[first] + np.bincount(second)[second] - shared)


def compactness(labels: Ints, tight: Ints) -> Doubles:
    """Return (N,) IoU in (0, 1] of each image's cluster with its cluster at a smaller radius; 1 = it holds together."""
    return agreement_iou(labels, tight)


def independence(labels: Ints, loose: Ints) -> Doubles:
    """Return (N,) IoU in (0, 1] of each image's cluster with its cluster at a larger radius; 1 = nothing joins it."""
    return agreement_iou(labels, loose)


@dataclass(frozen=True, eq=False)
class Reliable:
    """The clusters that are left, and by which threshold.

    Attributes:
        labels: (N,) 0..K-1 in order of first appearance, -1 = left out, or alone before.
        threshold: the least independence of a cluster, in [0, 1]; to be kept for the rest of the run.

    """

    labels: Ints
    threshold: float


def keep_reliable(
    labels: Ints, tight: Ints, loose: Ints, *, threshold: float | None = None, share: float = 0.9
) -> Reliable:
    """Leave out clusters that are not independent, and of the others the images that are not the most compact.

    A cluster stays when the most independent of its images reaches the threshold; an image stays when no other of its
    cluster is more compact. Who is the only one left of a cluster is left out.

    Args:
        labels: (N,) clusters, -1 = noise.
        tight, loose: (N,) the same images at a smaller and at a larger radius.
        threshold: least independence; None = chosen now, so that about `share` of the clusters stay.
        share: of the clusters of two or more, in (0, 1].

    Reference: Ge et al., NeurIPS 2020, section 3.3 and its code, which has 1 - IoU and therefore smaller is better.
    Differs from its code: images that are left out are -1, and not clusters of one.

    >>> keep_reliable(np.array([0, 0, 0, 1, 1]), np.array([0, 0, 1, 2, 2]), np.array([0, 0, 0, 1, 1])).labels.tolist()
    [0, 0, -1, 1, 1]
    """
    labels = numbered(labels)
    members = np.flatnonzero(labels != NOISE)
    own = labels[members]
    compact = compactness(labels, tight)[members]
    independent = _largest_of_cluster(independence(labels, loose)[members], own)  # (K,)
    if threshold is None:
        threshold = _threshold(independent[np.bincount(own) > 1], share)
    stays = (independent[own] >= threshold) & (compact >= _largest_of_cluster(compact, own)[own])
    stays &= np.bincount(own[stays], minlength=len(independent))[own] > 1
    left = np.full_like(labels, NOISE)
    left[members[stays]] = own[stays]
    return Reliable(numbered(left), threshold)


def alone_apart(labels: Ints) -> Ints:
    """Return the labels with every -1 turned into a cluster of its own, numbered after the others."""
    labels = numbered(labels)
    alone = labels == NOISE
    labels[alone] = labels.max(initial=NOISE) + 1 + np.arange(alone.sum())
    return labels


def _largest_of_cluster(values: Doubles, own: Ints) -> Doubles:
    """Return (K,) the largest value of each cluster."""
    largest = np.zeros(own.max(initial=NOISE) + 1)
    np.maximum.at(largest, own, values)
    return largest


def _threshold(independent: Doubles, share: float) -> float:
    """Return the value that `share` of the clusters reach; 0 when there are none."""
    falling = -np.sort(-independent)
    return float(falling[min(len(falling) - 1, round(len(falling) * share))]) if len(falling) else 0.0
