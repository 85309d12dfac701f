"""Accuracy of identities where the true ones are known: cross-camera links, IDF1, merged and split people."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import linear_sum_assignment

from passerby.types import UNKNOWN, Doubles, Ints, Tracklets


@dataclass(frozen=True)
class AssociationScores:
    """Accuracy of identities; shares in [0, 1], NaN where nothing is counted.

    Attributes:
        tracklets: number of tracklets with a known true identity; the others are left out.
        people: number of true identities.
        precision: share of the pairs of tracklets of different cameras in one identity that are of one person.
        recall: share of the pairs of tracklets of one person in different cameras that are in one identity.
        f: harmonic mean of precision and recall.
        idf1: share of the seconds of all tracklets that are of the person matched with their identity, under the best
            one-to-one matching.
        merged: identities with tracklets of several people.
        split: true identities whose tracklets are in several identities.

    """

    tracklets: int
    people: int
    precision: float
    recall: float
    f: float
    idf1: float
    merged: tuple[int, ...]
    split: tuple[int, ...]


def score_identities(tracklets: Tracklets, identity: Ints) -> AssociationScores | None:
    """Compare identities (N,) with the true ones; None where no true one is known.

    Reference: Ristani et al., "Performance Measures and a Data Set for Multi-Target, Multi-Camera Tracking", ECCV
    Workshops 2016 (IDF1). Boxes and times of tracklets are those of the truth here, so that IDF1 = IDP = IDR.
    """
    rows = np.flatnonzero(tracklets.pid != UNKNOWN)
    if not len(rows):
        return None
    names, truth = np.unique(tracklets.pid[rows], return_inverse=True)
    given, place = np.unique(identity[rows], return_inverse=True)
    _, camera = np.unique(tracklets.camera[rows], return_inverse=True)
    both = truth * len(given) + place
    joined = _across(place, camera)
    meant = _across(truth, camera)
    right = _across(both, camera)
    precision = right / joined if joined else float("nan")
    recall = right / meant if meant else float("nan")
    total = precision + recall
    seconds = np.nan_to_num(tracklets.last - tracklets.first)[rows]
    seconds = np.maximum(seconds, 1e-3)  # a tracklet of one frame counts too
    table = np.zeros((len(names), len(given)))
    np.add.at(table, (truth, place), seconds)
    return AssociationScores(
        tracklets=len(rows),
        people=len(names),
        precision=precision,
        recall=recall,
        f=0.0 if total == 0 else 2 * precision * recall / total,
        idf1=_idf1(table),
        merged=tuple(given[(table > 0).sum(axis=0) > 1].tolist()),
        split=tuple(names[(table > 0).sum(axis=1) > 1].tolist()),
    )


def _across(groups: Ints, camera: Ints) -> int:
    """Return the number of pairs within groups (N,) that are at different cameras (N,)."""
    _, sizes = np.unique(groups, return_counts=True)
    _, alike = np.unique(np.stack([groups, camera]), axis=1, return_counts=True)
    return int((sizes * (sizes - 1)).sum() - (alike * (alike - 1)).sum()) // 2


def _idf1(table: Doubles) -> float:
    """Return IDF1 of the seconds (P, K) of each person in each identity."""
    person, group = linear_sum_assignment(table, maximize=True)
    return float(table[person, group].sum() / table.sum())
