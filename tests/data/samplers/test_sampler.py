"""What all samplers share."""

import numpy as np
import pytest

from passerby.data.samplers.pk import PkSettings
from passerby.data.samplers.sampler import EpochImages
from passerby.data.samplers.shuffle import ShuffleSettings
from passerby.data.samplers.table import SAMPLERS
from passerby.errors import UserError


def test_ranks_share_people_evenly():
    sampler = PkSettings(identities=4, instances=3)
    pieces = [sampler.columns(rank=rank, world=2) for rank in range(2)]
    assert [list(range(12))[piece] for piece in pieces] == [[0, 1, 2, 3, 4, 5], [6, 7, 8, 9, 10, 11]]
    assert sampler.columns(rank=0, world=1) == slice(0, 12)
    with pytest.raises(UserError, match=r"data.sampler.identities is 4, which 3 processes cannot share evenly"):
        sampler.columns(rank=0, world=3)


def test_ranks_share_shuffled_images_evenly():
    assert ShuffleSettings(size=6).columns(rank=1, world=3) == slice(2, 4)
    with pytest.raises(UserError, match=r"data.sampler.size is 6, which 4 processes cannot share evenly"):
        ShuffleSettings(size=6).columns(rank=0, world=4)


@pytest.mark.parametrize("kind", SAMPLERS)
def test_an_epoch_is_a_function_of_images_and_generator(kind):
    labels = np.repeat(np.arange(40), 4)
    images = EpochImages(np.where(labels == 7, -1, labels), np.arange(160) % 3, np.repeat([0, 1], 80), ("a", "b"))
    sampler = SAMPLERS[kind]()
    sampler.require_images(images)
    sampler.check(images.sources)
    plan = sampler.plan(images, np.random.default_rng(3), count=2)
    assert plan.shape == (2, sampler.batch_size)
    assert (images.labels[plan] >= 0).all()
    np.testing.assert_array_equal(plan, sampler.plan(images, np.random.default_rng(3), count=2))
    assert (plan != sampler.plan(images, np.random.default_rng(4), count=2)).any()


@pytest.mark.parametrize("kind", SAMPLERS)
def test_too_few_images_are_told_before_the_first_epoch(kind):
    few = EpochImages(np.array([0, 0, 1]), np.zeros(3, int), np.zeros(3, int), ("a",))
    with pytest.raises(UserError, match=r"data\.sampler"):
        SAMPLERS[kind]().require_images(few)


@pytest.mark.parametrize("kind", SAMPLERS)
def test_a_sampler_of_one_data_set_draws_in_the_same_way(kind):
    alone = SAMPLERS[kind]().for_one_dataset()
    assert not alone.shares_evenly
    assert alone.batch_size == SAMPLERS[kind]().batch_size
    across = SAMPLERS["per_domain"](across_cameras=True).for_one_dataset()
    assert (across.kind, across.without_cameras) == ("pk_cameras", "data.sampler=pk")
