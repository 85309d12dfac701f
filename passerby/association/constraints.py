"""Tracklets that cannot be of one person: in two places at one time, or too soon at the next camera."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from passerby.association.topology import Topology
from passerby.types import Ints, Tracklets

MOST_PAIRS = 200_000
"""Most pairs of different people that are listed; the threshold does not need more."""


class TrackletConstraints:
    """Cannot-links of tracklets, as `average_linkage` asks for them.

    Two tracklets of one camera whose times overlap show different people; so do two whose cameras are farther apart
    than the time between them allows. Times compare where both are of the common clock, or of one clip.

    Args:
        tracklets: N of all cameras.
        topology: travel times between cameras.

    """

    def __init__(self, tracklets: Tracklets, topology: Topology | None = None) -> None:
        self.first: list[float] = []
        self.last: list[float] = []
        self.camera: list[str] = []
        self.clock: list[str] = []
        self.members: dict[int, list[int]] = {}
        self.limits: dict[tuple[str, str], tuple[float, float]] = {}
        for entry in () if topology is None else topology.travel:
            limits = (entry.least, np.inf if entry.most is None else entry.most)
            self.limits[entry.cameras] = self.limits[entry.cameras[::-1]] = limits
        self.append(tracklets)

    def append(self, tracklets: Tracklets) -> None:
        """Add tracklets, each as a cluster of its own."""
        begin = len(self.first)
        self.first += tracklets.first.tolist()
        self.last += tracklets.last.tolist()
        self.camera += [str(name) for name in tracklets.camera]
        columns = zip(tracklets.camera.tolist(), tracklets.clip.tolist(), tracklets.has_clock.tolist(), strict=True)
        self.clock += ["" if has_clock else f"{camera}/{clip}" for camera, clip, has_clock in columns]
        for row in range(begin, len(self.first)):
            self.members[row] = [row] if np.isfinite(self.first[row]) else []

    def conflicts(self, a: int, b: int) -> bool:
        """Whether a tracklet of cluster `a` and one of `b` show different people."""
        return any(self.are_different(one, other) for one in self.members[a] for other in self.members[b])

    def merge(self, a: int, b: int) -> None:
        """Record that cluster `b` has become part of cluster `a`."""
        self.members[a] += self.members.pop(b)

    def are_different(self, one: int, other: int) -> bool:
        """Whether two tracklets with times show different people."""
        if self.clock[one] != self.clock[other]:
            return False
        gap = max(self.first[one], self.first[other]) - min(self.last[one], self.last[other])
        if self.camera[one] == self.camera[other]:
            return gap <= 0
        least, most = self.limits.get((self.camera[one], self.camera[other]), (-np.inf, np.inf))
        return least > -np.inf and not least <= gap <= most


def overlapping_pairs(tracklets: Tracklets) -> tuple[Ints, Ints]:
    """Return pairs (E,), (E,) of tracklets of one camera whose times overlap: different people, for certain.

    At most `MOST_PAIRS`, those that begin first at each camera.
    """
    pairs = np.array(list(_overlaps(tracklets)), np.int64).reshape(-1, 2)
    return pairs[:, 0], pairs[:, 1]


def _overlaps(tracklets: Tracklets) -> Iterator[tuple[int, int]]:
    """Yield the pairs, by a sweep over the times of each camera and clock."""
    constraints = TrackletConstraints(tracklets)
    keys = sorted({*zip(constraints.camera, constraints.clock, strict=True)})
    most = max(MOST_PAIRS // max(len(keys), 1), 1)
    place = np.array([keys.index(key) for key in zip(constraints.camera, constraints.clock, strict=True)], np.int64)
    for number in range(len(keys)):
        rows = np.flatnonzero((place == number) & np.isfinite(tracklets.first))
        rows = rows[np.argsort(tracklets.first[rows], kind="stable")]
        open_rows: list[int] = []
        count = 0
        for row in rows.tolist():
            open_rows = [other for other in open_rows if tracklets.last[other] >= tracklets.first[row]]
            for other in open_rows[: most - count]:
                yield min(row, other), max(row, other)
            count += min(len(open_rows), most - count)
            open_rows.append(row)
