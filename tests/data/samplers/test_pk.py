"""P x K batches."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from passerby.data.samplers.pk import identity_batches
from passerby.data.samplers.sampler import require_identities
from passerby.errors import UserError
from tests.data.samplers.problems import problems


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
    with pytest.raises(UserError, match=r"batches of 3 identities, the training images show 2; set"):
        identity_batches(labels, np.random.default_rng(0), identities=3, instances=2)
