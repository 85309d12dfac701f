"""Clocks that overlap impossibly: one person at two cameras at one time."""

from dataclasses import replace

import numpy as np

from passerby.association.associate import AssociationSettings, associate
from passerby.association.contradictions import Contradictions
from passerby.association.topology import Topology, Travel
from passerby.commands.associating import association_json, describe_association
from tests.association.tables import CAMERAS, table, walks


def late(tracklets, seconds):
    """Return the tracklets with a clock of camera hall that is late."""
    shift = np.where(tracklets.camera == "hall", -seconds, 0.0)
    return replace(tracklets, first=tracklets.first + shift, last=tracklets.last + shift)


def test_a_wrong_clock_is_a_warning():
    tracklets = walks(people=20, travel=30.0, hours=0.3)
    travel = [Travel(cameras=(a, b), least=25) for a, b in zip(CAMERAS, np.roll(CAMERAS, 1).tolist(), strict=True)]
    settings = AssociationSettings(topology=Topology(travel=tuple(travel)))
    right = associate(tracklets, settings)
    assert right.contradictions.matches > 40
    assert not right.contradictions.many
    assert "warning" not in " ".join(describe_association(right, None))
    wrong = associate(late(tracklets, 45.0), settings)
    assert wrong.contradictions.many
    assert wrong.contradictions.impossible > 3 * right.contradictions.impossible
    warning = next(text for text in describe_association(wrong, None) if text.startswith("warning"))
    assert f"{wrong.contradictions.impossible} of {wrong.contradictions.matches} pairs" in warning
    assert association_json(wrong, None)["contradictions"]["impossible"] == wrong.contradictions.impossible


def test_matches_are_counted_once_and_only_where_times_compare():
    vectors = np.eye(3, 16, dtype=np.float32)[[0, 0, 0, 1, 1, 2]]
    camera = ["door", "hall", "door", "door", "hall", "hall"]
    tracklets = table(vectors, camera, [0, 5, 50, 90, 200, 0], [10, 15, 60, 99, 220, 1])
    settings = AssociationSettings(0.5, "none")
    # row 0 and 1 at one time; 2 is at the door as 0 is; 3 and 4 are far apart in time; nobody is like 5
    assert associate(tracklets, settings).contradictions == Contradictions(2, 1)
    timeless = replace(tracklets, has_clock=np.zeros(6, np.bool_))
    assert associate(timeless, settings).contradictions == Contradictions(0, 0)
    assert not Contradictions(4, 4).many
    assert not Contradictions(100, 20).many
    assert Contradictions(20, 6).many
