"""Matches of tracklets over cameras by their vectors alone."""

from __future__ import annotations

import numpy as np

from passerby.association.constraints import TrackletConstraints
from passerby.clustering.linkage import NearPairs
from passerby.types import Ints, Tracklets


def mutual_matches(tracklets: Tracklets, pairs: NearPairs, threshold: float) -> tuple[Ints, Ints]:
    """Return pairs (M,), (M,) of tracklets at different cameras, each the nearest of the other there.

    Args:
        tracklets: N of all cameras.
        pairs: the neighbours of each.
        threshold: largest cosine distance of a match.

    Returns:
        Rows, first < second, of tracklets whose times compare.

    """
    constraints = TrackletConstraints(tracklets)
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
    table = np.array(sorted(matches), np.int64).reshape(-1, 2)
    return table[:, 0], table[:, 1]
