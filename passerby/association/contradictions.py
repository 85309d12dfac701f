"""Matches that times rule out: where there are many, a clock or a travel time is wrong."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from passerby.association.constraints import TrackletConstraints
from passerby.association.topology import Topology, Travel
from passerby.clustering.linkage import NearPairs
from passerby.types import Tracklets

LEAST_IMPOSSIBLE = 5
"""Fewest contradictions that are no chance."""
SHARE_IMPOSSIBLE = 0.2
"""Share of the matches above which they are none either; people who look alike contradict seldom."""


@dataclass(frozen=True)
class Contradictions:
    """Pairs of tracklets at different cameras, each the nearest of the other there, within the threshold.

    Attributes:
        matches: number of such pairs whose times compare.
        impossible: those of them whose times are not of one person.

    """

    matches: int = 0
    impossible: int = 0

    @property
    def many(self) -> bool:
        """Whether there are too many for people who look alike."""
        return self.impossible >= LEAST_IMPOSSIBLE and self.impossible > SHARE_IMPOSSIBLE * self.matches


def count_contradictions(
    tracklets: Tracklets, pairs: NearPairs, topology: Topology, threshold: float
) -> Contradictions:
    """Count the matches of different cameras by their vectors alone, and those that their times rule out.

    Two cameras without a travel time are taken for cameras whose views do not overlap: nobody is at both at one time.

    Args:
        tracklets: N of all cameras.
        pairs: the neighbours of each.
        topology: travel times.
        threshold: largest cosine distance of a match.

    """
    names = sorted(set(tracklets.camera.tolist()))
    limits = [topology.between(a, b) or Travel(cameras=(a, b)) for k, a in enumerate(names) for b in names[k + 1 :]]
    constraints = TrackletConstraints(tracklets, Topology(travel=tuple(limits)))
    camera, clock = np.array(constraints.camera), np.array(constraints.clock)
    compared = (pairs.distance <= threshold) & (camera[pairs.first] != camera[pairs.second])
    compared &= (clock[pairs.first] == clock[pairs.second]) & np.isfinite(tracklets.first[pairs.first])
    rows = np.flatnonzero(compared)
    nearest: dict[tuple[int, str], int] = {}
    for row in rows[np.argsort(pairs.distance[rows], kind="stable")].tolist():
        first, second = int(pairs.first[row]), int(pairs.second[row])
        nearest.setdefault((first, constraints.camera[second]), second)
        nearest.setdefault((second, constraints.camera[first]), first)
    matches = [
        (one, other)
        for (one, _), other in nearest.items()
        if one < other and nearest[other, constraints.camera[one]] == one
    ]
    return Contradictions(len(matches), sum(constraints.are_different(one, other) for one, other in matches))
