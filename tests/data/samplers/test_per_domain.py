"""An equal share of each data set in a batch."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from passerby.data.samplers.per_domain import dataset_batches
from passerby.data.samplers.pk import PkSettings
from passerby.errors import UserError


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
            mine = origin[plan[:, PkSettings(identities=8, instances=2).columns(rank=rank, world=world)]]
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
        "data.sampler: per_domain divides the 16 identities of a batch (data.sampler.identities) evenly among 3 data "
        "sets (a, b, c), which cannot be done; set data.sampler.identities to 15 or 18"
    )
    assert refused(2).endswith("set data.sampler.identities to 3")
    assert refused(12) == (
        "data.sampler: per_domain asks for 4 identities of each data set in a batch of 12, the training images of b "
        "show 3; set data.sampler.identities to 9 or less"
    )
    labels[origin == 1] = -1
    assert refused(3).endswith("the training images of b show 0; set data.sampler to pk")


def test_data_sets_share_a_batch_across_cameras_too():
    labels, origin = np.repeat(np.arange(4), 6), np.repeat([0, 1], 12)
    cam = np.tile([0, 0, 0, 0, 0, 1], 4)
    plan = dataset_batches(
        labels, origin, np.random.default_rng(0), sources=["a", "b"], identities=2, instances=2, count=40, cam=cam
    )
    assert (origin[plan].reshape(40, 2, 2)[:, :, 0] == [0, 1]).all()
    assert (cam[plan].reshape(40, 2, 2).sum(axis=2) == 1).all()  # one image of either camera
