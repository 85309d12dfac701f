"""The small sets of the lifelong protocol, each from a tiny folder in its own layout."""

import json

import numpy as np
import pytest
from scipy.io import savemat

from passerby.data.datasets import dataset_settings, open_dataset
from passerby.data.readers.cuhk_sysu import CuhkSysu, read_cuhk_sysu
from passerby.data.readers.splits import file_name
from passerby.errors import UserError

VIPER = [f"viper/VIPeR/cam_{view}/{pid:03}_{angle}.bmp" for pid in range(4) for view, angle in (("a", 0), ("b", 90))]
CUHK01 = [f"cuhk01/campus/{pid:04}{number:03}.png" for pid in range(1, 5) for number in range(1, 5)]
CUHK02 = [
    f"cuhk02/Dataset/P{pair}/cam{view}/{pid:04}_{number}.png"
    for pair in range(1, 6)
    for view in (1, 2)
    for pid in (1, 2)
    for number in (1, 2)
]
PRID = [f"prid2011/prid_2011/single_shot/cam_a/person_{pid:04}.png" for pid in (1, 2, 3, 4, 201)] + [
    f"prid2011/prid_2011/single_shot/cam_b/person_{pid:04}.png" for pid in (1, 2, 3, 4, 201, 749)
]
ILIDS = [f"ilids/i-LIDS_Pedestrian/Persons/{pid:04}{number:03}.jpg" for pid in range(1, 5) for number in (1, 2, 3)]
GRID = [f"grid/underground_reid/probe/{pid:04}_1_25004_1_2_3_4.jpeg" for pid in range(1, 5)] + [
    f"grid/underground_reid/gallery/{pid:04}_{cam}_25004_1_2_3_{cam}.jpeg"
    for pid, cam in ((1, 5), (2, 5), (3, 5), (4, 5), (0, 3), (0, 6))
]
SENSE = [f"SenseReID/test_probe/{pid:05}_0.jpg" for pid in (1, 2)] + [
    f"SenseReID/test_gallery/{pid:05}_1.jpg" for pid in (1, 2, 3)
]
SYSU = [
    f"CUHK-SYSU/cuhksysu4reid/{role}/{pid:05}_s{scene}_{box:07}_0.jpg"
    for role, people, boxes in (("train", (3, 5), 4), ("train", (9,), 3), ("query", (7, 8), 1), ("gallery", (7, 8), 2))
    for pid in people
    for box, scene in enumerate(range(100, 100 + boxes))
]
FILES = {
    "viper": VIPER, "cuhk01": CUHK01, "cuhk02": CUHK02, "prid2011": PRID, "ilids": ILIDS, "grid": GRID,
    "sensereid": SENSE, "cuhk_sysu": SYSU,
}  # fmt: skip


def partitions(file, *, train):
    """Write the published splits of GRID as MATLAB wrote them: a row of cells, each one struct."""
    cells = np.empty((1, 2), dtype=object)
    for number, people in enumerate((train, [9])):
        index = np.array([[0]], dtype=np.uint16)
        cells[0, number] = {"probeImIdx": index, "galleryImIdx": index, "personIdx": np.array([people], np.uint8)}
    savemat(file, {"trainIdxAll": cells, "features": np.zeros((2, 2))})


@pytest.fixture
def data(tmp_path, make_images):
    """Every set in one folder, as a person would keep them."""
    for names in FILES.values():
        make_images(tmp_path, names)
    partitions(tmp_path / "grid/underground_reid/features_and_partitions.mat", train=[1, 4])
    return tmp_path


def read(data, kind):
    return open_dataset(dataset_settings(kind, str(data)), kind)


def people(split):
    return sorted(set(split.pid.tolist()))


@pytest.mark.parametrize(
    ("kind", "counts"),
    [
        ("viper", (4, 2, 2)), ("cuhk01", (8, 4, 4)), ("cuhk02", (32, 4, 4)), ("prid2011", (4, 2, 4)),
        ("ilids", (6, 2, 2)), ("grid", (4, 2, 4)), ("sensereid", (0, 2, 3)), ("cuhk_sysu", (8, 2, 4)),
    ],
)  # fmt: skip
def test_counts_and_no_person_on_both_sides_and_every_query_can_be_found(data, kind, counts):
    dataset = read(data, kind)
    assert (len(dataset.train), len(dataset.query), len(dataset.gallery)) == counts
    assert not set(people(dataset.train)) & {*people(dataset.query), *people(dataset.gallery)}
    for pid, cam in zip(dataset.query.pid, dataset.query.cam, strict=True):
        assert ((dataset.gallery.pid == pid) & (dataset.gallery.cam != cam)).any()
    assert any("its scores do not compare with published ones" in note for note in dataset.notes)


PLACES = {
    "viper": "viper/VIPeR", "cuhk01": "cuhk01/campus", "cuhk02": "cuhk02/Dataset",
    "prid2011": "prid2011/prid_2011/single_shot", "ilids": "ilids/i-LIDS_Pedestrian/Persons",
    "grid": "grid/underground_reid", "sensereid": "SenseReID", "cuhk_sysu": "CUHK-SYSU/cuhksysu4reid",
}  # fmt: skip


@pytest.mark.parametrize("kind", FILES)
def test_the_folder_may_be_named_at_any_level(data, kind):
    whole = read(data, kind)
    parts = PLACES[kind].split("/")
    for depth in range(1, len(parts) + 1):
        found = read(data.joinpath(*parts[:depth]), kind)
        assert found.query.pid.tolist() == whole.query.pid.tolist()
        assert found.gallery.path.tolist() == whole.gallery.path.tolist()


def test_without_a_file_people_are_drawn_by_a_hash_and_it_is_said(data):
    dataset = read(data, "viper")
    assert people(dataset.query) == people(read(data, "viper").query)
    assert dataset.notes[0] == (
        f"There is no {data}/viper/splits.json, so half of the people were drawn for the test by a hash of their "
        "numbers (always alike); this is not a published split, and its scores do not compare with published ones."
    )
    assert "4/2/2 images (train/query/gallery), not the 632/316/316 of VIPeR" in dataset.notes[1]


def test_split_0_of_a_file_of_another_machine_is_followed(data):
    entries = [[f"/home/x/viper/VIPeR/cam_a/{pid:03}_0.bmp", 0, 0, 16] for pid in (1, 2)]
    (data / "viper/splits.json").write_text(json.dumps([{"train": [], "query": entries, "gallery": []}, {}]))
    dataset = read(data, "viper")
    assert (dataset.query.pid.tolist(), dataset.gallery.pid.tolist()) == ([1, 2], [1, 2])
    assert people(dataset.train) == [0, 3]
    assert dataset.notes[0] == (
        f"People are divided by split 0 of {data}/viper/splits.json; scores compare only with those of the same file."
    )


def test_each_set_follows_its_own_file(data):
    (data / "cuhk01/splits.json").write_text(json.dumps([{"query": [["a/0002001.png", 1, 0]]}]))
    (data / "prid2011/splits_single_shot.json").write_text(json.dumps([{"train": [1, 2], "test": [3, 4]}]))
    split = {"train": [], "query": ["0003002.jpg"], "gallery": ["0003001.jpg"]}
    (data / "ilids/splits.json").write_text(json.dumps([split]))
    cuhk01, prid, ilids = (read(data, kind) for kind in ("cuhk01", "prid2011", "ilids"))
    assert (cuhk01.query.pid.tolist(), cuhk01.query.cam.tolist(), cuhk01.gallery.cam.tolist()) == (
        [2, 2],
        [1, 1],
        [2, 2],
    )
    assert (prid.query.pid.tolist(), prid.gallery.pid.tolist()) == ([3, 4], [3, 4, 201, 749])
    assert prid.train.pid.tolist() == [1, 2, 1, 2]
    assert (ilids.query.cam.tolist(), ilids.gallery.cam.tolist(), len(ilids.train)) == ([2], [1], 9)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("[]", "does not hold splits of this data set as torchreid writes them; move it away or mend it"),
        ('[{"test": [1]}]', "does not hold splits of this data set as torchreid writes them; move it away or mend it"),
        ('[{"query": [1]}]', "does not hold splits of this data set as torchreid writes them; move it away or mend it"),
        ('[{"query": ["900_0.bmp"]}]', "split 0 tests on 1 people of whom there is no image (first: 900)"),
        ('[{"query": []}]', "split 0 has no test identity"),
        ("[", "is not valid JSON"),
    ],
)
def test_a_file_that_does_not_fit_is_named(data, text, sentence):
    (data / "viper/splits.json").write_text(text)
    with pytest.raises(UserError) as caught:
        read(data, "viper")
    assert str(caught.value).startswith(f"{data}/viper/splits.json")
    assert sentence in str(caught.value)


def test_ilids_takes_the_first_and_the_last_image_of_a_tested_person(data):
    dataset = read(data, "ilids")
    assert (dataset.query.cam.tolist(), dataset.gallery.cam.tolist()) == ([1, 1], [3, 3])
    assert dataset.query.pid.tolist() == dataset.gallery.pid.tolist()
    assert "Persons has 12 images of 4 identities, not the 476 images of 119 identities of i-LIDS" in dataset.notes[1]


def test_grid_has_the_first_published_split(data):
    dataset = read(data, "grid")
    assert (dataset.query.pid.tolist(), people(dataset.train)) == ([2, 3], [1, 4])
    assert sorted(dataset.gallery.pid.tolist()) == [0, 0, 2, 3]
    assert dataset.notes[0] == "GRID with the first of the ten splits in features_and_partitions.mat."


def test_grid_without_its_splits_is_refused(data):
    file = data / "grid/underground_reid/features_and_partitions.mat"
    savemat(file, {"something": [1]})
    with pytest.raises(UserError, match=r"does not hold the published splits \(trainIdxAll, with personIdx in each\)"):
        read(data, "grid")
    file.write_text("no MATLAB file")
    with pytest.raises(UserError, match="does not hold the published splits"):
        read(data, "grid")
    file.unlink()
    with pytest.raises(
        UserError, match=r"^grid: there is no .*features_and_partitions.mat, which comes with the images"
    ):
        read(data, "grid")


def test_people_of_the_pairs_of_cuhk02_are_kept_apart(data):
    dataset = read(data, "cuhk02")
    assert people(dataset.train) == [10001, 10002, 20001, 20002, 30001, 30002, 40001, 40002]
    assert people(dataset.query) == [50001, 50002]
    assert (set(dataset.query.cam.tolist()), set(dataset.gallery.cam.tolist())) == ({9}, {10})


def test_cuhk_sysu_learns_from_people_with_four_boxes(data):
    dataset = read(data, "cuhk_sysu")
    assert people(dataset.train) == [3, 5]
    assert dataset.notes[1] == "People with at least 4 boxes are learnt from: 2 of 3."
    assert "shows 3 identities to train and 2 to test on, not the 5,532 and 2,900 of CUHK-SYSU" in dataset.notes[2]
    everybody = read_cuhk_sysu(CuhkSysu(root=str(data), least=1), "x")
    assert people(everybody.train) == [3, 5, 9]
    assert len(everybody.notes) == 2


@pytest.mark.parametrize("kind", FILES)
def test_a_folder_of_something_else_is_one_sentence(tmp_path, make_images, kind):
    make_images(tmp_path, ["query/a.jpg", "cam_a/b.png", "probe/c.jpeg", "test_probe/d.jpg", "train/e.jpg"])
    with pytest.raises(UserError) as caught:
        read(tmp_path, kind)
    assert str(caught.value).startswith(f"{kind}: expected ")
    assert "or one level below, found " in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", FILES)
def test_a_file_that_is_named_otherwise_is_named(data, make_images, kind):
    folder = FILES[kind][-1].rpartition("/")[0]
    make_images(data, [f"{folder}/zz.jpg"])
    with pytest.raises(UserError, match=r"zz\.jpg is not named like .*; for other names use kind: folder$"):
        read(data, kind)


def test_masks_beside_a_nested_set(data, make_images):
    make_images(
        data / "viper/masks/VIPeR", ["cam_a/000_0.png", "cam_a/001_0.png", "cam_a/002_0.png", "cam_a/003_0.png"]
    )
    assert read(data, "viper").query.mask_path.tolist()[0].startswith(f"{data}/viper/masks/VIPeR/cam_a/")


def test_an_entry_that_is_no_path():
    with pytest.raises(TypeError, match="expected a path, got 3"):
        file_name([3, 0])
