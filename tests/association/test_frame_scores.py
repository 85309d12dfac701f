"""IDF1 and HOTA by frame over all cameras together."""

import builtins

import numpy as np
import pytest

from passerby.association.frame_scores import TruthFrame, overlap_of, score_frames, true_identities
from passerby.errors import UserError

BOXES = np.array([[0.0, 0, 10, 20], [40, 0, 50, 20]])


def frame(truth, rows, shift=0.0):
    """Return a frame whose tracked boxes are the true ones, moved to the right."""
    overlap = overlap_of(BOXES[: len(truth)], BOXES[: len(rows)] + np.array([shift, 0, shift, 0]))
    return TruthFrame(np.array(truth, np.int64), np.array(rows, np.int64), overlap)


def test_another_identity_at_the_next_camera_is_seen():
    pytest.importorskip("trackeval")
    frames = [frame([7], [0]) for _ in range(10)] + [frame([7], [1]) for _ in range(10)]
    right = score_frames(frames, np.array([5, 5]))
    assert (right.idf1, right.hota, right.frames, right.boxes) == (1.0, pytest.approx(1.0), 20, 20)
    split = score_frames(frames, np.array([0, 1]))
    assert split.idf1 == split.idp == split.idr == pytest.approx(0.5)  # 10 of 20 boxes
    assert (split.deta, split.assa, split.hota) == pytest.approx((1.0, 0.5, np.sqrt(0.5)))  # each box: 10 of 20


def test_tracks_that_became_no_tracklet_cost_recall():
    pytest.importorskip("trackeval")
    frames = [frame([1, 2], [0, -1]) for _ in range(10)]
    scores = score_frames(frames, np.array([0]))
    assert (scores.idp, scores.idr, scores.deta) == pytest.approx((1.0, 0.5, 0.5))
    none = score_frames([frame([1, 2], [-1, -1])], np.array([0]))
    assert (none.idf1, none.hota) == (0, 0)


def test_boxes_beside_the_truth_count_up_to_their_overlap():
    pytest.importorskip("trackeval")
    shifted = [frame([1], [0], shift=3.3) for _ in range(4)]  # overlap 0.504
    scores = score_frames(shifted, np.array([0]))
    assert scores.idf1 == 1.0
    assert scores.deta == pytest.approx(10 / 19), "overlaps 0.05 to 0.5 of 0.05 to 0.95"
    assert score_frames([frame([1], [0], shift=4.0)], np.array([0])).idf1 == 0


def test_a_tracklet_is_of_the_person_of_most_of_its_boxes():
    frames = [frame([3, 4], [0, 1])] * 3 + [frame([4, 3], [0, 1])] * 2 + [frame([9], [2], shift=8.0), frame([], [])]
    assert true_identities(frames, 4).tolist() == [3, 4, -1, -1]
    tied = [frame([8], [0]), frame([5], [0])]
    assert true_identities(tied, 1).tolist() == [5], "of equal votes the smaller number"


def test_what_is_missing_is_one_sentence(monkeypatch):
    pytest.importorskip("trackeval")
    with pytest.raises(UserError, match="the truth has no boxes"):
        score_frames([frame([], [])], np.array([0]))
    real = builtins.__import__

    def without(name, *rest):
        if name.startswith("trackeval"):
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(UserError, match=r"pip install 'passerby\[tracking-scores\]'"):
        score_frames([frame([1], [0])], np.array([0]))
