"""Active labelling: an oracle gives the identities of a few unlabelled images, which spread to other images."""

from __future__ import annotations

from typing import Literal

import numpy as np

from passerby.clustering.clusters import numbered
from passerby.clustering.precomputed import NOISE
from passerby.distances.sparse import SparseRows
from passerby.types import UNKNOWN, Bools, Ints

Oracle = Literal["none", "cluster", "random"]
"""`cluster`: the oracle labels about one image of every cluster; `random`: about as many images of the whole set."""


def draw_queries(
    labels: Ints, generator: np.random.Generator, *, known: Bools, oracle: Literal["cluster", "random"]
) -> Ints:
    """Return ascending rows (A,) of the images that the oracle labels, drawn at random.

    Args:
        labels: (N,) clusters, -1 = in none.
        generator: source of randomness.
        known: (N,) whether the oracle has a label for the image.
        oracle: see `Oracle`.

    >>> clusters = np.array([0, 0, -1, 1, 1]), np.random.default_rng(0)
    >>> draw_queries(*clusters, known=np.array([True, False, True, False, True]), oracle="cluster").tolist()
    [0, 4]
    """
    clustered = (labels != NOISE) & known
    if oracle == "random":
        count = len(np.unique(labels[labels != NOISE]))
        rows = np.flatnonzero(known)
        return np.sort(generator.permutation(rows)[:count])
    clusters = np.unique(labels[clustered])
    drawn = [generator.choice(np.flatnonzero(clustered & (labels == cluster))) for cluster in clusters]
    return np.sort(np.array(drawn, np.int64))


def count_spread(epoch: int, *, epochs: int, unlabelled: int) -> int:
    """Return the number of images that get the label of a queried one in an epoch (from 0): all of them in the last.

    Reference: Fu et al., ICCV 2019 (published code).
    Differs from the published code: rounded once, so that fewer images than epochs are not 0 for ever.

    >>> [count_spread(epoch, epochs=4, unlabelled=10) for epoch in range(4)]
    [2, 5, 7, 10]
    """
    return (epoch + 1) * unlabelled // epochs


def spread_to_nearest(graph: SparseRows, queried: Ints, identities: Ints, *, count: int) -> Ints:
    """Return (N,) identities: of queried images their own, of the images nearest to one of them that one's, else -1.

    Args:
        graph: (N, N) distances; a pair that is missing is too far apart.
        queried: (A,) rows of the images that the oracle has labelled.
        identities: (A,) their identities, >= 0.
        count: number of other images that get an identity, the nearest first.

    >>> three = SparseRows(np.array([0, 1, 3, 4]), np.array([0, 0, 2, 2]), np.float32([0, 0.4, 0.2, 0]), 3)
    >>> spread_to_nearest(three, np.array([0, 2]), np.array([5, 7]), count=1).tolist()
    [5, 7, 7]
    """
    place = np.full(len(graph), -1)
    place[queried] = np.arange(len(queried))
    row = np.repeat(np.arange(len(graph)), np.diff(graph.start))
    useful = (place[graph.column] >= 0) & (place[row] < 0)
    row, to, value = row[useful], place[graph.column[useful]], graph.value[useful]
    order = np.lexsort((to, value))
    first = np.unique(row[order], return_index=True)[1]  # of every image the nearest queried one
    nearest = order[np.sort(first)][:count]
    spread = np.full(len(graph), UNKNOWN)
    spread[queried] = identities
    spread[row[nearest]] = identities[to[nearest]]
    return spread


def merge_by_identity(labels: Ints, queried: Ints, identities: Ints) -> Ints:
    """Return clusters (N,) in which those of one identity are one, and labelled images outside all join theirs.

    The identity of a cluster is the most frequent one among its queried images (of several, the lowest). A queried
    image moves to a cluster of its identity, or to a new one where there is none.

    Args:
        labels: (N,) clusters, -1 = in none.
        queried: (A,) rows of the images that the oracle has labelled.
        identities: (N,) from 0, of the queried images and of those that the labels were spread to; -1 elsewhere.

    >>> merge_by_identity(np.array([0, 0, 1, 2, -1]), np.array([0, 2]), np.array([4, -1, 4, -1, 4])).tolist()
    [0, 0, 0, 1, 0]
    """
    count, count_identities = int(labels.max(initial=NOISE)) + 1, int(identities.max(initial=UNKNOWN)) + 1
    clustered = queried[labels[queried] != NOISE]
    votes = np.zeros((count, count_identities), np.int64)
    np.add.at(votes, (labels[clustered], identities[clustered]), 1)
    voted = np.flatnonzero(votes.any(axis=1))  # clusters with a queried image
    identity = votes[voted].argmax(axis=1)
    target = count + np.arange(count_identities)  # of each identity a new cluster, unless there is one
    np.minimum.at(target, identity, voted)
    joined = np.arange(count)
    joined[voted] = target[identity]
    merged = np.where(labels == NOISE, NOISE, joined[labels])
    moving = (identities != UNKNOWN) & (labels == NOISE)
    moving[queried] = True
    merged[moving] = target[identities[moving]]
    return numbered(merged)
