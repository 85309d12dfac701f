"""Tracklets of several cameras in, one identity per person out.

Average linkage on cosine distances without the effects of cameras, with pairs that cannot be one person held apart. The
threshold is that of a calibrated model, or that of the groups with the best silhouette, at most what the distances of
tracklets that were in two places at one time allow.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from passerby.association.constraints import TrackletConstraints, overlapping_pairs
from passerby.association.contradictions import Contradictions, count_contradictions
from passerby.association.matches import mutual_matches
from passerby.association.topology import Topology, require_possible_clocks, require_topology
from passerby.association.travel_times import LearntTravel, learn_travel_times, topology_of
from passerby.clustering.clusters import numbered
from passerby.clustering.impostors import (
    SMALLEST_THRESHOLD,
    highest_threshold,
    silhouette_threshold,
    universal_threshold,
)
from passerby.clustering.linkage import Merges, NearPairs, average_linkage, distances_of_pairs, near_pairs
from passerby.distances.camera_norm import normalise_cameras
from passerby.errors import UserError
from passerby.types import Bools, CameraNorm, Doubles, Floats, Ints, Tracklets

ThresholdSource = Literal["given", "overlaps", "silhouette"]
"""Origin of a threshold: given (by a person or a calibration), the distances of tracklets that overlap in time at one
camera, or the groups with the best silhouette."""

LEAST_OVERLAPS = 200
"""Fewest overlapping pairs of tracklets whose distances bound the threshold."""
RANGE = (0.9, 0.95, 1.05, 1.1)
"""Multiples of the threshold at which people are counted."""


@dataclass(frozen=True)
class AssociationSettings:
    """Settings of an association.

    Attributes:
        threshold: largest mean cosine distance of two groups of tracklets of one person, in (0, 2); None = from the
            tracklets.
        camera_norm: what is taken out of the vectors of each camera.
        topology: travel times between cameras; None = learnt from tracklets that match.
        neighbours: number of nearest tracklets that each is compared with.
        device: where nearest neighbours are computed.

    """

    threshold: float | None = None
    camera_norm: CameraNorm = "auto"
    topology: Topology | None = None
    neighbours: int = 30
    device: str = "cpu"

    def __post_init__(self) -> None:
        if self.threshold is not None and not 0 < self.threshold < 2:
            raise UserError(f"threshold must be a cosine distance in (0, 2), got {self.threshold:g}")


@dataclass(frozen=True, eq=False)
class Association:
    """Identities of tracklets.

    Attributes:
        tracklets: N of all cameras.
        identity: (N,) 0..K-1 in order of first appearance in the table.
        confidence: (N,) in [-1, 1], see `confidences`.
        threshold: largest mean distance that was joined.
        source: where it comes from.
        topology: travel times that were used; empty = none.
        fewest, most: people at thresholds up to a tenth smaller and larger, `count` included.
        contradictions: matches by vectors alone that times rule out.
        learnt: what matches say of the travel time of each pair of cameras; empty where times were given, or none are
            of a common clock.

    """

    tracklets: Tracklets
    identity: Ints
    confidence: Doubles
    threshold: float
    source: ThresholdSource
    topology: Topology
    fewest: int
    most: int
    contradictions: Contradictions = field(default_factory=Contradictions)
    learnt: tuple[LearntTravel, ...] = ()

    @property
    def count(self) -> int:
        """K, the number of people."""
        return int(self.identity.max(initial=-1)) + 1

    @property
    def alone(self) -> Bools:
        """(N,) whether a tracklet fits no other."""
        return np.asarray(np.bincount(self.identity, minlength=self.count)[self.identity] == 1, np.bool_)


def associate(tracklets: Tracklets, settings: AssociationSettings = AssociationSettings()) -> Association:
    """Group the tracklets of several cameras by person; no label is used, and equal tracklets give equal identities.

    Args:
        tracklets: of all cameras, see `Tracklets.join`.
        settings: threshold, camera norm, travel times.

    Raises:
        UserError: no tracklets, impossible clocks, or travel times that do not fit the tracklets.

    """
    if not len(tracklets):
        raise UserError("there are no tracklets to associate")
    require_possible_clocks(tracklets)
    if settings.topology is not None:
        require_topology(settings.topology, tracklets)
    vectors = compared_vectors(tracklets, settings.camera_norm)
    pairs = near_pairs(vectors, neighbours=settings.neighbours, device=settings.device)
    topology = Topology() if settings.topology is None else settings.topology
    learnt: tuple[LearntTravel, ...] = ()
    merges, threshold, source = _merged(tracklets, pairs, topology, settings.threshold)
    if settings.topology is None:
        learnt = learn_travel_times(tracklets, *mutual_matches(tracklets, pairs, threshold))
        topology = topology_of(learnt)
        if topology.travel:
            merges, threshold, source = _merged(tracklets, pairs, topology, settings.threshold)
    identity = numbered(merges.labels(threshold))
    counts = [len(np.unique(merges.labels(threshold * share))) for share in (*RANGE, 1.0)]
    confidence = confidences(pairs.units, identity, threshold)
    doubt = count_contradictions(tracklets, pairs, topology, threshold)
    fewest, most = min(counts), max(counts)
    return Association(tracklets, identity, confidence, threshold, source, topology, fewest, most, doubt, learnt)


def compared_vectors(tracklets: Tracklets, camera_norm: CameraNorm) -> Floats:
    """Return the vectors (N, D) of tracklets without the effects of cameras, where several are known."""
    _, camera = np.unique(tracklets.camera, return_inverse=True)
    if camera.max(initial=0) == 0:
        return tracklets.vectors
    return normalise_cameras(tracklets.vectors, camera.astype(np.int64), how=camera_norm)


def _merged(
    tracklets: Tracklets, pairs: NearPairs, topology: Topology, threshold: float | None
) -> tuple[Merges, float, ThresholdSource]:
    """Join tracklets up to a tenth above the threshold, and return the merges, the threshold and its origin."""
    constraints = TrackletConstraints(tracklets, topology)
    if threshold is not None:
        return average_linkage(pairs, RANGE[-1] * threshold, constraints), threshold, "given"
    merges = average_linkage(pairs, RANGE[-1] * highest_threshold(pairs), constraints)
    if len(tracklets) < 3:
        return merges, SMALLEST_THRESHOLD, "silhouette"
    threshold = silhouette_threshold(pairs, merges)
    bound = _overlap_bound(tracklets, pairs, merges)
    return (merges, threshold, "silhouette") if threshold <= bound else (merges, bound, "overlaps")


def _overlap_bound(tracklets: Tracklets, pairs: NearPairs, merges: Merges) -> float:
    """Return the universal threshold of known impostors, infinity where they are few.

    The universal threshold of all pairs, which `cluster` takes, is no bound here: a person has few tracklets, so that
    the many images of one person, whose clusters it lets join, are means already.
    """
    first, second = overlapping_pairs(tracklets)
    if len(first) < LEAST_OVERLAPS:
        return float("inf")
    impostors, count = distances_of_pairs(pairs.units, first, second), len(pairs.units)
    people = len(np.unique(merges.labels(universal_threshold(impostors, count))))
    return universal_threshold(impostors, float(np.sqrt(count * people)))


def confidences(units: Doubles, identity: Ints, threshold: float) -> Doubles:
    """Return (N,) how much nearer each tracklet is to its identity than to the nearest other one, in [-1, 1].

    The silhouette, (b - a) / max(a, b), with a the mean distance to the others of its identity and b the smallest mean
    distance to another identity; for a tracklet that is alone, a is the threshold, beyond which others are.

    Args:
        units: (N, D) of length 1.
        identity: (N,) 0..K-1.
        threshold: largest mean distance that was joined.

    """
    sizes = np.bincount(identity)
    sums = np.zeros((len(sizes), units.shape[1]))
    np.add.at(sums, identity, units)
    scores = np.empty(len(units))
    for start in range(0, len(units), 1024):
        rows = slice(start, start + 1024)
        products = units[rows] @ sums.T  # (B, K)
        line, column = np.arange(len(products)), identity[rows]
        size = sizes[column]
        inside = np.where(size > 1, 1 - (products[line, column] - 1) / np.maximum(size - 1, 1), threshold)
        distances = 1 - products / sizes
        distances[line, column] = np.inf
        outside = np.minimum(distances.min(axis=1), 2.0)
        scores[rows] = (outside - inside) / np.maximum(np.maximum(inside, outside), 1e-12)
    return np.clip(scores, -1, 1)
