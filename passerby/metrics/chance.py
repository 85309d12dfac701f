"""The chance level: the expected scores of a random order of the gallery."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from passerby.metrics.relevance import Relevance
from passerby.types import Doubles, Ints

HARDLY_LEARNT = 0.05
"""Share of the way from chance to perfect below which a model has hardly learnt, in mAP and in rank-1."""


@dataclass(frozen=True)
class RankScores:
    """mAP and rank-1 of a ranking, shares in [0, 1]."""

    mAP: float
    rank1: float

    def hardly_above(self, chance: RankScores) -> bool:
        """Whether both figures are near the chance level (see `HARDLY_LEARNT`).

        >>> RankScores(0.03, 0.04).hardly_above(RankScores(0.02, 0.01))
        True
        """
        pairs = ((self.mAP, chance.mAP), (self.rank1, chance.rank1))
        return all(figure - level < HARDLY_LEARNT * (1 - level) for figure, level in pairs)


def chance_level(allowed: Relevance) -> RankScores:
    """Return the mean figures over all orders of the gallery, for the queries that can be scored (at least one)."""
    matches = np.diff(allowed.match_start)
    valid = matches > 0
    matches, length = matches[valid], allowed.kept[valid]
    return RankScores(float(expected_ap(matches, length).mean()), float((matches / length).mean()))


def expected_ap(matches: Ints, length: Ints) -> Doubles:
    """Return the expected average precision (Q,) of a random order of a list.

    Args:
        matches: (Q,) number of matches of each query, >= 1.
        length: (Q,) length of its list, >= `matches`.

    Reference: Bestgen, "Exact Expected Average Precision of the Random Baseline for System Evaluation", PBML 2015.

    >>> expected_ap(np.array([1, 2]), np.array([2, 2]))
    array([0.75, 1.  ])
    """
    harmonic = np.cumsum(1 / np.arange(1, int(length.max(initial=1)) + 1))[length - 1]
    spread = (matches - 1) / np.maximum(length - 1, 1)
    result: Doubles = (harmonic + spread * (length - harmonic)) / length
    return result
