"""IDF1 and HOTA of identities by frame, over all cameras together, by trackeval.

The frames of all cameras are one sequence, and an identity is the same in all of them: a person who gets another
identity at the next camera counts as a switch. Scores of each camera alone do not see that.

Reference:
    Ristani et al., "Performance Measures and a Data Set for Multi-Target, Multi-Camera Tracking", ECCV Workshops 2016
    (IDF1); Luiten et al., "HOTA: A Higher Order Metric for Evaluating Multi-object Tracking", IJCV 2021.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from passerby.errors import UserError
from passerby.types import UNKNOWN, Doubles, Ints

SAME_BOX = 0.5
"""Overlap (intersection over union) from which on a box shows the person of a true box."""


@dataclass(frozen=True, eq=False)
class TruthFrame:
    """True and tracked boxes of one frame of one camera.

    Attributes:
        truth: (T,) true identities.
        rows: (P,) tracklet of each tracked box, -1 = of a track that became no tracklet.
        overlap: (T, P) intersection over union.

    """

    truth: Ints
    rows: Ints
    overlap: Doubles


@dataclass(frozen=True)
class FrameScores:
    """Scores by frame, shares in [0, 1].

    Attributes:
        idf1, idp, idr: share of the boxes with the right identity, of both, of the tracked and of the true ones.
        hota, deta, assa: mean over overlaps from 0.05 to 0.95; detection and association part.
        frames: number of frames with boxes.
        boxes: number of true boxes.

    """

    idf1: float
    idp: float
    idr: float
    hota: float
    deta: float
    assa: float
    frames: int
    boxes: int


def overlap_of(corners: Doubles, others: Doubles) -> Doubles:
    """Return intersection over union (N, M) of boxes (N, 4) and (M, 4) x1, y1, x2, y2.

    >>> overlap_of(np.array([[0, 0, 2, 2.0]]), np.array([[1, 0, 3, 2.0], [5, 5, 6, 6]])).round(3).tolist()
    [[0.333, 0.0]]
    """
    low = np.maximum(corners[:, None, :2], others[None, :, :2])
    high = np.minimum(corners[:, None, 2:], others[None, :, 2:])
    common = np.prod(np.clip(high - low, 0, None), axis=2)
    areas = [np.prod(boxes[:, 2:] - boxes[:, :2], axis=1) for boxes in (corners, others)]
    shares: Doubles = common / (areas[0][:, None] + areas[1][None, :] - common)
    return shares


def true_identities(frames: Sequence[TruthFrame], count: int) -> Ints:
    """Return the true identity (N,) of each of `count` tracklets: the one of most of its boxes, -1 = of none.

    A tracked box is of the true one that it overlaps most, by half or more.
    """
    votes: dict[tuple[int, int], int] = {}
    for frame in frames:
        if not frame.overlap.size:
            continue
        best = frame.overlap.argmax(axis=0)
        for column in np.flatnonzero((frame.overlap.max(axis=0) >= SAME_BOX) & (frame.rows >= 0)):
            key = int(frame.rows[column]), int(frame.truth[best[column]])
            votes[key] = votes.get(key, 0) + 1
    identities = np.full(count, UNKNOWN)
    for (row, person), _ in sorted(votes.items(), key=lambda vote: (vote[1], -vote[0][1])):
        identities[row] = person  # the most votes come last
    return identities


def score_frames(frames: Sequence[TruthFrame], identity: Ints) -> FrameScores:
    """Score the identities (N,) of tracklets by frame.

    Args:
        frames: of all cameras.
        identity: (N,) of each tracklet; tracked boxes without tracklet are left out.

    Raises:
        UserError: trackeval is not installed, or there is no true box.

    """
    try:
        from trackeval.metrics import HOTA, Identity
    except ImportError as error:
        raise UserError("IDF1 and HOTA by frame need trackeval: pip install 'passerby[tracking-scores]'") from error
    truth = [frame.truth for frame in frames]
    people = np.unique(np.concatenate([*truth, np.zeros(0, np.int64)]))
    if not len(people):
        raise UserError("the truth has no boxes at these cameras")
    count = sum(map(len, truth))
    present = [frame.rows >= 0 for frame in frames]
    groups = np.unique(identity)
    data = {
        "num_timesteps": len(frames),
        "num_gt_ids": len(people),
        "num_tracker_ids": len(groups),
        "num_gt_dets": count,
        "num_tracker_dets": int(sum(map(np.sum, present))),
        "gt_ids": [np.searchsorted(people, ids) for ids in truth],
        "tracker_ids": [
            np.searchsorted(groups, identity[frame.rows[tracked]])
            for frame, tracked in zip(frames, present, strict=True)
        ],
        "similarity_scores": [frame.overlap[:, tracked] for frame, tracked in zip(frames, present, strict=True)],
    }
    ids = Identity({"PRINT_CONFIG": False}).eval_sequence(data)
    hota = HOTA().eval_sequence(data)
    means = {name: float(np.mean(hota[name])) for name in ("HOTA", "DetA", "AssA")}
    return FrameScores(
        idf1=float(ids["IDF1"]),
        idp=float(ids["IDP"]),
        idr=float(ids["IDR"]),
        hota=means["HOTA"],
        deta=means["DetA"],
        assa=means["AssA"],
        frames=len(frames),
        boxes=count,
    )
