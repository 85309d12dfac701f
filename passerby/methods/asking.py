"""Asking people who is in a few of the images of an unlabelled site, and what follows from their answers."""

from __future__ import annotations

from typing import Literal

import numpy as np

from passerby.clustering.algorithms import numbered
from passerby.clustering.precomputed import NOISE
from passerby.distances.sparse import SparseRows
from passerby.types import UNKNOWN, Bools, Ints

Ask = Literal["none", "cluster", "random"]
"""`cluster`: about one image of every cluster; `random`: about as many images of the whole site."""


def chosen_to_ask(
    labels: Ints, generator: np.random.Generator, *, known: Bools, ask: Literal["cluster", "random"]
) -> Ints:
    """Return ascending rows of the images to ask about, drawn at random.

    Args:
        labels: (N,) clusters, -1 = in none.
        generator: source of randomness.
        known: (N,) whether there is anybody who could answer.
        ask: see `Ask`.

    >>> ask_about = np.array([0, 0, -1, 1, 1]), np.random.default_rng(0)
    >>> chosen_to_ask(*ask_about, known=np.array([True, False, True, False, True]), ask="cluster").tolist()
    [0, 4]
    """
    clustered = (labels != NOISE) & known
    if ask == "random":
        count = len(np.unique(labels[labels != NOISE]))
        rows = np.flatnonzero(known)
        return np.sort(generator.permutation(rows)[:count])
    drawn = [generator.choice(np.flatnonzero(clustered & (labels == one))) for one in np.unique(labels[clustered])]
    return np.sort(np.array(drawn, np.int64))


def count_to_name(epoch: int, *, epochs: int, unlabelled: int) -> int:
    """Return how many images beside those asked about get a name in an epoch (from 0): all of them in the last.

    Reference: Fu et al., ICCV 2019 (published code).
    Differs from the published code: rounded once, so that fewer images than epochs are not 0 for ever.

    >>> [count_to_name(epoch, epochs=4, unlabelled=10) for epoch in range(4)]
    [2, 5, 7, 10]
    """
    return (epoch + 1) * unlabelled // epochs


def named_by_nearest(graph: SparseRows, asked: Ints, names: Ints, *, count: int) -> Ints:
    """Return (N,) names: of asked images their own, of those nearest to one of them that one's name, -1 of all others.

    Args:
        graph: (N, N) distances; a pair that is missing is too far apart.
        asked: (A,) rows of the images asked about.
        names: (A,) who is in them, >= 0.
        count: how many other images get a name, the nearest first.

    >>> three = SparseRows(np.array([0, 1, 3, 4]), np.array([0, 0, 2, 2]), np.float32([0, 0.4, 0.2, 0]), 3)
    >>> named_by_nearest(three, np.array([0, 2]), np.array([5, 7]), count=1).tolist()
    [5, 7, 7]
    """
    place = np.full(len(graph), -1)
    place[asked] = np.arange(len(asked))
    row = np.repeat(np.arange(len(graph)), np.diff(graph.start))
    useful = (place[graph.column] >= 0) & (place[row] < 0)
    row, to, value = row[useful], place[graph.column[useful]], graph.value[useful]
    order = np.lexsort((to, value))
    first = np.unique(row[order], return_index=True)[1]  # of every image the nearest that was asked about
    chosen = order[np.sort(first)][:count]
    found = np.full(len(graph), UNKNOWN)
    found[asked] = names
    found[row[chosen]] = names[to[chosen]]
    return found


def merged_by_name(labels: Ints, asked: Ints, named: Ints) -> Ints:
    """Return clusters (N,) after what was asked: those of one person are one, and named images outside all join theirs.

    A cluster is of the person whom most of its asked images show (of several, the one with the lowest name). An asked
    image goes to a cluster of its person, or to a new one where there is none.

    Args:
        labels: (N,) clusters, -1 = in none.
        asked: (A,) rows of the images asked about.
        named: (N,) who is in an image, from 0, as far as it is known or believed, -1 elsewhere.

    >>> merged_by_name(np.array([0, 0, 1, 2, -1]), np.array([0, 2]), np.array([4, -1, 4, -1, 4])).tolist()
    [0, 0, 0, 1, 0]
    """
    count, people = int(labels.max(initial=NOISE)) + 1, int(named.max(initial=UNKNOWN)) + 1
    asked_inside = asked[labels[asked] != NOISE]
    votes = np.zeros((count, people), np.int64)
    np.add.at(votes, (labels[asked_inside], named[asked_inside]), 1)
    of = np.flatnonzero(votes.any(axis=1))
    person = votes[of].argmax(axis=1)
    home = count + np.arange(people)  # a new cluster, unless there is one
    np.minimum.at(home, person, of)
    joined = np.arange(count)
    joined[of] = home[person]
    found = np.where(labels == NOISE, NOISE, joined[labels])
    moving = (named != UNKNOWN) & (labels == NOISE)
    moving[asked] = True
    found[moving] = home[named[moving]]
    return numbered(found)
