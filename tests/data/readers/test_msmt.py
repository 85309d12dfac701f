import pytest

from passerby.data.readers.msmt import MSMT17, read_msmt17
from passerby.errors import UserError

LISTS = {
    "list_train.txt": ["0000/0000_000_01_0303morning_0008_0.jpg 0", "0001/0001_004_15_0303noon_0012_1.jpg 1"],
    "list_val.txt": ["0002/0002_001_02_0303morning_0018_0.jpg 2"],
    "list_query.txt": ["0000/0000_000_03_0303morning_0028_0.jpg 0"],
    "list_gallery.txt": ["0000/0000_001_04_0303morning_0038_0.jpg 0", "0001/0001_001_04_0303morning_0038_0.jpg 1"],
}


def write(root, *, folders=("train", "test"), lists=LISTS):
    for folder in folders:
        (root / folder).mkdir(parents=True)
    for name, lines in lists.items():
        (root / name).write_text("\n".join(lines) + "\n\n")
    return root


def test_v1_train_list_only(tmp_path):
    root = write(tmp_path / "MSMT17_V1")
    dataset = read_msmt17(MSMT17(root=str(tmp_path)), "station")
    assert dataset.train.path.tolist()[1] == f"{root}/train/0001/0001_004_15_0303noon_0012_1.jpg"
    assert (dataset.train.pid.tolist(), dataset.train.cam.tolist()) == ([0, 1], [1, 15])
    assert dataset.train.frame.tolist() == [8, 12]
    assert dataset.query.path.tolist() == [f"{root}/test/0000/0000_000_03_0303morning_0028_0.jpg"]
    assert dataset.gallery.cam.tolist() == [4, 4]
    assert dataset.notes[0] == "MSMT17 V1, train list only."
    assert "not the 30,248/11,659/82,161 of MSMT17 (train list only) as published" in dataset.notes[2]


def test_v2_train_and_val(tmp_path):
    root = write(tmp_path / "MSMT17_V2", folders=("mask_train_v2", "mask_test_v2"))
    dataset = read_msmt17(MSMT17(root=str(root), split="train+val"), "station")
    assert dataset.train.pid.tolist() == [0, 1, 2]
    assert dataset.train.path.tolist()[0] == f"{root}/mask_train_v2/0000/0000_000_01_0303morning_0008_0.jpg"
    assert dataset.gallery.path.tolist()[0].startswith(f"{root}/mask_test_v2/0000/")
    assert dataset.notes[0] == "MSMT17 V2, train and val lists."
    assert "32,621/11,659/82,161" in dataset.notes[2]


@pytest.mark.parametrize("split", ["train", "train+val"])
def test_test_identities_are_other_people_than_training_identities(tmp_path, split):
    write(tmp_path)
    dataset = read_msmt17(MSMT17(root=str(tmp_path), split=split), "station")
    assert (dataset.query.pid.tolist(), dataset.gallery.pid.tolist()) == ([3], [3, 4])
    assert dataset.notes[1] == (
        "Test identities are numbered on from 3, because the lists of the data set start again at 0."
    )


@pytest.mark.parametrize(
    "line",
    [
        "0000/0000_000.jpg 0",
        "0000/0000_000_01_x_1.jpg",
        "0000/0000_000_xx_a_1.jpg 0",
        f"0000/0000_000_01_a_1.jpg {'1' * 4500}",
    ],
)
def test_a_bad_line_is_named(tmp_path, line):
    write(tmp_path, lists=LISTS | {"list_val.txt": [LISTS["list_val.txt"][0], line]})
    with pytest.raises(UserError) as caught:
        read_msmt17(MSMT17(root=str(tmp_path)), "station")
    assert str(caught.value) == (
        f"{tmp_path}/list_val.txt, line 2: {line!r} is not like '0000/0000_000_01_0303morning_0008_0.jpg 0'"
    )


def test_missing_list(tmp_path):
    write(tmp_path)
    (tmp_path / "list_val.txt").unlink()
    with pytest.raises(UserError) as caught:
        read_msmt17(MSMT17(root=str(tmp_path)), "station")
    assert str(caught.value) == (
        "msmt17: expected list_train.txt, list_val.txt, list_query.txt, list_gallery.txt and the folders train and "
        f"test (V1) or mask_train_v2 and mask_test_v2 (V2) in {tmp_path} or one level below, found test, train"
    )
