"""Average linkage on a sparse neighbour graph, with pairs that must not be joined.

The mean cosine distance of two clusters of unit vectors is 1 - <s_A, s_B> / (n_A n_B), with s the sums of their vectors
and n their sizes. So the distance of any two clusters is exact, and the graph only says which pairs are compared.
Nothing of size (N, N) is made.

The mean distance of a merged cluster to another is a weighted mean of those of its two parts: it is at most t only
where one of the parts is at most t away. Pairs farther apart than the threshold are therefore dropped at any time
without a change of the result. It is that of the whole matrix whenever all pairs within the threshold are among the
neighbours.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from passerby.distances.kreciprocal import nearest_neighbours
from passerby.distances.pairwise import vectors_on
from passerby.distances.units import unit_rows
from passerby.types import Doubles, Floats, Ints

_PAIRS_AT_ONCE = 1 << 16


class Constraints(Protocol):
    """Pairs of clusters that must not be joined; a cluster is named by its row of the lowest number.

    Two clusters that conflict do so for ever, whatever else joins them.
    """

    def conflicts(self, a: int, b: int) -> bool:
        """Whether clusters `a` and `b` must stay apart."""
        ...

    def merge(self, a: int, b: int) -> None:
        """Record that cluster `b` has become part of cluster `a`."""
        ...


@dataclass(frozen=True, eq=False)
class NearPairs:
    """Pairs of a set that are near each other.

    Attributes:
        units: (N, D) vectors of length 1.
        first, second: (E,) rows, first < second, ascending.
        distance: (E,) cosine distances in [0, 2].

    """

    units: Doubles
    first: Ints
    second: Ints
    distance: Doubles


def near_pairs(vectors: Floats, *, neighbours: int, device: str = "cpu") -> NearPairs:
    """Return the pairs of each vector with its nearest ones by cosine distance.

    Args:
        vectors: (N, D) of any length.
        neighbours: number of nearest others of each vector, >= 1.
        device: where the distances are computed to find them.

    Raises:
        UserError: vectors that are not finite, or no such device.

    """
    units = unit_rows(np.asarray(vectors, np.float32)).astype(np.float64)
    if len(units) < 2:
        none = np.zeros(0, np.int64)
        return NearPairs(units, none, none, np.zeros(0))
    side = vectors_on(vectors, metric="cosine", device=device)
    nearest = nearest_neighbours((side,), neighbours + 1, metric="cosine").row[:, 1:]  # (N, K) without itself
    rows = np.repeat(np.arange(len(units)), nearest.shape[1])
    low, high = np.minimum(rows, nearest.ravel()), np.maximum(rows, nearest.ravel())
    first, second = np.divmod(np.unique(low * len(units) + high), len(units))
    return NearPairs(units, first, second, distances_of_pairs(units, first, second))


def distances_of_pairs(units: Doubles, first: Ints, second: Ints) -> Doubles:
    """Return the cosine distances (E,) in [0, 2] of pairs of rows of `units` (N, D), which have length 1."""
    distances = np.empty(len(first))
    for start in range(0, len(first), _PAIRS_AT_ONCE):
        part = slice(start, start + _PAIRS_AT_ONCE)
        distances[part] = 1 - np.einsum("ed,ed->e", units[first[part]], units[second[part]])
    return np.clip(distances, 0, 2)


@dataclass(frozen=True, eq=False)
class Merges:
    """The merges of average linkage, in order.

    Attributes:
        count: N, number of rows.
        first, second: (M,) clusters that were joined, each named by its lowest row, first < second.
        height: (M,) their mean distance, ascending up to rounding.

    """

    count: int
    first: Ints
    second: Ints
    height: Doubles

    def labels(self, threshold: float) -> Ints:
        """Return the clusters (N,) at a threshold, each named by the lowest row in it."""
        parent = np.arange(self.count)
        done = int(np.searchsorted(np.maximum.accumulate(self.height), threshold, "right"))
        parent[self.second[:done]] = self.first[:done]
        for row, other in enumerate(parent.tolist()):  # a parent is lower, and already points to the lowest
            parent[row] = parent[other]
        return parent


def average_linkage(pairs: NearPairs, threshold: float, constraints: Constraints | None = None) -> Merges:
    """Join clusters by average linkage, up to a threshold.

    The two clusters with the smallest mean distance are joined, until none are within the threshold. Of equal distances
    those with the lowest rows come first.

    Args:
        pairs: the pairs that are compared, and those that come from them by merging.
        threshold: largest mean cosine distance of two clusters that are joined.
        constraints: pairs that stay apart; None = none.

    Reference: Sokal, Michener, "A Statistical Method for Evaluating Systematic Relationships", University of Kansas
    Science Bulletin 1958 (average linkage); Davidson, Ravi, "Agglomerative Hierarchical Clustering with Constraints",
    PKDD 2005 (pairs that must not be joined).

    >>> corners = near_pairs(np.repeat(np.eye(2, dtype=np.float32), 2, axis=0), neighbours=3)
    >>> average_linkage(corners, 0.5).labels(0.5).tolist()
    [0, 0, 2, 2]
    """
    merging = _Merging(pairs, threshold)
    done: list[tuple[int, int, float]] = []
    while (nearest := merging.nearest()) is not None:
        distance, a, b = nearest
        if constraints is not None and constraints.conflicts(a, b):
            merging.separate(a, b)
            continue
        merging.join(a, b)
        done.append((a, b, distance))
        if constraints is not None:
            constraints.merge(a, b)
    first, second, height = (np.array(column) for column in zip(*done, strict=True)) if done else ([], [], [])
    return Merges(
        len(pairs.units), np.asarray(first, np.int64), np.asarray(second, np.int64), np.asarray(height, np.float64)
    )


class _Merging:
    """Clusters while they are joined: sums, sizes, the clusters near each, and a heap of the pairs."""

    def __init__(self, pairs: NearPairs, threshold: float) -> None:
        count = len(pairs.units)
        self.threshold = threshold
        self.sums = pairs.units.copy()  # (N, D)
        self.sizes = np.ones(count)
        self.version = [0] * count  # grows with each merge, -1 = part of another
        self.near: list[set[int]] = [set() for _ in range(count)]
        within = pairs.distance <= threshold
        rows = (pairs.distance[within].tolist(), pairs.first[within].tolist(), pairs.second[within].tolist())
        self.heap = [(distance, a, b, 0, 0) for distance, a, b in zip(*rows, strict=True)]
        for _, a, b, _, _ in self.heap:
            self.near[a].add(b)
            self.near[b].add(a)
        heapq.heapify(self.heap)

    def nearest(self) -> tuple[float, int, int] | None:
        """Take the nearest pair with its distance off the heap; None where no pair is within the threshold."""
        while self.heap:
            distance, a, b, version_a, version_b = heapq.heappop(self.heap)
            if self.version[a] == version_a and self.version[b] == version_b and b in self.near[a]:
                return distance, a, b
        return None

    def separate(self, a: int, b: int) -> None:
        """Compare two clusters no longer."""
        self.near[a].discard(b)
        self.near[b].discard(a)

    def join(self, a: int, b: int) -> None:
        """Make cluster `b` part of `a`, and compare that with the clusters near either."""
        others = (self.near[a] | self.near[b]) - {a, b}
        for other in others:
            self.near[other].discard(a)
            self.near[other].discard(b)
        self.sums[a] += self.sums[b]
        self.sizes[a] += self.sizes[b]
        self.version[a], self.version[b] = self.version[a] + 1, -1
        self.near[a], self.near[b] = set(), set()
        self._compare(a, np.array(sorted(others), np.int64))

    def _compare(self, cluster: int, others: Ints) -> None:
        """Put the pairs of a cluster with others (M,) that are within the threshold on the heap."""
        means = self.sums[others] @ self.sums[cluster] / (self.sizes[others] * self.sizes[cluster])
        distances = 1 - means
        within = distances <= self.threshold
        for other, distance in zip(others[within].tolist(), distances[within].tolist(), strict=True):
            self.near[cluster].add(other)
            self.near[other].add(cluster)
            a, b = (cluster, other) if cluster < other else (other, cluster)
            heapq.heappush(self.heap, (distance, a, b, self.version[a], self.version[b]))
