"""Joining data sets to one table of people."""

import numpy as np
import pytest

from passerby.data.joining import join
from passerby.errors import UserError
from passerby.recipe import StageSettings
from passerby.training.stages import identity_sentences, make_stage
from passerby.types import Dataset, Split


def split(pid, cam=None, name="a", **columns):
    pid = np.array(pid, int)
    cam = np.zeros(len(pid), int) if cam is None else np.array(cam)
    return Split(np.array([f"{name}{i}.jpg" for i in range(len(pid))], np.str_), pid, cam, **columns)


def test_numbers_become_0_to_c_and_sets_stay_apart():
    joined = join([split([7, 3, -1, 7], [5, 5, -1, 2]), split([3, 9, 3], [5, 5, 6], "b")])
    assert joined.pid.tolist() == [1, 0, -1, 1, 2, 3, 2]
    assert joined.cam.tolist() == [1, 1, -1, 0, 2, 2, 3]
    assert joined.path.tolist() == ["a0.jpg", "a1.jpg", "a2.jpg", "a3.jpg", "b0.jpg", "b1.jpg", "b2.jpg"]
    assert joined.mask_path is None
    assert joined.raw_cam.tolist() == [5, 5, -1, 2, 5, 5, 6]
    assert join([joined, split([1], [9])]).raw_cam.tolist() == [5, 5, -1, 2, 5, 5, 6, 9]


def test_masks_are_kept_where_there_are_any():
    joined = join([split([1, 2], mask_path=np.array(["m1", "m2"])), split([1])])
    assert joined.mask_path.tolist() == ["m1", "m2", ""]


def datasets(**trains):
    return {name: Dataset(name, train, Split.empty(), Split.empty()) for name, train in trains.items()}


def test_a_labelled_stage_leaves_out_the_unknown():
    sets = datasets(market1501=split([4, 4, -1, 6, 6]))
    stage = make_stage(StageSettings(train=("market1501",)), sets)
    assert stage.train.pid.tolist() == [0, 0, 1, 1]
    assert (stage.name, stage.labelled, stage.epochs) == ("market1501", True, 120)


def test_an_unlabelled_stage_forgets_who_is_who():
    sets = datasets(market1501=split([4, 4, -1]), msmt17=split([4, 4]))
    stage = make_stage(StageSettings(train=("market1501", "msmt17"), labelled=False, name="both"), sets)
    assert stage.train.pid.tolist() == [-1] * 5
    assert stage.train.raw_cam.tolist() == [0] * 5
    assert stage.name == "both"


@pytest.mark.parametrize(
    ("pid", "told"),
    [
        ([], "stage 'market1501' has no training images"),
        ([-1, -1], "has 0 known identities; training needs at least two"),
        ([3, 3], "has 1 known identity; training needs at least two"),
        ([1, 2, 3], r"has one image per identity \(3 of each\)"),
    ],
)
def test_a_stage_that_teaches_nothing_is_told(pid, told):
    with pytest.raises(UserError, match=told):
        make_stage(StageSettings(train=("market1501",)), datasets(market1501=split(pid)))


@pytest.mark.parametrize(("labelled", "origin"), [(True, [0, 0, 1, 1, 1]), (False, [0, 0, 0, 1, 1, 1])])
def test_it_is_known_which_set_an_image_comes_from(labelled, origin):
    sets = datasets(market1501=split([4, -1, 4]), msmt17=split([4, 4, 6], [9, 9, 9], "b"))
    stage = make_stage(StageSettings(train=("market1501", "msmt17"), labelled=labelled), sets)
    assert stage.sources == ("market1501", "msmt17")
    assert stage.origin.tolist() == origin
    assert [path[0] for path in stage.train.path] == ["ab"[number] for number in origin]


@pytest.mark.parametrize("pid", [[], [-1, -1]])
def test_a_set_that_adds_nothing_is_told(pid):
    sets = datasets(market1501=split([4, 4, 6, 6]), msmt17=split(pid))
    with pytest.raises(
        UserError, match=r"trains jointly on 'msmt17', which has no training images of known identities;"
    ):
        make_stage(StageSettings(train=("market1501", "msmt17")), sets)


def test_a_limit_of_identities_takes_the_lowest_numbers_of_each_set():
    sets = datasets(market1501=split([9, 4, 4, -1, 6, 6, 9]), msmt17=split([2, 2, 1]))
    stage = make_stage(StageSettings(train=("market1501", "msmt17"), identities=2), sets)
    assert stage.train.path.tolist() == ["a1.jpg", "a2.jpg", "a4.jpg", "a5.jpg", "a0.jpg", "a1.jpg", "a2.jpg"]
    assert stage.train.pid.tolist() == [0, 0, 1, 1, 3, 3, 2]
    assert stage.origin.tolist() == [0, 0, 0, 0, 1, 1, 1]


def test_it_is_said_how_many_people_a_limit_leaves():
    sets = datasets(market1501=split([9, 4, 4, -1, 6, 6, 9]), msmt17=split([2, 2, 1]))
    assert identity_sentences(StageSettings(train=("market1501", "msmt17"), identities=2), sets) == [
        "market1501 + msmt17: the first 2 of 3 identities of market1501 are trained on",
        "market1501 + msmt17: msmt17 has 2 identities, so identities: 2 leaves none out",
    ]
    assert identity_sentences(StageSettings(train=("market1501",)), sets) == []
