import pytest

from passerby.data.readers.auto import Auto, recognise
from passerby.data.readers.cuhk03 import CUHK03
from passerby.data.readers.duke import DukeMTMC
from passerby.data.readers.folder import Folder
from passerby.data.readers.market import Market1501
from passerby.data.readers.msmt import LISTS, MSMT17
from passerby.data.readers.table import Csv
from passerby.errors import UserError

THREE = ("bounding_box_train", "query", "bounding_box_test")
LAYOUTS = {
    Market1501: [f"{inner}/0002_c1s1_000451_03.jpg" for inner in THREE],
    DukeMTMC: [f"{inner}/0005_c2_f0046985.jpg" for inner in THREE],
    CUHK03: [f"detected/{inner}/0003_c1_21.png" for inner in THREE],
    Folder: ["train/0001_c1.jpg", "gallery/0002_c1.jpg"],
    MSMT17: ["train/0000/0000_000_01_x_1.jpg", "test/0000/0000_000_01_x_1.jpg"],
}


def make(root, files, make_images, *, lists=False):
    make_images(root, files)
    for name in LISTS if lists else ():
        (root / name).touch()


@pytest.mark.parametrize("kind", LAYOUTS)
def test_layouts_are_recognised_here_and_one_level_below(tmp_path, make_images, kind):
    make(tmp_path / "set", LAYOUTS[kind], make_images, lists=kind is MSMT17)
    (tmp_path / "masks").mkdir()
    (tmp_path / "notes").mkdir()
    found = kind(root=str(tmp_path / "set"))
    assert recognise(Auto(root=str(tmp_path / "set"))) == found
    assert recognise(Auto(root=str(tmp_path))) == found


def test_only_labelled_boxes(tmp_path, make_images):
    make_images(tmp_path, [f"labeled/{inner}/0003_c1_21.png" for inner in THREE])
    assert recognise(Auto(root=str(tmp_path))) == CUHK03(root=str(tmp_path), boxes="labelled")


def test_market_folders_with_other_names_are_a_folder(tmp_path, make_images):
    make_images(tmp_path, [f"{inner}/0003_c1_x.png" for inner in THREE])
    assert recognise(Auto(root=str(tmp_path))) == Folder(root=str(tmp_path))


@pytest.mark.parametrize("name", ["anna/1.jpg", "0001_c1.jpg"])
def test_images_without_a_division_are_a_folder(tmp_path, make_images, name):
    make_images(tmp_path, [name])
    assert recognise(Auto(root=str(tmp_path))) == Folder(root=str(tmp_path))


def test_a_table_is_known_by_its_ending():
    assert recognise(Auto(root="x/list.CSV")) == Csv(path="x/list.CSV")


def test_two_sets_are_not_guessed_between(tmp_path, make_images):
    make_images(tmp_path / "a", LAYOUTS[Market1501])
    make_images(tmp_path / "b", LAYOUTS[DukeMTMC])
    with pytest.raises(UserError) as caught:
        recognise(Auto(root=str(tmp_path)))
    assert str(caught.value) == (
        f"auto: several data sets lie in {tmp_path}: a (market1501), b (dukemtmc); give one of them as root"
    )


def test_nothing_known(tmp_path):
    looked = (
        "looked for Market-1501 or DukeMTMC-reID (bounding_box_train, query, bounding_box_test), MSMT17 (list_train.txt"
    )
    with pytest.raises(UserError) as caught:
        recognise(Auto(root=str(tmp_path)))
    assert str(caught.value).startswith(f"auto: nothing known in {tmp_path}; {looked}")
    with pytest.raises(UserError, match=r"^auto: .*gone does not exist; expected one of Market-1501"):
        recognise(Auto(root=str(tmp_path / "gone")))
