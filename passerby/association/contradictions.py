"""Matches that times rule out: where there are many, a clock or a travel time is wrong."""

from __future__ import annotations

from dataclasses import dataclass

from passerby.association.constraints import TrackletConstraints
from passerby.association.matches import mutual_matches
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
    first, second = mutual_matches(tracklets, pairs, threshold)
    impossible = sum(map(constraints.are_different, first.tolist(), second.tolist()))
    return Contradictions(len(first), impossible)
