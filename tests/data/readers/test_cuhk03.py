import pytest

from passerby.data.readers.cuhk03 import CUHK03, read_cuhk03
from passerby.errors import UserError

INNER = ["bounding_box_train/0003_c1_21.png", "query/0001_c1_1.png", "bounding_box_test/0001_c2_6.png"]


@pytest.fixture
def root(tmp_path, make_images):
    folder = make_images(
        tmp_path / "cuhk03-np", [f"{boxes}/{name}" for boxes in ("labeled", "detected") for name in INNER]
    )
    return make_images(folder, ["labeled/bounding_box_train/0003_c2_22.png"]).parent


def test_detected_unless_told_otherwise(root):
    dataset = read_cuhk03(CUHK03(root=str(root)), "c")
    assert (dataset.train.pid.tolist(), dataset.train.cam.tolist()) == ([3], [1])
    assert dataset.gallery.cam.tolist() == [2]
    assert dataset.notes[0] == "CUHK03 with detected boxes, 767/700 protocol."
    assert "7,365/1,400/5,332 of CUHK03-NP (detected)" in dataset.notes[1]


def test_labelled(root):
    dataset = read_cuhk03(CUHK03(root=str(root), boxes="labelled"), "c")
    assert dataset.train.cam.tolist() == [1, 2]
    assert dataset.notes[0] == "CUHK03 with labelled boxes, 767/700 protocol."
    assert "7,368/1,400/5,328 of CUHK03-NP (labelled)" in dataset.notes[1]


def test_the_matlab_release_is_refused_in_one_sentence(tmp_path):
    (tmp_path / "cuhk-03.mat").touch()
    with pytest.raises(UserError) as caught:
        read_cuhk03(CUHK03(root=str(tmp_path)), "c")
    assert str(caught.value) == (
        "cuhk03: expected the extracted CUHK03-NP images (detected/bounding_box_train, detected/query and "
        "detected/bounding_box_test; the release as one MATLAB file is not read) in "
        f"{tmp_path} or one level below, found no folder"
    )
