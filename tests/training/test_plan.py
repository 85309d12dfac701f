"""What an epoch draws, and what is told of it."""

from dataclasses import replace

import numpy as np
import pytest

from passerby.data.samplers.per_domain import PerDomainSettings
from passerby.data.samplers.pk import PkSettings, identity_batches
from passerby.data.samplers.pk_cameras import PkCamerasSettings
from passerby.errors import UserError
from passerby.training.plan import count_batches, drawn, plan_epoch, require_batch, require_cameras, stage_sentences
from passerby.training.run_log import DrawnRecord
from passerby.types import Split, Stage


def stage(*people, images=4):
    """Return a stage over sets of so many people, each seen by two cameras."""
    pid = np.repeat(np.arange(sum(people)), images)
    cam = np.arange(len(pid)) % 2
    train = Split(np.array([f"{row}.jpg" for row in range(len(pid))]), pid, cam)
    names = tuple(f"site{number}" for number in range(len(people)))
    origin = np.repeat(np.arange(len(people)), [count * images for count in people])
    return Stage("here", train, labelled=True, epochs=3, sources=names, origin=origin)


def settings(kind=PkSettings, identities=4):
    return kind(identities=identities, instances=2)


def plan(stage, sampler, seed=0):
    return plan_epoch(stage, stage.train.pid, np.random.default_rng(seed), sampler=sampler)


def test_all_identities_alike_is_the_plan_of_one_table():
    joined = stage(9, 3)
    alone = identity_batches(joined.train.pid, np.random.default_rng(0), identities=4, instances=2, count=6)
    np.testing.assert_array_equal(plan(joined, settings()), alone)


def test_one_data_set_has_the_whole_share():
    np.testing.assert_array_equal(plan(stage(9), settings(PerDomainSettings)), plan(stage(9), settings()))


@pytest.mark.parametrize("kind", [PkSettings, PerDomainSettings])
def test_what_is_drawn_is_counted(kind):
    joined = stage(20, 2)
    planned = plan(joined, settings(kind))
    found = drawn(planned, joined)
    assert list(found) == ["site0", "site1"]
    assert len(planned) == count_batches(joined, settings(kind)) == 88 // 8
    for number, record in enumerate(found.values()):
        rows = [[joined.origin[row] == number for row in batch] for batch in planned]
        assert record == DrawnRecord(sum(map(sum, rows)), sum(map(any, rows)))
    assert sum(record.images for record in found.values()) == planned.size
    if kind is PerDomainSettings:
        assert set(found.values()) == {DrawnRecord(44, 11)}
    else:
        assert found["site1"].images < 20  # 2 of 22 people are hardly seen


def test_of_one_data_set_nothing_is_counted():
    assert drawn(plan(stage(9), settings()), stage(9)) == {}


def test_an_epoch_has_at_least_one_batch():
    assert count_batches(stage(2), settings(identities=9)) == 1


def test_too_few_people_are_told():
    require_batch(stage(3, 1), settings())
    with pytest.raises(UserError, match=r"asks for batches of 5 identities, the training images show 4"):
        require_batch(stage(3, 1), settings(identities=5))
    with pytest.raises(
        UserError, match=r"the training images of site1 show 1; set data.sampler.identities to 2 or less"
    ):
        require_batch(stage(3, 1), settings(PerDomainSettings))


def test_the_opening_tells_of_each_set():
    assert stage_sentences(stage(300), settings()) == ["here: 1,200 images of 300 people from 2 cameras, 3 epochs"]
    (told,) = stage_sentences(stage(9, 3), settings())
    assert told == (
        "here: site0 36 images of 9 people from 2 cameras + site1 12 images of 3 people from 2 cameras, jointly, "
        "all identities alike: 48 images of 12 people from 2 cameras in all, 3 epochs"
    )
    first, second = stage_sentences(stage(9, 3), settings(PerDomainSettings))
    assert "jointly, an equal share of each data set in every batch: 48 images" in first
    assert second == "here: how often an epoch shows each image on average: site0 0.67, site1 2 times"


def with_memory(*people, ratio):
    """Return a stage whose last set is a memory."""
    return replace(stage(*people), replay_ratio=ratio)


@pytest.mark.parametrize(("ratio", "old"), [(0.25, 1), (0.5, 2), (0.75, 3), (0.01, 1), (0.99, 3)])
def test_a_memory_has_its_share_of_every_batch_and_makes_no_epoch_longer(ratio, old):
    both = with_memory(9, 5, ratio=ratio)
    planned = plan(both, settings())
    assert len(planned) == 9 * 4 // 8
    origin = both.origin[planned].reshape(len(planned), 4, 2)
    assert (origin.sum(axis=(1, 2)) == 2 * old).all()
    assert (origin[:, :, 0] == origin[:, :, 1]).all()
    assert [len(set(both.train.pid[batch])) for batch in planned] == [4] * len(planned)


def test_a_small_memory_gives_what_it_has():
    planned = plan(with_memory(9, 1, ratio=0.5), settings())
    assert (planned >= 36).sum(axis=1).tolist() == [2] * len(planned)


def test_beside_a_memory_joint_sets_have_equal_shares():
    three = with_memory(9, 9, 9, ratio=0.5)
    planned = plan(three, settings(PerDomainSettings))
    counts = [np.bincount(three.origin[batch], minlength=3).tolist() for batch in planned]
    assert counts == [[2, 2, 4]] * (72 // 8)
    assert list(drawn(planned, three)) == ["site0", "site1", "site2"]


def test_images_that_are_alone_are_not_repeated_in_an_unlabelled_stage():
    joined = stage(4, 4)
    known, labels = joined.train.pid, joined.train.pid.copy()
    labels[joined.origin == 1] = 100 + np.arange(16)  # each image of the second site is one of its own
    hidden = replace(joined, train=replace(joined.train, pid=np.full(32, -1)), labelled=False)
    planned = plan_epoch(hidden, labels, np.random.default_rng(0), sampler=settings())
    for batch in planned:
        assert len(set(batch.tolist())) == len(batch)
        for pair in batch.reshape(-1, 2):
            assert len(set(joined.origin[pair].tolist())) == 1
            assert joined.origin[pair[0]] == 1 or len(set(known[pair].tolist())) == 1
    again = plan_epoch(hidden, labels, np.random.default_rng(0), sampler=settings())
    np.testing.assert_array_equal(planned, again)


# ---- images of a person from other cameras


ACROSS = PkCamerasSettings(identities=4, instances=2)


@pytest.mark.parametrize("across", [ACROSS, PerDomainSettings(identities=4, instances=2, across_cameras=True)])
def test_groups_show_two_cameras_where_the_recipe_says_so(across):
    joined = stage(9, 5, images=8)
    cam = np.where(np.arange(len(joined.train)) % 8 == 0, 1, 0)  # one image of eight
    joined = replace(joined, train=replace(joined.train, cam=cam))
    drawn_cams = cam[plan(joined, across)].reshape(-1, 2)
    assert (drawn_cams.sum(axis=1) == 1).all()
    dealt = cam[plan(joined, settings())].reshape(-1, 2)
    assert (dealt.sum(axis=1) == 0).any()


def test_a_memory_is_drawn_across_cameras_too():
    joined = stage(9, 5, images=8)
    cam = np.where(np.arange(len(joined.train)) % 8 == 0, 1, 0)
    joined = replace(joined, train=replace(joined.train, cam=cam), replay_ratio=0.5)
    assert (cam[plan(joined, ACROSS)].reshape(-1, 2).sum(axis=1) == 1).all()


def test_images_that_are_alone_in_their_cluster_are_drawn_once_in_a_group():
    train = stage(3, images=4).train
    unknown = Stage("here", replace(train, pid=np.full(12, -1)), labelled=False, epochs=1)
    labels = np.array([0, 0, 0, 0, *range(1, 9)])  # four of one person, eight lone images
    sampler = PkCamerasSettings(identities=2, instances=4)
    for seed in range(20):
        planned = plan_epoch(unknown, labels, np.random.default_rng(seed), sampler=sampler)
        lone = [group for group in planned.reshape(-1, 4).tolist() if group[0] >= 4]
        assert all(len(set(group)) == 4 for group in lone)


def test_cameras_that_nobody_knows_cannot_be_preferred():
    known, unknown = stage(3), stage(3)
    unknown = replace(unknown, train=replace(unknown.train, cam=np.full(12, -1)))
    require_cameras([(unknown, ACROSS), (known, ACROSS)])
    require_cameras([(unknown, settings())])
    with pytest.raises(
        UserError,
        match=r"pk_cameras prefers images from other cameras, which has no effect: no stage .* set data.sampler=pk$",
    ):
        require_cameras([(unknown, ACROSS), (known, settings())])
