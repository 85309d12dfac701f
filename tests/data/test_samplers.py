"""P x K batches."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from passerby.data.samplers import (
    camera_batches,
    columns_of_rank,
    dataset_batches,
    identity_batches,
    partners,
    require_identities,
    shuffled_batches,
)
from passerby.errors import UserError


@st.composite
def problems(draw):
    counts = draw(st.lists(st.integers(1, 7), min_size=2, max_size=6))
    names = draw(st.lists(st.integers(0, 50), min_size=len(counts), max_size=len(counts), unique=True))
    labels = np.repeat(np.array([-1, *names]), [draw(st.integers(0, 3)), *counts])
    labels = np.random.default_rng(draw(st.integers(0, 99))).permutation(labels)
    return labels, draw(st.integers(2, len(counts))), draw(st.integers(1, 5)), draw(st.none() | st.integers(1, 9))


@given(problems(), st.integers(0, 99))
def test_every_batch_shows_different_people_with_their_own_images(problem, seed):
    labels, identities, instances, count = problem

    def plan():
        return identity_batches(
            labels, np.random.default_rng(seed), identities=identities, instances=instances, count=count
        )

    batches = plan()
    assert len(batches) == (count or max(1, (labels >= 0).sum() // (identities * instances)))
    assert batches.shape[1] == identities * instances
    np.testing.assert_array_equal(batches, plan())
    for batch in labels[batches].reshape(len(batches), identities, instances):
        assert (batch == batch[:, :1]).all()  # images of one person stand together
        assert len(set(batch[:, 0])) == identities
        assert (batch >= 0).all()


@given(problems(), st.integers(0, 99))
def test_images_repeat_only_where_a_person_has_too_few(problem, seed):
    labels, identities, instances, _ = problem
    batches = identity_batches(labels, np.random.default_rng(seed), identities=identities, instances=instances)
    for group in batches.reshape(-1, instances):
        available = int((labels == labels[group[0]]).sum())
        assert len(set(group)) == instances if available >= instances else len(set(group)) >= 1


def test_a_person_of_few_images_shows_all_of_them():
    labels = np.array([0, 0, 0, 1, 1, 1])
    for seed in range(20):
        (batch,) = identity_batches(labels, np.random.default_rng(seed), identities=2, instances=4, count=1)
        assert {int(row) for row in batch} == set(range(6))


def test_an_epoch_shows_nearly_everything():
    labels = np.repeat(np.arange(8), 4)
    batches = identity_batches(labels, np.random.default_rng(0), identities=4, instances=2)
    assert len(batches) == 4
    assert len(np.unique(batches)) >= 24


def test_too_few_people_are_told():
    labels = np.array([-1, 0, 0, 5])
    assert require_identities(labels, identities=2).tolist() == [0, 5]
    with pytest.raises(UserError, match=r"batches of 3 people, the training images show 2; set"):
        identity_batches(labels, np.random.default_rng(0), identities=3, instances=2)


def test_ranks_share_people_evenly():
    pieces = [columns_of_rank(4, 3, rank=rank, world=2) for rank in range(2)]
    assert [list(range(12))[piece] for piece in pieces] == [[0, 1, 2, 3, 4, 5], [6, 7, 8, 9, 10, 11]]
    assert columns_of_rank(4, 3, rank=0, world=1) == slice(0, 12)
    with pytest.raises(UserError, match=r"data.identities is 4, which 3 processes cannot share evenly"):
        columns_of_rank(4, 3, rank=0, world=3)


# ---- an equal share per data set


def site_of(*counts):
    """Return labels and origin of joined sets: each number is how many people of how many images a set has."""
    people = [images for count, images in counts for _ in range(count)]
    labels = np.repeat(np.arange(len(people)), people)
    return labels, np.repeat(np.arange(len(counts)), [count * images for count, images in counts])


@st.composite
def joint_problems(draw):
    sets = draw(st.integers(1, 3))
    share = draw(st.integers(1, 3))
    labels, origin = site_of(*[(draw(st.integers(share, share + 4)), draw(st.integers(1, 6))) for _ in range(sets)])
    order = np.random.default_rng(draw(st.integers(0, 99))).permutation(len(labels))
    return labels[order], origin[order], sets, share, draw(st.integers(1, 4)), draw(st.none() | st.integers(1, 9))


def joint(problem, seed):
    labels, origin, sets, share, instances, count = problem
    generator, names = np.random.default_rng(seed), [f"site {number}" for number in range(sets)]
    return dataset_batches(
        labels, origin, generator, sources=names, identities=share * sets, instances=instances, count=count
    )


@given(joint_problems(), st.integers(0, 99))
def test_every_batch_shows_as_many_people_of_each_data_set(problem, seed):
    labels, origin, sets, share, instances, count = problem
    batches = joint(problem, seed)
    np.testing.assert_array_equal(batches, joint(problem, seed))
    assert batches.shape == (count or max(1, len(labels) // (sets * share * instances)), sets * share * instances)
    for batch in batches.reshape(len(batches), -1, instances):
        assert (labels[batch] == labels[batch[:, :1]]).all()
        assert len(set(labels[batch[:, 0]])) == sets * share
        assert np.bincount(origin[batch[:, 0]], minlength=sets).tolist() == [share] * sets


@given(joint_problems(), st.integers(0, 99))
def test_people_of_the_sets_stand_in_turn(problem, seed):
    _, origin, sets, _, instances, _ = problem
    first_images = joint(problem, seed)[:, ::instances]
    np.testing.assert_array_equal(
        origin[first_images], np.arange(first_images.shape[1])[None] % sets + 0 * first_images
    )


def test_every_rank_gets_its_share_of_each_set():
    labels, origin = site_of((9, 4), (5, 6))
    plan = joint((labels, origin, 2, 4, 2, 7), 0)
    for world in (2, 4):
        for rank in range(world):
            mine = origin[plan[:, columns_of_rank(8, 2, rank=rank, world=world)]]
            assert (mine.mean(axis=1) == 0.5).all()


def test_a_tiny_set_repeats_next_to_a_large_one_and_all_of_it_is_seen():
    labels, origin = site_of((100, 8), (2, 3))
    plan = joint((labels, origin, 2, 2, 4, None), 0)
    counts = np.bincount(plan.ravel(), minlength=len(labels))
    assert len(plan) == 806 // 16  # an epoch is as long as all images together, whichever set they are of
    assert counts[origin == 0].max() == 1  # 50 batches of 8 leave half of the large set for another epoch
    assert (counts[origin == 1] > 45).all()


def test_an_unused_image_is_drawn_from_no_set():
    labels, origin = site_of((4, 4), (4, 4))
    labels[::3] = -1
    assert (labels[joint((labels, origin, 2, 2, 2, 5), 0)] >= 0).all()


def test_shares_that_cannot_be_are_told():
    labels, origin = site_of((8, 4), (3, 4), (9, 4))

    def refused(identities):
        with pytest.raises(UserError) as caught:
            dataset_batches(labels, origin, np.random.default_rng(0), sources="abc", identities=identities, instances=4)
        return str(caught.value)

    assert refused(16) == (
        "data.sampling: datasets divides the 16 people of a batch (data.identities) evenly among 3 data sets "
        "(a, b, c), which cannot be done; set data.identities to 15 or 18"
    )
    assert refused(2).endswith("set data.identities to 3")
    assert refused(12) == (
        "data.sampling: datasets asks for 4 people of each data set in a batch of 12, the training images of b show 3; "
        "set data.identities to 9 or less"
    )
    labels[origin == 1] = -1
    assert refused(3).endswith("the training images of b show 0; set data.sampling to identities")


# ---- images of a person from other cameras

CAMERAS = json.loads((Path(__file__).parents[1] / "oracles_data" / "camera_sampler.json").read_text())
PID, CAM, K = np.array(CAMERAS["pid"]), np.array(CAMERAS["cam"]), CAMERAS["K"]


@pytest.mark.parametrize("anchor", CAMERAS["per_anchor"])
def test_partners_of_an_anchor_are_the_known_ones(anchor):
    wanted = CAMERAS["per_anchor"][anchor]
    assert partners(int(anchor), np.flatnonzero(PID[int(anchor)] == PID), CAM).tolist() == wanted["pool"]


def test_passes_have_the_known_statistics():
    """Of 3,000 passes; the person with a single image, who fills a group here, is left out."""
    labels = np.where(PID == 2, -1, PID)
    plan = camera_batches(labels, CAM, np.random.default_rng(0), identities=4, instances=K, count=3000)
    uses = np.bincount(plan.ravel(), minlength=len(PID)) / 3000
    wanted = np.where(PID == 2, 0, CAMERAS["expected_uses_per_pass"])
    np.testing.assert_allclose(uses, wanted, atol=0.06)
    groups = plan.reshape(-1, K)
    for person in (0, 1, 3, 4):
        own = groups[PID[groups[:, 0]] == person]
        assert len(own) == 3000  # each person once in a pass
        both = (CAM[own] != CAM[own[:, :1]]).any(axis=1).mean()
        assert both == CAMERAS["prob_group_has_two_cameras"][str(person)]
        repeated = np.mean([len(set(group)) < K for group in own.tolist()])
        assert repeated == pytest.approx(CAMERAS["prob_image_repeated_in_group"][str(person)], abs=0.03)


@given(problems(), st.integers(0, 99))
def test_batches_across_cameras_show_different_people_with_their_own_images(problem, seed):
    labels, identities, instances, count = problem
    cam = np.random.default_rng(seed).integers(0, 3, len(labels))

    def plan():
        return camera_batches(
            labels, cam, np.random.default_rng(seed), identities=identities, instances=instances, count=count
        )

    batches = plan()
    assert batches.shape == (count or max(1, (labels >= 0).sum() // (identities * instances)), identities * instances)
    np.testing.assert_array_equal(batches, plan())
    for batch in labels[batches].reshape(len(batches), identities, instances):
        assert (batch == batch[:, :1]).all()
        assert len(set(batch[:, 0])) == identities
        assert (batch >= 0).all()


def test_just_enough_partners_are_not_repeated():
    cam = np.array([0, 1, 2, 3, 0, 1, 2, 3])
    plan = camera_batches(np.repeat([0, 1], 4), cam, np.random.default_rng(0), identities=2, instances=4, count=50)
    assert all(len(set(batch)) == 8 for batch in plan.tolist())


def test_data_sets_share_a_batch_across_cameras_too():
    labels, origin = np.repeat(np.arange(4), 6), np.repeat([0, 1], 12)
    cam = np.tile([0, 0, 0, 0, 0, 1], 4)
    plan = dataset_batches(
        labels, origin, np.random.default_rng(0), sources=["a", "b"], identities=2, instances=2, count=40, cam=cam
    )
    assert (origin[plan].reshape(40, 2, 2)[:, :, 0] == [0, 1]).all()
    assert (cam[plan].reshape(40, 2, 2).sum(axis=2) == 1).all()  # one image of either camera


def test_too_few_people_for_a_batch_are_told():
    with pytest.raises(UserError, match=r"set data\.identities to 2 or less"):
        camera_batches(np.array([0, 0, 1]), np.zeros(3, int), np.random.default_rng(0), identities=3, instances=2)


def test_shuffled_batches_show_each_image_once_before_any_again():
    labels = np.array([0, 0, 1, 1, 2, -1, 2])
    plan = shuffled_batches(labels, np.random.default_rng(0), size=4, count=3)
    assert plan.shape == (3, 4)
    assert sorted(plan.reshape(2, 6)[0].tolist()) == sorted(plan.reshape(2, 6)[1].tolist()) == [0, 1, 2, 3, 4, 6]
    with pytest.raises(UserError, match="a batch needs 7 images"):
        shuffled_batches(labels, np.random.default_rng(0), size=7, count=1)
