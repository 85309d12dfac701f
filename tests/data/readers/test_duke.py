import pytest

from passerby.data.readers.duke import DukeMTMC, read_dukemtmc
from passerby.errors import UserError

FILES = [
    "bounding_box_train/0005_c2_f0046985.jpg",
    "query/0012_c8_f0000001.jpg",
    "bounding_box_test/0012_c1_f0000002.jpg",
    "bounding_box_test/7139_c6_f0000003.jpg",
]


def test_reads_names_and_says_that_it_was_withdrawn(tmp_path, make_images):
    root = make_images(tmp_path / "DukeMTMC-reID", FILES)
    dataset = read_dukemtmc(DukeMTMC(root=str(root)), "campus")
    assert (dataset.train.pid.tolist(), dataset.train.cam.tolist(), dataset.train.frame.tolist()) == ([5], [2], [46985])
    assert (dataset.query.pid.tolist(), dataset.query.cam.tolist()) == ([12], [8])
    assert dataset.gallery.pid.tolist() == [12, 7139]
    assert dataset.notes[0] == (
        "DukeMTMC-reID was withdrawn by its authors: use a copy only where you must compare with older work."
    )
    assert "not the 16,522/2,228/17,661 of DukeMTMC-reID" in dataset.notes[1]


def test_market_names_are_refused(tmp_path, make_images):
    root = make_images(tmp_path, [*FILES, "query/0001_c1s1_001051_00.jpg"])
    with pytest.raises(UserError, match=r"0001_c1s1_001051_00.jpg is not named like 0005_c2_f0046985.jpg"):
        read_dukemtmc(DukeMTMC(root=str(root)), "campus")
