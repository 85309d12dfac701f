"""Least travel times from few matches, and none where there is nothing to learn."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np

from passerby.association.associate import AssociationSettings, associate
from passerby.association.constraints import TrackletConstraints
from passerby.association.matches import mutual_matches
from passerby.association.scores import score_identities
from passerby.association.topology import Topology
from passerby.association.travel_times import learn_travel_times, topology_of
from passerby.clustering.linkage import near_pairs
from tests.association.tables import CAMERAS, table, walks

WAYS = [("door", "hall"), ("door", "yard"), ("hall", "yard")]


def learnt(tracklets, threshold=0.9):
    pairs = near_pairs(tracklets.vectors, neighbours=30)
    return learn_travel_times(tracklets, *mutual_matches(tracklets, pairs, threshold))


def at_random_times(tracklets, *, seed=0, hours=0.2):
    """Return the tracklets at times that have nothing to do with each other."""
    first = np.random.default_rng(seed).uniform(0, 3600 * hours, len(tracklets))
    return replace(tracklets, first=first, last=first + tracklets.last - tracklets.first)


def test_few_matches_are_enough_where_many_pairs_are_close_in_time():
    tracklets = walks(people=15, hours=0.02)  # 30 to 45 seconds from camera to camera, all within two minutes or so
    entries = learnt(tracklets)
    assert [entry.cameras for entry in entries] == WAYS
    assert all(entry.matches == 15 for entry in entries)
    times = [entry.least for entry in entries if entry.least is not None]
    assert len(times) >= 2
    assert all(10 < time < 40 for time in times)


def test_more_matches_come_nearer_to_the_true_time():
    few = [entry.least or 0 for seed in range(3) for entry in learnt(walks(people=12, hours=0.05, seed=seed))]
    many = [entry.least or 0 for seed in range(3) for entry in learnt(walks(people=100, hours=0.05, seed=seed))]
    assert np.mean(few) < np.mean(many)
    assert all(25 < time < 34 for time in many)


def test_false_matches_do_not_hide_the_way():
    tracklets = walks(people=60, hours=0.05)
    pairs = near_pairs(tracklets.vectors, neighbours=30)
    first, second = mutual_matches(tracklets, pairs, 0.9)
    wrong = np.random.default_rng(0).permutation(len(first))[: len(first) // 5]  # every fifth has another's partner
    second = second.copy()
    second[wrong] = second[np.roll(wrong, 1)]
    apart = tracklets.camera[first] != tracklets.camera[second]
    entries = learn_travel_times(tracklets, first[apart], second[apart])
    assert all(entry.least is not None and 20 < entry.least < 40 for entry in entries)


def test_nothing_is_learnt_from_times_without_structure():
    for seed in range(5):
        for people in (8, 30, 80):
            entries = learnt(at_random_times(walks(people=people, seed=seed), seed=seed))
            assert all(entry.least is None for entry in entries), (seed, people)
    tracklets = at_random_times(walks(people=40, spread=0.8))
    without = topology_of(learnt(tracklets))
    assert not without.travel
    associated = associate(tracklets)
    assert score_identities(tracklets, associated.identity).recall > 0.95


def test_people_who_come_back_hours_later_say_nothing_of_the_way():
    tracklets = walks(people=60, hours=0.5)
    later = np.where(tracklets.camera == "yard", 3600.0 * (1 + np.arange(len(tracklets)) % 5), 0)
    entries = learnt(replace(tracklets, first=tracklets.first + later, last=tracklets.last + later))
    assert 20 < entries[0].least < 34
    assert all((entry.least or 0) < 3600 for entry in entries)


def test_learnt_times_keep_people_apart_who_look_alike():
    tracklets = walks(people=60, hours=0.05)
    twin = (tracklets.pid % 2 == 1) & (tracklets.pid > 30)  # wears what the person before wears
    vectors = np.where(twin[:, None], np.roll(tracklets.vectors, 3, axis=0), tracklets.vectors)
    vectors += np.random.default_rng(0).normal(scale=0.01, size=vectors.shape).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    tracklets = replace(tracklets, vectors=vectors, crop_vectors=vectors)
    with_times = associate(tracklets)
    without = associate(tracklets, AssociationSettings(topology=Topology()))
    assert len(with_times.topology.travel) == 3
    assert with_times.topology == topology_of(with_times.learnt)
    assert without.learnt == ()
    constraints = TrackletConstraints(tracklets, with_times.topology)
    impossible = [
        sum(
            constraints.are_different(one, other)
            for one, other in itertools.combinations(range(len(tracklets)), 2)
            if result.identity[one] == result.identity[other]
        )
        for result in (without, with_times)
    ]
    assert impossible[0] > 10
    assert impossible[1] == 0


def test_overlapping_views_get_no_travel_time():
    tracklets = walks(people=30)
    same = tracklets.first.reshape(-1, len(CAMERAS))[:, :1].repeat(len(CAMERAS), 1).ravel()  # at all cameras at once
    entries = learnt(replace(tracklets, first=same, last=same + 10))
    assert all(entry.least is None for entry in entries)
    assert topology_of(entries) == Topology()


def test_hardly_any_matches_are_no_fault():
    vectors = np.eye(3, 16, dtype=np.float32)
    two = table(vectors[[0, 0, 1]], ["door", "hall", "yard"], [0, 50, 90], [10, 60, 99])
    assert [(entry.matches, entry.least) for entry in learnt(two)] == [(1, None), (0, None), (0, None)]
    no_clock = table(vectors, ["door", "hall", "yard"], [0, 50, 90], [10, 60, 99], has_clock=False)
    assert learnt(no_clock) == ()
