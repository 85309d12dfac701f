"""Data sets with clothes: PRCC, LTCC, CCVID in their layouts, and a table with a column of clothes."""

import numpy as np
import pytest

from passerby.data.datasets import dataset_settings, open_dataset
from passerby.data.joining import join
from passerby.errors import UserError
from passerby.inference.tested import label_vectors
from passerby.metrics.pooling import average_tracklets
from passerby.types import Split

PRCC_FILES = [
    *(f"rgb/train/{pid:03}/{camera}_cropped_rgb00{n}.jpg" for pid in (1, 2) for camera in "ABC" for n in (1, 2)),
    *(f"rgb/test/{camera}/{pid:03}/cropped_rgb00{n}.jpg" for camera in "ABC" for pid in (7, 9) for n in (1, 2, 3)),
]
LTCC_FILES = [
    "LTCC_ReID/train/000_1_c9_015833.png", "LTCC_ReID/train/000_2_c3_015834.png", "LTCC_ReID/train/004_1_c3_01.png",
    "LTCC_ReID/query/006_1_c1_000001.png", "LTCC_ReID/test/006_1_c2_000002.png", "LTCC_ReID/test/006_2_c2_000003.png",
]  # fmt: skip
CCVID_LISTS = {
    "train": ["session1/001_01 001 u0_l0"],
    "query": ["session1/002_01\t002\tu0_l0", "session3/002_01\t002\tu1_l0"],
    "gallery": ["session2/002_02 002 u0_l0", "session2/003_02 003 u0_l0"],
}


def make(folder, files):
    for name in files:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    return folder


def ccvid(folder):
    lines = [line for each in CCVID_LISTS.values() for line in each]
    make(folder, [f"{line.split()[0]}/0000{n}.jpg" for line in lines for n in (1, 2)])
    for name, each in CCVID_LISTS.items():
        (folder / f"{name}.txt").write_text("\n".join(each) + "\n")
    return folder


def opened(kind, folder, **more):
    return open_dataset(dataset_settings(kind, str(folder)).model_copy(update=more), kind)


def test_prcc_wears_the_same_under_a_and_b_and_others_under_c(tmp_path):
    dataset = opened("prcc", make(tmp_path, PRCC_FILES))
    assert (len(dataset.train), len(dataset.query), len(dataset.gallery)) == (12, 12, 6)
    assert dataset.gallery.cam.tolist() == [1] * 6
    assert dataset.query.cam.tolist() == [2] * 6 + [3] * 6
    clothes = {(pid, cam): worn for split in (dataset.query, dataset.gallery) for pid, cam, worn in zip(
        split.pid.tolist(), split.cam.tolist(), split.clothes.tolist(), strict=True)}  # fmt: skip
    for pid in (7, 9):
        assert clothes[pid, 1] == clothes[pid, 2] != clothes[pid, 3]
    assert len(set(clothes.values())) == 4
    assert len(np.unique(dataset.train.clothes)) == 4
    assert any("all 6 images of camera A" in note for note in dataset.notes)


def test_ltcc_has_pid_clothes_and_camera_in_its_names(tmp_path):
    dataset = opened("ltcc", make(tmp_path, LTCC_FILES))
    assert (dataset.train.pid.tolist(), dataset.train.cam.tolist()) == ([0, 0, 4], [9, 3, 3])
    assert len(set(dataset.train.clothes.tolist())) == 3
    assert dataset.query.clothes[0] == dataset.gallery.clothes[0] != dataset.gallery.clothes[1]
    assert any("not the 9,576/493/7,050 of LTCC" in note for note in dataset.notes)


def test_ccvid_has_other_cameras_in_session_3_and_a_query_per_tracklet(tmp_path):
    dataset = opened("ccvid", ccvid(tmp_path))
    assert (len(dataset.train), len(dataset.query), len(dataset.gallery)) == (2, 2, 4)
    assert dataset.query.cam.tolist() == [1, 13]
    assert dataset.query.path.tolist()[0].endswith("session1/002_01/00001.jpg")
    assert dataset.query.clothes[0] == dataset.gallery.clothes[0]
    assert dataset.query.clothes[0] != dataset.query.clothes[1]
    assert dataset.gallery.clothes[0] != dataset.gallery.clothes[2], "the same word of two people"
    assert len(opened("ccvid", tmp_path, gallery="first").gallery) == 2


def test_tracklets_of_ccvid_are_whole_on_request(tmp_path):
    folder = ccvid(tmp_path)
    first, whole = opened("ccvid", folder), opened("ccvid", folder, query="all")
    assert (len(first.query), len(whole.query)) == (2, 4)
    assert any("set query: all and test.unit: tracklet" in note for note in first.notes)
    assert any("the means of tracklets are compared, as published" in note for note in whole.notes)
    table = label_vectors(np.eye(8, dtype=np.float32), whole, feature="")
    means = average_tracklets(table)
    assert (means.role.tolist(), means.clothes.tolist()) == (
        ["query", "query", "gallery", "gallery"],
        table.clothes[::2].tolist(),
    )


@pytest.mark.parametrize(
    ("kind", "spoil", "message"),
    [
        ("prcc", lambda folder: make(folder, ["rgb/train/x1/A_cropped_rgb001.jpg"]), "not in a folder of an identity"),
        ("prcc", lambda folder: make(folder, ["rgb/train/001/D_cropped_rgb001.jpg"]), "of camera A, B or C"),
        ("ltcc", lambda folder: make(folder, ["LTCC_ReID/test/006-1.png"]), "is not named like 000_1_c9_015833.png"),
        ("ccvid", lambda folder: (folder / "query.txt").write_text("who\n"), "line 1 is 'who'; expected train.txt"),
        ("ccvid", lambda folder: (folder / "query.txt").write_text("session1/9_09 9 u\n"), "has no images"),
        ("ccvid", lambda folder: (folder / "query.txt").write_bytes(b"\xff\n"), "cannot read"),
    ],
)
def test_another_layout_is_refused(tmp_path, kind, spoil, message):
    {"prcc": lambda: make(tmp_path, PRCC_FILES), "ltcc": lambda: make(tmp_path, LTCC_FILES),
     "ccvid": lambda: ccvid(tmp_path)}[kind]()  # fmt: skip
    spoil(tmp_path)
    with pytest.raises(UserError, match=message):
        opened(kind, tmp_path)


def test_a_table_may_tell_clothes_by_words_of_each_identity(tmp_path):
    make(tmp_path, [f"{n}.jpg" for n in range(5)])
    rows = ["0.jpg,anna,1,query,red", "1.jpg,anna,2,gallery,blue", "2.jpg,ben,2,gallery,red", "3.jpg,ben,1,train,",
            "4.jpg,anna,2,gallery,red"]  # fmt: skip
    (tmp_path / "t.csv").write_text("\n".join(["path,pid,cam,role,clothes", *rows]) + "\n")
    dataset = opened("csv", tmp_path / "t.csv")
    blue, of_ben, again = dataset.gallery.clothes.tolist()
    assert dataset.query.clothes.tolist() == [again]
    assert len({blue, of_ben, again}) == 3
    assert dataset.train.clothes.tolist() == [-1]
    assert label_vectors(np.zeros((4, 2), np.float32), dataset, feature="").clothes.tolist() == [
        again,
        blue,
        of_ben,
        again,
    ]
    (tmp_path / "t.csv").write_text("\n".join(["path,pid,cam,role,outfit", *rows]) + "\n")
    with pytest.raises(UserError, match="has a column 'outfit'; call it 'clothes'"):
        opened("csv", tmp_path / "t.csv")


def test_joined_tables_keep_clothes_apart_and_unknown_where_one_has_none():
    def split(**columns):
        return Split(np.array(["a", "b"]), np.array([1, 2]), np.array([0, 1]), **columns)

    joined = join([split(clothes=np.array([5, 9])), split(), split(clothes=np.array([9, -1]))])
    assert joined.clothes.tolist() == [0, 1, -1, -1, 2, -1]
    assert join([split(), split()]).clothes is None
    assert joined.select(np.array([0, 4])).clothes.tolist() == [0, 2]
