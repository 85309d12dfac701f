"""One identity per person from tracklets of several cameras, with what time and places rule out."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from passerby.association.associate import AssociationSettings, associate, confidences
from passerby.association.scores import score_identities
from passerby.association.topology import Topology, Travel
from passerby.errors import UserError
from tests.association.tables import table, walks


def test_people_are_found_over_cameras_without_any_parameter():
    tracklets = walks()
    result = associate(tracklets)
    assert score_identities(tracklets, result.identity).f > 0.95
    assert result.fewest <= result.count == 12 <= result.most
    assert result.confidence.min() > 0.1
    assert result.source == "silhouette"


def test_the_result_is_the_same_again_and_in_any_order():
    tracklets = walks(spread=0.9)
    result = associate(tracklets)
    np.testing.assert_array_equal(result.identity, associate(tracklets).identity)
    order = np.random.default_rng(1).permutation(len(tracklets))
    shuffled = associate(tracklets.select(order))
    pairs = {tuple(pair) for pair in zip(result.identity[order].tolist(), shuffled.identity.tolist(), strict=True)}
    assert len(pairs) == result.count == shuffled.count


def test_two_places_at_one_time_are_two_people():
    vectors = np.eye(2, 16, dtype=np.float32)[[0, 0, 0, 1]]
    camera = ["door", "door", "hall", "hall"]
    settings = AssociationSettings(threshold=0.5, camera_norm="none")
    apart = associate(table(vectors, camera, [0, 5, 30, 90], [10, 15, 40, 99]), settings)
    assert apart.identity[0] != apart.identity[1]
    assert apart.identity[2] in apart.identity[:2]
    later = associate(table(vectors, camera, [0, 11, 30, 90], [10, 15, 40, 99]), settings)
    assert later.identity.tolist() == [0, 0, 0, 1]
    assert later.alone.tolist() == [False, False, False, True]
    no_clock = table(vectors, camera, [0, 5, 30, 90], [10, 15, 40, 99], has_clock=False)
    assert associate(no_clock, settings).identity.tolist() == apart.identity.tolist(), "one clip has one time"
    clips = replace(no_clock, name=np.array(["a/0", "b/0", "a/0", "a/1"]))
    assert associate(clips, settings).identity.tolist() == [0, 0, 0, 1]
    timeless = replace(no_clock, first=np.full(4, np.nan), last=np.full(4, np.nan))
    assert associate(timeless, settings).identity.tolist() == [0, 0, 0, 1]


def test_travel_times_hold_apart_who_cannot_have_walked():
    vectors = np.eye(1, 16, dtype=np.float32)[[0, 0, 0]]
    tracklets = table(vectors, ["door", "hall", "yard"], [0, 12, 500], [10, 20, 510])

    def identities(*travel):
        topology = Topology(travel=travel)
        return associate(tracklets, AssociationSettings(0.5, "none", topology)).identity.tolist()

    assert identities() == [0, 0, 0]
    assert identities(Travel(cameras=("hall", "door"), least=2)) == [0, 0, 0]
    too_soon = identities(Travel(cameras=("hall", "door"), least=5))
    assert too_soon[0] != too_soon[1]
    too_late = identities(Travel(cameras=("door", "yard"), least=0, most=100))
    assert too_late[0] != too_late[2]


def test_overlapping_tracklets_bound_the_threshold(monkeypatch):
    tracklets = walks(people=80, hours=0.05)
    result = associate(tracklets)
    assert score_identities(tracklets, result.identity).f > 0.95
    monkeypatch.setattr("passerby.association.associate.silhouette_threshold", lambda pairs, merges: 1.05)
    bounded = associate(tracklets)
    assert (result.source, bounded.source) == ("silhouette", "overlaps")
    assert bounded.threshold < 1
    assert score_identities(tracklets, bounded.identity).f > 0.9
    few = walks(people=8)
    assert associate(few).source == "silhouette", "few overlapping pairs are no bound"


def test_two_visits_of_each_person_are_joined_and_not_more():
    tracklets = walks(people=40, spread=1.0)
    seen_twice = tracklets.select(np.arange(len(tracklets)) % 3 < 2)
    result = associate(seen_twice)
    assert score_identities(seen_twice, result.identity).precision > 0.9
    assert abs(result.count - 40) <= 4
    assert associate(tracklets.select(np.array([0, 1]))).threshold < 1e-3, "two tracklets have no shape"


def test_what_cannot_be_used_is_refused():
    tracklets = walks()
    empty = tracklets.select(np.zeros(0, np.int64))
    later = 1e6 * (tracklets.camera == "hall")
    far = replace(tracklets, first=tracklets.first + later, last=tracklets.last + later)
    topology = Topology(travel=(Travel(cameras=("door", "hall"), least=5),))
    no_clock = replace(tracklets, has_clock=np.zeros(len(tracklets), np.bool_))
    other = Topology(travel=(Travel(cameras=("door", "roof"), least=5),))
    for refused, settings, sentence in [
        (empty, AssociationSettings(), "no tracklets"),
        (far, AssociationSettings(), "cannot be the same: their recordings are 11.* days apart"),
        (no_clock, AssociationSettings(topology=topology), "need a clock that all cameras share"),
        (
            tracklets,
            AssociationSettings(topology=other),
            "names camera 'roof'; there are tracklets of door",
        ),
    ]:
        with pytest.raises(UserError, match=sentence):
            associate(refused, settings)
    with pytest.raises(UserError, match=r"in \(0, 2\), got 3"):
        AssociationSettings(threshold=3)


def test_confidences_are_silhouettes():
    units = np.array([[1, 0], [1, 0], [0, 1], [0.6, 0.8]])
    scores = confidences(units, np.array([0, 0, 1, 2]), 0.1)
    np.testing.assert_allclose(scores, [1, 1, 0.5, 0.5], atol=1e-9)  # alone: (0.2 - 0.1) / 0.2
    assert confidences(units[:1], np.array([0]), 0.5).tolist() == [0.75]


def test_scores_equal_counting_by_hand():
    vectors = np.eye(6, dtype=np.float32)
    tracklets = table(vectors, ["a", "b", "a", "b", "a", "b"], [0] * 6, [1, 1, 1, 1, 2, 4], [7, 7, 8, 8, 9, -1])
    scores = score_identities(tracklets, np.array([0, 0, 0, 1, 2, 2]))
    assert (scores.tracklets, scores.people) == (5, 3)
    # across cameras together: (0, 1), (1, 2); of one person: (0, 1), (2, 3)
    assert (scores.precision, scores.recall, scores.f) == (0.5, 0.5, 0.5)
    assert scores.idf1 == pytest.approx((2 + 1 + 2) / 6)
    assert (scores.merged, scores.split) == ((0,), (8,))
    assert score_identities(replace(tracklets, pid=np.full(6, -1)), np.zeros(6, np.int64)) is None
