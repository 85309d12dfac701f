"""Identities of tracklets as they come: the same as those of all at once, and no silent change."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import passerby
from passerby.association.associate import AssociationSettings, associate
from passerby.errors import UserError
from tests.association.tables import table, walks


def in_time(tracklets):
    order = np.argsort(tracklets.first)
    return tracklets.select(order)


@pytest.mark.parametrize("spread", [0.5, 1.2])
def test_every_change_is_reported_and_the_end_equals_the_whole(spread):
    tracklets = in_time(walks(people=15, spread=spread))
    associator = passerby.Associator()
    known = {}
    for row in range(len(tracklets)):
        assignment = associator.add(tracklets.select([row]))
        for revision in assignment.revisions:
            assert known[revision.camera, revision.tracklet] == revision.before != revision.after
            known[revision.camera, revision.tracklet] = revision.after
        known[str(tracklets.camera[row]), str(tracklets.name[row])] = assignment.identity
        assert known == associator.identities
    for revision in associator.review():
        known[revision.camera, revision.tracklet] = revision.after
    assert list(known.values()) == list(associator.identities.values())
    whole = associate(tracklets).identity.tolist()
    assert len({*zip(known.values(), whole, strict=True)}) == len(set(whole)) == len(set(known.values()))
    assert not associator.review(), "nothing new, nothing changed"


def test_a_person_keeps_the_number_and_two_places_are_two_people():
    vectors = np.eye(2, 16, dtype=np.float32)[[0, 1, 0, 0]]
    tracklets = table(vectors, ["door", "door", "hall", "hall"], [0, 1, 60, 61], [10, 11, 70, 71])
    associator = passerby.Associator(AssociationSettings(threshold=0.5, camera_norm="none"), review=1.0)
    assignments = [associator.add(tracklets.select([row])) for row in range(4)]
    assert [assignment.identity for assignment in assignments[:3]] == [0, 1, 0]
    assert assignments[3].identity not in (0, 1), "in the hall while person 0 is there"
    assert not any(assignment.revisions for assignment in assignments)


def test_what_cannot_be_added_is_refused():
    tracklets = walks(people=2)
    associator = passerby.Associator()
    associator.add(tracklets.select([0]))
    for wrong, sentence in [
        (tracklets, "one tracklet is added at a time, got 6"),
        (tracklets.select([0]), "was added before"),
        (replace(tracklets.select([1]), model="another"), "of different models"),
    ]:
        with pytest.raises(UserError, match=sentence):
            associator.add(wrong)
    assert len(associator) == 1
    with pytest.raises(UserError, match=r"share in \(0, 1\]"):
        passerby.Associator(review=0)
