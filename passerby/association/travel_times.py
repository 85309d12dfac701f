"""Least travel times between cameras, learnt from tracklets that look like one person.

A match is a pair of tracklets at two cameras, each the nearest of the other there. Most matches are of one person, who
needs some time from camera to camera; the others are of two people, whose times are as those of any two tracklets. So
short times are rare among matches, and are not among all pairs. With n matches, k of them below L seconds, and the
share u(L) of the other pairs that is below L, a share q of true matches and a least travel time L have the likelihood
ratio

    (1 - q)^k (q / (1 - u(L)) + 1 - q)^(n - k)

to no least travel time at all. A few matches are enough where many pairs are below L, and the posterior of L gives a
safe time: near the shortest observed one where matches are many, shorter or none where they are few.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np

from passerby.association.topology import Topology, Travel
from passerby.types import Doubles, Ints, Tracklets

TRUE_SHARES = np.linspace(0.5, 0.98, 25)
"""Shares q of true matches that are considered, equally likely before."""
STEPS = 60
"""Least travel times L that are considered, evenly spaced from 0 and equally likely before."""
NO_LIMIT = 0.5
"""Probability, before, that two cameras have no least travel time."""
SURE = 0.9
"""Probability with which the least travel time of two cameras is at least the one that is used."""
NEAR_SHARE = 0.75
"""Share of the matches, those with the shortest times, that is compared: people who come back hours later say nothing
of the way, and most pairs of a long recording are hours apart."""


@dataclass(frozen=True)
class LearntTravel:
    """What the matches of two cameras say of the way between them.

    Attributes:
        cameras: names.
        matches: number of matches whose times compare.
        least: seconds that a person needs at least, None = not known.

    """

    cameras: tuple[str, str]
    matches: int
    least: float | None


@dataclass(frozen=True, eq=False)
class _Evidence:
    """Log-likelihood ratios (S, L) of each share of true matches and each least travel time; seconds (L,)."""

    ratios: Doubles
    seconds: Doubles


def learn_travel_times(tracklets: Tracklets, first: Ints, second: Ints) -> tuple[LearntTravel, ...]:
    """Learn the least travel time of each pair of cameras; the most is not learnt, as people come back.

    Args:
        tracklets: N of all cameras; only those with the common clock are used.
        first, second: (M,) matches, see `mutual_matches`.

    Returns:
        One for each pair of cameras with the common clock, by name.

    """
    clocked = tracklets.has_clock[first] & tracklets.has_clock[second]
    first, second = first[clocked], second[clocked]
    seconds = _seconds_between(tracklets, first, second)
    names = np.unique(tracklets.camera[tracklets.has_clock]).tolist()
    camera = np.stack([tracklets.camera[first], tracklets.camera[second]])
    ways = list(itertools.combinations(names, 2))
    times = [np.sort(seconds[np.isin(camera, way).all(axis=0)]) for way in ways]
    evidence = [_evidence(tracklets, way, values) for way, values in zip(ways, times, strict=True)]
    shares = _posterior_of_shares([each for each in evidence if each is not None])
    return tuple(
        LearntTravel(way, len(values), None if each is None else _safe_time(each, shares))
        for way, values, each in zip(ways, times, evidence, strict=True)
    )


def topology_of(learnt: tuple[LearntTravel, ...]) -> Topology:
    """Return the travel times that are known."""
    known = [each for each in learnt if each.least is not None]
    return Topology(travel=tuple(Travel(cameras=each.cameras, least=each.least or 0.0) for each in known))


def _seconds_between(tracklets: Tracklets, first: Ints, second: Ints) -> Doubles:
    """Return the seconds (M,) from the end of the earlier tracklet to the beginning of the later; < 0 = at one time."""
    begin = np.maximum(tracklets.first[first], tracklets.first[second])
    return np.asarray(begin - np.minimum(tracklets.last[first], tracklets.last[second]), np.float64)


def _evidence(tracklets: Tracklets, way: tuple[str, str], seconds: Doubles) -> _Evidence | None:
    """Compare the times (M,) of the matches of two cameras, ascending, with those of all pairs of their tracklets.

    Only times below that of one match are compared; given that one, the others are drawn from those below it.
    """
    count = min(int(np.ceil(NEAR_SHARE * len(seconds))), len(seconds) - 1)
    if count < 1 or seconds[count] <= 0:
        return None
    candidates = seconds[count] * np.arange(STEPS) / STEPS
    pairs = _count_pairs(tracklets, way, np.append(candidates, seconds[count]))
    below = np.searchsorted(seconds[:count], candidates)  # k
    share = (pairs[:-1] - below) / max(pairs[-1] - count, 1.0)  # u(L), of pairs that do not match
    true = TRUE_SHARES[:, None]
    above = np.log(true / np.maximum(1 - share, 1e-9) + 1 - true)
    return _Evidence(below * np.log(1 - true) + (count - below) * above, candidates)


def _count_pairs(tracklets: Tracklets, way: tuple[str, str], limits: Doubles) -> Doubles:
    """Return the number (L,) of pairs of tracklets of two cameras with at most so many seconds (L,) >= 0 between."""
    one, other = (np.flatnonzero((tracklets.camera == name) & tracklets.has_clock) for name in way)
    first, last = np.sort(tracklets.first[other]), np.sort(tracklets.last[other])
    counts = [
        # those that begin in time, without those that end too early
        np.searchsorted(first, tracklets.last[one] + limit, "right").sum()
        - np.searchsorted(last, tracklets.first[one] - limit, "left").sum()
        for limit in limits.tolist()
    ]
    return np.array(counts, np.float64)


def _posterior_of_shares(evidence: list[_Evidence]) -> Doubles:
    """Return the probability (S,) of each share of true matches; all pairs of cameras have the same share."""
    total = np.zeros(len(TRUE_SHARES))
    for each in evidence:
        total += np.logaddexp(np.log(NO_LIMIT), np.logaddexp.reduce(_log_prior(each) + each.ratios, axis=1))
    weights = np.exp(total - total.max())
    return np.asarray(weights / weights.sum(), np.float64)


def _safe_time(evidence: _Evidence, shares: Doubles) -> float | None:
    """Return the longest least travel time that is sure enough, None where even 0 is not."""
    joint = _log_prior(evidence) + evidence.ratios  # (S, L)
    total = np.logaddexp(np.log(NO_LIMIT), np.logaddexp.reduce(joint, axis=1))
    posterior = shares @ np.exp(joint - total[:, None])  # (L,)
    at_least = np.cumsum(posterior[::-1])[::-1]
    sure = np.flatnonzero(at_least >= SURE)
    return round(float(evidence.seconds[sure[-1]]), 3) if len(sure) else None


def _log_prior(evidence: _Evidence) -> float:
    return float(np.log((1 - NO_LIMIT) / len(evidence.seconds)))
