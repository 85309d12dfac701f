"""Identification with unknown people: is the person of a probe in the gallery at all, and who is it?

The distance between a probe and an enrolled identity is that of the identity's nearest image. A probe raises an alarm
where the nearest identity lies within the threshold. The gallery rows of the probe's identity and camera are left out.

- mated probe: its identity still has an image; non-mated: its identity was never enrolled. A probe whose identity is
  enrolled under the probe's own camera only is neither, and is dropped.
- FPIR(T), also FAR: share of the non-mated probes with an alarm.
- FNIR(R, T): share of the mated probes whose identity has a rank above R or a distance above T. DIR(T, R) = 1 - FNIR.

Ties count against the system: the rank is 1 + the identities that are as near or nearer. Rates belong to one number of
enrolled identities N: FPIR grows with N.

Reference: ISO/IEC 19795-1:2021; Liao et al., "Open-set Person Re-identification", arXiv:1408.0872, 2014 (DIR and FAR).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from passerby.distances.pairwise import DistanceSource
from passerby.errors import UserError
from passerby.types import UNKNOWN, Bools, Cameras, Doubles, Ints, Split

TARGETS = (0.1, 0.01)
"""The false positive identification rates at which scores are reported."""
CONFIDENCE = 0.95
COUNT_RESAMPLES = 1000

NonMated = Literal["absent", "left_out"]
"""The non-mated probes: those whose identity the gallery does not hold, or every probe with its identity left out."""


@dataclass(frozen=True, eq=False)
class Probes:
    """Distances of probes to the nearest image of identities.

    Attributes:
        mated: (M,) distance to the probe's identity.
        rank: (M,) rank of that identity among the enrolled, from 1.
        mated_pid, mated_cam: (M,) identity and camera of the probe.
        non_mated: (U,) distance to the nearest identity.
        non_mated_pid, non_mated_cam: (U,).
        count_enrolled: N.
        count_dropped: probes that are neither.
        kind: which probes are the non-mated.

    """

    mated: Doubles
    rank: Ints
    mated_pid: Ints
    mated_cam: Ints
    non_mated: Doubles
    non_mated_pid: Ints
    non_mated_cam: Ints
    count_enrolled: int
    count_dropped: int
    kind: NonMated

    def fpir(self, threshold: float) -> float:
        """Return the share of the non-mated probes with an alarm."""
        return float((self.non_mated <= threshold).mean())

    def fnir(self, threshold: float, *, rank: int = 1) -> float:
        """Return the share of the mated probes that are not identified."""
        return float(self.misses(threshold, rank=rank).mean())

    def misses(self, threshold: float, *, rank: int = 1) -> Bools:
        """Return (M,) which mated probes have a rank above `rank` or a distance above the threshold."""
        return np.asarray((self.rank > rank) | (self.mated > threshold), np.bool_)

    def threshold(self, fpir: float) -> float:
        """Return the largest distance at which no more than the share `fpir` of the non-mated probes has an alarm.

        It lies between the last allowed false alarm and the next one, which equal distances may merge. A target below
        1 / U allows none; see `resolves`.
        """
        allowed = math.floor(fpir * len(self.non_mated) + 1e-9)
        ordered = np.sort(self.non_mated)
        if allowed >= len(ordered):
            return math.inf
        return float(np.nextafter(ordered[allowed], -math.inf))

    def resolves(self, fpir: float) -> bool:
        """Whether there are enough non-mated probes for that rate."""
        return fpir * len(self.non_mated) >= 1 - 1e-9

    def tnir(self, tpir: float) -> tuple[float, float] | None:
        """Return the smallest threshold with at least the rate `tpir` of identified mated probes, and 1 - FPIR there.

        None where errors of rank 1 alone keep the rate below.
        """
        needed = math.ceil(tpir * len(self.mated) - 1e-9)
        identified = np.sort(self.mated[self.rank == 1])
        if needed > len(identified):
            return None
        threshold = float(identified[max(needed, 1) - 1])
        return threshold, 1 - self.fpir(threshold)


@dataclass(frozen=True)
class OpenSetRow:
    """Rates at one target.

    Attributes:
        target: the FPIR that is allowed.
        threshold: distance up to which a probe is accepted.
        fpir: what it is there.
        dir1: detection and identification rate at rank 1, 1 - FNIR(1, T).
        low, high: bounds of the 95 % interval of `dir1`, by drawing identities anew (mated and non-mated, and with
            them the threshold).

    """

    target: float
    threshold: float
    fpir: float
    dir1: float
    low: float
    high: float


@dataclass(frozen=True, eq=False)
class OpenSetScores:
    """Rates of the identification with unknown people.

    Attributes:
        rows: of the targets that the number of non-mated probes supports.
        unresolved: the other targets.
        probes: what they were computed from.

    """

    rows: tuple[OpenSetRow, ...]
    unresolved: tuple[float, ...]
    probes: Probes

    def curve(self, *, points: int = 200) -> tuple[Doubles, Doubles]:
        """Return (FPIR, FNIR at rank 1) at up to `points` thresholds, FPIR ascending."""
        thresholds = np.unique(self.probes.non_mated)
        sampled = thresholds[np.unique(np.linspace(0, len(thresholds) - 1, points).astype(int))]
        fpir = np.searchsorted(np.sort(self.probes.non_mated), sampled, side="right") / len(self.probes.non_mated)
        missed = np.where(self.probes.rank == 1, self.probes.mated, np.inf)
        fnir = 1 - np.searchsorted(np.sort(missed), sampled, side="right") / len(missed)
        return fpir, fnir


def find_probes(
    source: DistanceSource, query: Split, gallery: Split, *, cameras: Cameras, kind: NonMated | None = None
) -> Probes:
    """Return the distances of all probes to identities.

    Args:
        source: (Q, G) distances.
        query: labels of the Q probes; those of unknown identity (-1) are not looked at.
        gallery: labels of the G enrolled images, none unknown.
        cameras: `standard` leaves out the gallery images of the probe's identity and camera; `ignore` does not.
        kind: the non-mated probes; None = those whose identity is absent where there are any, else every probe with
            its identity left out, which makes N one smaller for it.

    Raises:
        UserError: no mated or no non-mated probes.

    """
    people, person = np.unique(gallery.pid, return_inverse=True)  # (N,), (G,)
    known = query.pid != UNKNOWN
    absent = known & ~np.isin(query.pid, people)
    kind_of_probes: NonMated = kind or ("absent" if absent.any() else "left_out")
    mate = np.where(known & ~absent, np.searchsorted(people, query.pid).clip(max=len(people) - 1), -1)  # (Q,)
    mate_distance, others, rank = (np.full(len(query), np.inf) for _ in range(3))
    for start, nearest in _nearest_images(source, query, gallery, person, len(people), cameras):
        rows = np.arange(start, start + len(nearest))
        enrolled = mate[rows] >= 0
        at = (np.flatnonzero(enrolled), mate[rows][enrolled])
        mate_distance[rows[enrolled]] = nearest[at]
        rank[rows[enrolled]] = (nearest[enrolled] <= nearest[at][:, None]).sum(axis=1)  # itself is one of them
        nearest[at] = np.inf
        others[rows] = nearest.min(axis=1)
    mated = (mate >= 0) & np.isfinite(mate_distance)
    non_mated = absent if kind_of_probes == "absent" else known & np.isfinite(others)
    if not mated.any() or not non_mated.any():
        raise UserError(
            f"an open-set evaluation needs probes whose identity is in the gallery and probes whose identity is not; "
            f"there are {int(mated.sum())} and {int(non_mated.sum())}"
        )
    return Probes(
        mated=mate_distance[mated] + source.offset,
        rank=rank[mated].astype(np.int64),
        mated_pid=query.pid[mated],
        mated_cam=query.cam[mated],
        non_mated=others[non_mated] + source.offset,
        non_mated_pid=query.pid[non_mated],
        non_mated_cam=query.cam[non_mated],
        count_enrolled=len(people),
        count_dropped=int(((mate >= 0) & ~mated).sum()),
        kind=kind_of_probes,
    )


def _nearest_images(
    source: DistanceSource, query: Split, gallery: Split, person: Ints, count: int, cameras: Cameras
) -> Iterator[tuple[int, Doubles]]:
    """Yield (first row, (B, N) distances to the nearest image that is not left out; infinite without one)."""
    order = np.argsort(person, kind="stable")
    starts = np.searchsorted(person[order], np.arange(count))
    for start, block in source.blocks():
        values = block.cpu().numpy().astype(np.float64)[:, order]  # (B, G), images of an identity side by side
        if cameras == "standard":
            rows = slice(start, start + len(values))
            same = query.pid[rows, None] == gallery.pid[order]
            values[same & (query.cam[rows, None] == gallery.cam[order]) & (query.cam[rows, None] != UNKNOWN)] = np.inf
        yield start, np.minimum.reduceat(values, starts, axis=1)


def score_open_set(probes: Probes, *, targets: Sequence[float] = TARGETS, seed: int = 0) -> OpenSetScores:
    """Return the rates at the targets that the probes can resolve, with intervals.

    Args:
        probes: see `find_probes`.
        targets: rates in (0, 1].
        seed: of the identities that are drawn anew.

    """
    rows = []
    for target in targets:
        if not probes.resolves(target):
            continue
        threshold = probes.threshold(target)
        low, high = _interval(probes, target, np.random.default_rng(seed))
        rows.append(OpenSetRow(target, threshold, probes.fpir(threshold), 1 - probes.fnir(threshold), low, high))
    return OpenSetScores(tuple(rows), tuple(t for t in targets if not probes.resolves(t)), probes)


def _interval(probes: Probes, target: float, generator: np.random.Generator) -> tuple[float, float]:
    """Return the bounds of DIR at rank 1 over identities drawn with replacement; probes of one identity go together."""
    people, number = np.unique(np.concatenate([probes.mated_pid, probes.non_mated_pid]), return_inverse=True)
    mated, non_mated = number[: len(probes.mated)], number[len(probes.mated) :]
    order = np.argsort(probes.non_mated, kind="stable")
    rates = []
    for _ in range(COUNT_RESAMPLES):
        weight = np.bincount(generator.integers(len(people), size=len(people)), minlength=len(people))
        alarms = np.cumsum(weight[non_mated][order])
        trials = int(weight[mated].sum())
        if not alarms[-1] or not trials:
            continue
        allowed = math.floor(target * alarms[-1] + 1e-9)
        first = int(np.searchsorted(alarms, allowed, side="right"))
        limit = math.inf if first == len(order) else np.nextafter(probes.non_mated[order[first]], -math.inf)
        rates.append(1 - float(weight[mated] @ probes.misses(limit)) / trials)
    edge = (1 - CONFIDENCE) / 2
    low, high = np.quantile(rates, [edge, 1 - edge])
    return float(low), float(high)
