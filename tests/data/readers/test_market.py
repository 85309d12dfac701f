import pytest

from passerby.data.readers import layout, market
from passerby.data.readers.layout import Published
from passerby.data.readers.market import Market1501, read_market1501
from passerby.errors import UserError

FILES = [
    "bounding_box_train/0002_c1s1_000451_03.jpg",
    "bounding_box_train/0002_c3s2_000551_01.jpg",
    "bounding_box_train/0007_c6s4_001377_02.jpg",
    "query/0001_c1s1_001051_00.jpg",
    "bounding_box_test/-1_c1s1_000401_03.jpg",
    "bounding_box_test/0000_c2s1_000151_01.jpg",
    "bounding_box_test/0001_c2s1_002051_00.jpg",
    "bounding_box_test/1501_c10s1_002051_00.jpg.jpg",
]


@pytest.fixture
def site(tmp_path, make_images):
    root = make_images(tmp_path / "Market-1501-v15.09.15", FILES)
    (root / "bounding_box_test/Thumbs.db").touch()
    (root / "readme.txt").touch()
    return tmp_path


def test_reads_names(site):
    dataset = read_market1501(Market1501(root=str(site)), "plaza")
    assert dataset.name == "plaza"
    assert dataset.train.pid.tolist() == [2, 2, 7]
    assert dataset.train.cam.tolist() == [1, 3, 6]
    assert dataset.train.frame.tolist() == [451, 551, 1377]
    assert dataset.train.path.tolist() == [f"{site}/Market-1501-v15.09.15/{name}" for name in FILES[:3]]
    assert dataset.query.pid.tolist() == [1]


def test_junk_is_dropped_and_distractors_stay_in_the_gallery(site):
    dataset = read_market1501(Market1501(root=str(site)), "m")
    assert dataset.gallery.pid.tolist() == [0, 1, 1501]
    assert dataset.gallery.cam.tolist() == [2, 2, 10]
    assert dataset.notes[0] == "Junk images (identity -1) left out: 1."


def test_distractors_do_not_train(site, make_images):
    make_images(site / "Market-1501-v15.09.15", ["bounding_box_train/0000_c1s1_000451_03.jpg"])
    dataset = read_market1501(Market1501(root=str(site)), "m")
    assert dataset.train.pid.tolist() == [2, 2, 7]
    assert (
        "Images of identity 0 left out of training, because this naming marks distractors with 0: 1." in dataset.notes
    )


def test_other_counts_are_noted(site, monkeypatch):
    folder = str(site / "Market-1501-v15.09.15")
    assert read_market1501(Market1501(root=folder), "m").notes[-1] == (
        "Market-1501-v15.09.15 has 3/1/3 images (train/query/gallery), not the 12,936/3,368/15,913 of Market-1501 as "
        "published; its scores do not compare with published ones."
    )
    monkeypatch.setattr(market, "PUBLISHED", Published("tiny", 3, 1, 3))
    assert len(read_market1501(Market1501(root=folder), "m").notes) == 1


def test_masks_beside_the_set(site, make_images):
    make_images(site / "masks/Market-1501-v15.09.15", ["bounding_box_train/0002_c1s1_000451_03.png"])
    dataset = read_market1501(Market1501(root=str(site)), "m")
    mask = f"{site}/masks/Market-1501-v15.09.15/bounding_box_train/0002_c1s1_000451_03.png"
    assert dataset.train.mask_path.tolist() == [mask, "", ""]
    assert dataset.query.mask_path is None


def test_missing_folders(tmp_path):
    (tmp_path / "query").mkdir()
    with pytest.raises(UserError) as caught:
        read_market1501(Market1501(root=str(tmp_path)), "m")
    assert str(caught.value) == (
        "market1501: expected the folders bounding_box_train, query and bounding_box_test with files like "
        f"0002_c1s1_000451_03.jpg in {tmp_path} or one level below, found query"
    )


def test_no_image(tmp_path):
    for name in ("bounding_box_train", "query", "bounding_box_test"):
        (tmp_path / name).mkdir()
    with pytest.raises(UserError, match="bounding_box_train, query and bounding_box_test, but not one image in them"):
        read_market1501(Market1501(root=str(tmp_path)), "m")


@pytest.mark.parametrize("name", ["0002_c1_f0046985.jpg", "thumb.jpg", "0002.jpg", "x0002_c1s1_000451_03.jpg"])
def test_other_names_are_refused_with_the_file(site, make_images, name):
    folder = make_images(site / "Market-1501-v15.09.15", [f"query/{name}"])
    with pytest.raises(UserError) as caught:
        read_market1501(Market1501(root=str(folder)), "m")
    assert str(caught.value) == (
        f"{folder}/query/{name} is not named like 0002_c1s1_000451_03.jpg; for other names use kind: folder"
    )


def test_other_sets_of_the_same_layout_do_not_disturb(site, make_images):
    duke = [f"{inner}/0005_c2_f0046985.jpg" for inner in (layout.TRAIN, layout.QUERY, layout.GALLERY)]
    make_images(site / "DukeMTMC-reID", duke)
    assert len(read_market1501(Market1501(root=str(site)), "m").train) == 3


def test_numbers_of_many_digits(site, make_images):
    folder = site / "Market-1501-v15.09.15"
    make_images(folder, ["query/0001_c1s1_20240131235959123450_00.jpg"])
    assert read_market1501(Market1501(root=str(site)), "m").query.frame.tolist() == [0, 1]
    name = f"{'9' * 30}_c1s1_001051_00.jpg"
    make_images(folder, [f"query/{name}"])
    with pytest.raises(
        UserError, match=rf"query/{name}: identity {'9' * 30} is too large; the largest identity number"
    ):
        read_market1501(Market1501(root=str(site)), "m")


def test_a_person_with_the_number_0_stays_in_training(tmp_path, make_images):
    names = ["bounding_box_train/0000_c1s1_000001_00.jpg", "bounding_box_train/0001_c1s1_000001_00.jpg"]
    make_images(tmp_path, [*names, "query/0002_c1s1_000001_00.jpg", "bounding_box_test/0002_c2s1_000001_00.jpg"])
    dataset = read_market1501(Market1501(root=str(tmp_path)), "mine")
    assert dataset.train.pid.tolist() == [0, 1]
    assert dataset.notes[0] == (
        "Identity 0 is taken for an identity like any other, because training or query images show it; in Market-1501 "
        "as released 0 marks distractors."
    )
