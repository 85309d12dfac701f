import numpy as np
import pytest
from scipy.io import savemat

from passerby.data.datasets import dataset_settings, open_dataset
from passerby.data.readers import veri
from passerby.data.readers.layout import Published
from passerby.errors import UserError
from passerby.evaluation import evaluate
from passerby.inference.tested import label_vectors

VERI = [
    "image_train/0001_c001_00016450_0.jpg",
    "image_train/0003_c002_00016460_0.jpg",
    "image_query/0002_c002_00030600_0.jpg",
    "image_test/0002_c003_00030601_0.jpg",
    "image_test/0002_c002_00030605_0.jpg",
]
MARS = [
    "bbox_train/0001/0001C1T0001F001.jpg",
    "bbox_train/0001/0001C2T0001F001.jpg",
    "bbox_train/0003/0003C1T0001F001.jpg",
    *(f"bbox_test/0002/0002C1T0001F00{frame}.jpg" for frame in (1, 2)),
    *(f"bbox_test/0002/0002C3T0001F00{frame}.jpg" for frame in (1, 2)),
    "bbox_test/0000/0000C1T0001F001.jpg",
    "bbox_test/00-1/00-1C1T0001F001.jpg",
]


AICITY = [(f"{number:06d}.jpg", f"{(number + 1) // 2:04d}", f"c{number % 2 + 1:03d}") for number in range(1, 9)]


def write_labels(root, entries):
    items = "\n".join(f'<Item imageName="{i}" vehicleID="{v}" cameraID="{c}" />' for i, v, c in entries)
    declared = '<?xml version="1.0" encoding="gb2312"?>'
    (root / "train_label.xml").write_text(
        f"{declared}\n<TrainingImages>\n<Items>\n{items}\n</Items>\n</TrainingImages>"
    )


@pytest.fixture
def aicity(tmp_path, make_images):
    names = [f"image_train/{image}" for image, _, _ in AICITY]
    root = make_images(tmp_path / "AIC21", [*names, "image_query/000001.jpg", "image_test/000001.jpg"])
    write_labels(root, AICITY)
    return root


def test_aicity(aicity):
    dataset = read(aicity)
    assert dataset.title == "AIC21 (AI City layout)"
    assert (dataset.train.count_identities, dataset.query.count_identities, len(dataset.train)) == (2, 2, 4)
    assert set(dataset.train.pid) | set(dataset.query.pid) == {1, 2, 3, 4}
    assert set(dataset.train.cam) == {1, 2}
    assert "identities of query and test images are not public (2 images left out)" in dataset.notes[1]
    assert len(read(aicity, "aicity", test_share=0.0).train) == 8
    assert len(read(aicity.parent, "aicity").train) == 4


@pytest.mark.parametrize(
    ("entries", "sentence"),
    [
        ([], "holds no entry like <Item"),
        ([("", "1", "c1")], "item 1: imageName, vehicleID or cameraID is missing"),
        ([("000009.jpg", "1", "c1")], "item 1: there is no image 000009.jpg in"),
        ([AICITY[0], AICITY[0]], "item 2: 000001.jpg has two entries"),
    ],
)
def test_labels_of_aicity_that_do_not_fit_are_refused(aicity, entries, sentence):
    write_labels(aicity, entries)
    with pytest.raises(UserError, match=sentence):
        read(aicity)


def test_images_of_aicity_without_a_label_are_counted(aicity):
    write_labels(aicity, AICITY[:6])
    assert "Images of image_train without an entry in train_label.xml left out: 2." in read(aicity).notes


def names_of(split):
    return [path.rpartition("/")[2].partition(".")[0] for path in split.path.tolist()]


def read(root, kind="auto", **settings):
    return open_dataset(dataset_settings(kind, str(root)).model_copy(update=settings))


def test_veri(tmp_path, make_images, monkeypatch):
    make_images(tmp_path / "VeRi", VERI)
    dataset = read(tmp_path)
    assert dataset.title == f"{tmp_path.name} (VeRi-776 layout)"
    assert (dataset.train.pid.tolist(), dataset.train.cam.tolist()) == ([1, 3], [1, 2])
    assert dataset.train.frame.tolist() == [16450, 16460]
    assert (dataset.query.cam.tolist(), dataset.gallery.cam.tolist()) == ([2], [2, 3])
    monkeypatch.setattr(veri, "PUBLISHED", Published("VeRi-776", 2, 1, 2))
    assert read(tmp_path).title == "veri776"


@pytest.fixture
def vehicleid(tmp_path, make_images):
    root = make_images(tmp_path / "VehicleID_V1.0", [f"image/{number:07d}.jpg" for number in range(1, 9)])
    lists = {"train_list": (1, 2, 3), "test_list_800": (4, 5, 6, 7, 8)}
    (root / "train_test_split").mkdir()
    for name, numbers in lists.items():
        lines = [f"{number:07d} {number // 2 + 10}" for number in numbers]
        (root / f"train_test_split/{name}.txt").write_text("\n".join(lines) + "\n")
    return root


def test_vehicleid(vehicleid):
    dataset = read(vehicleid)
    assert dataset.layout.title == "VehicleID"
    assert dataset.train.pid.tolist() == [10, 11, 11]
    assert sorted(dataset.gallery.pid.tolist()) == [12, 13, 14]
    assert sorted([*names_of(dataset.query), *names_of(dataset.gallery)]) == [f"{number:07d}" for number in range(4, 9)]
    assert set(dataset.query.cam.tolist()) == {-1}
    assert names_of(read(vehicleid).gallery) == names_of(dataset.gallery)
    drawings = {tuple(names_of(read(vehicleid, "vehicleid", draw=draw).gallery)) for draw in range(8)}
    assert len(drawings) > 1
    assert any("published scores are means over ten random drawings" in note for note in dataset.notes)


def test_all_test_images_of_vehicleid_are_drawn_from_on_request(vehicleid):
    dataset = read(vehicleid, "vehicleid", draw=None)
    assert names_of(dataset.query) == names_of(dataset.gallery) == [f"{number:07d}" for number in range(4, 9)]
    assert not any("Listed more than once" in note for note in dataset.notes)
    table = label_vectors(np.eye(10, dtype=np.float32), dataset, feature="")
    scores = evaluate(table, gallery_draws=1)
    assert (scores.valid.sum(), scores.protocol.cameras) == (2, "ignore")


@pytest.mark.parametrize(
    ("line", "sentence"),
    [("0000001", "is not like '0000001 12345'"), ("0000099 7", "there is no image 0000099 in"), ("1 x", "is not like")],
)
def test_a_bad_line_of_vehicleid_is_named(vehicleid, line, sentence):
    with (vehicleid / "train_test_split/train_list.txt").open("a") as file:
        file.write(line)
    with pytest.raises(UserError, match=f"train_list.txt, line 4: .*{sentence}"):
        read(vehicleid)
    (vehicleid / "train_test_split/train_list.txt").write_text("")
    with pytest.raises(UserError, match=r"^vehicleid: there is no .*test_list_1600.txt, which comes with the images$"):
        read(vehicleid, "vehicleid", test=1600)


def mars_lists(root, *, query):
    tests = sorted(path.name for path in (root / "bbox_test").rglob("*.jpg"))
    (root / "info").mkdir()
    (root / "info/test_name.txt").write_text("\n".join(tests))
    starts = sorted({name[:11] for name in tests})
    spans = [[1 + number for number, name in enumerate(tests) if name[:11] == start] for start in starts]
    rows = [[span[0], span[-1], 0, 1] for span in spans]
    savemat(root / "info/tracks_test_info.mat", {"track_test_info": np.array(rows)})
    savemat(root / "info/query_IDX.mat", {"query_IDX": np.array([[1 + starts.index(query)]])})


def test_mars_with_lists(tmp_path, make_images):
    mars_lists(make_images(tmp_path / "MARS", MARS), query="0002C1T0001")
    dataset = read(tmp_path)
    assert dataset.layout.title == "MARS"
    assert (dataset.train.pid.tolist(), dataset.train.cam.tolist()) == ([1, 1, 3], [1, 2, 1])
    assert names_of(dataset.query) == ["0002C1T0001F001"]
    assert names_of(dataset.gallery) == ["0000C1T0001F001", "0002C3T0001F001", "0002C3T0001F002"]
    assert any(
        "1 query tracklets of" in note
        and "query tracklet is searched among single images, so its scores do not" in note
        for note in dataset.notes
    )
    assert "Junk images (identity -1) left out: 1." in dataset.notes
    assert any("set query: all and test.unit: tracklet" in note for note in dataset.notes)


@pytest.mark.parametrize("listed", [True, False])
def test_tracklets_of_mars_are_whole_on_request(tmp_path, make_images, listed):
    root = make_images(tmp_path / "MARS", [*MARS, "bbox_test/0002/0002C1T0001F003.jpg"])
    if listed:
        mars_lists(root, query="0002C1T0001")
    dataset = read(tmp_path, "mars", query="all")
    asking = [f"0002C1T0001F00{number}" for number in (1, 2, 3)]
    asking = asking if listed else [*asking, "0002C3T0001F001", "0002C3T0001F002"]
    assert names_of(dataset.query) == asking
    assert not set(asking) & set(names_of(dataset.gallery))
    assert len(set(dataset.query.tracklet.tolist())) == (1 if listed else 2)
    assert any("the means of tracklets are compared, as published" in note for note in dataset.notes)


def test_mars_without_lists(tmp_path, make_images):
    make_images(tmp_path / "MARS", MARS)
    dataset = read(tmp_path)
    assert names_of(dataset.query) == ["0002C1T0001F001", "0002C3T0001F001"]
    assert names_of(dataset.gallery) == ["0000C1T0001F001", "0002C1T0001F002", "0002C3T0001F002"]


def test_broken_lists_of_mars_are_told(tmp_path, make_images):
    root = make_images(tmp_path / "MARS", MARS)
    mars_lists(root, query="0002C1T0001")
    savemat(root / "info/query_IDX.mat", {"query_IDX": np.array([[99]])})
    with pytest.raises(UserError, match=r"^mars: the lists in .*info do not fit one another$"):
        read(root)
    (root / "info/query_IDX.mat").write_text("nothing")
    with pytest.raises(UserError, match=r"query_IDX.mat does not hold the matrix query_IDX$"):
        read(root)
    (root / "info/tracks_test_info.mat").unlink()
    with pytest.raises(UserError, match=r"^mars: there is no .*tracks_test_info.mat, which comes with"):
        read(root)
