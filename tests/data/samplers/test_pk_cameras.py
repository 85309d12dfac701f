"""P x K batches of images from several cameras."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from passerby.data.samplers.pk_cameras import camera_batches, partners
from passerby.errors import UserError
from tests.data.samplers.problems import problems

CAMERAS = json.loads((Path(__file__).parents[2] / "oracles_data" / "camera_sampler.json").read_text())
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


def test_too_few_people_for_a_batch_are_told():
    with pytest.raises(UserError, match=r"set data\.sampler\.identities to 2 or less"):
        camera_batches(np.array([0, 0, 1]), np.zeros(3, int), np.random.default_rng(0), identities=3, instances=2)
