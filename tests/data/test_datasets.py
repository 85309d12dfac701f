import subprocess
import sys

import pytest
from pydantic import TypeAdapter, ValidationError

from passerby.data.datasets import (
    READERS,
    Auto,
    Csv,
    DatasetSettings,
    Folder,
    Market1501,
    dataset_settings,
    open_dataset,
)
from passerby.data.readers import market
from passerby.data.readers.layout import GALLERY, QUERY, TRAIN, Published
from passerby.errors import UserError

THREE = (TRAIN, QUERY, GALLERY)


@pytest.mark.parametrize(("kind", "reader"), READERS.items())
def test_a_kind_has_what_lists_and_errors_show(kind, reader):
    assert reader.model_fields["kind"].default == kind
    assert reader.place_key in reader.model_fields
    assert reader.summary == reader.summary.strip()
    assert not reader.is_public or ":" in reader.summary or "," in reader.summary


def test_the_withdrawn_set_is_marked_in_the_list():
    withdrawn = [kind for kind, reader in READERS.items() if "withdrawn by its authors" in reader.summary]
    assert withdrawn == ["dukemtmc"]


@pytest.mark.parametrize("kind", READERS)
def test_a_missing_folder_is_one_sentence_for_every_kind(tmp_path, kind):
    with pytest.raises(UserError, match=rf"^{kind}: .*gone.*(does not exist; expected|no such file)") as caught:
        open_dataset(dataset_settings(kind, str(tmp_path / "gone")), "x")
    assert "\n" not in str(caught.value)


def test_settings_of_a_kind_alone():
    assert dataset_settings("market1501", "data") == Market1501(root="data")
    assert dataset_settings("csv", "list.csv") == Csv(path="list.csv")
    with pytest.raises(UserError, match=r"^kind of data set 'markt1501' is not known; did you mean 'market1501'\?$"):
        dataset_settings("markt1501", "data")
    with pytest.raises(UserError, match=r"^kind of data set 'xyz' is not known; known: market1501, dukemtmc, msmt17, "):
        dataset_settings("xyz", "data")


def test_the_kind_leads_to_its_settings():
    settings = TypeAdapter(DatasetSettings)
    assert settings.validate_python({"kind": "folder", "root": "x"}) == Folder(root="x")
    with pytest.raises(ValidationError, match="does not match any of the expected tags"):
        settings.validate_python({"kind": "folders", "root": "x"})
    with pytest.raises(ValidationError, match="Extra inputs are not permitted"):
        settings.validate_python({"kind": "market1501", "root": "x", "split": "train"})


def test_auto_says_what_it_found(tmp_path, make_images):
    make_images(tmp_path / "mine", ["train/1/c1.jpg"])
    dataset = open_dataset(Auto(root=str(tmp_path)), "x")
    assert (dataset.name, len(dataset.train)) == ("x", 1)
    assert dataset.notes == (f"{tmp_path}/mine was recognised as kind folder.",)


def test_auto_reads_a_table(tmp_path):
    (tmp_path / "list.csv").write_text("path,pid,cam,role\n1.jpg,1,2,train\n")
    dataset = open_dataset(Auto(root=f"{tmp_path}/list.csv"), "x")
    assert dataset.notes == (f"{tmp_path}/list.csv was recognised as kind csv.",)


def test_reading_needs_no_torch():
    heavy = "{'torch', 'timm', 'sklearn'} & set(sys.modules)"
    code = f"import sys, passerby.data.check, passerby.data.datasets; print(sorted({heavy}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


@pytest.mark.parametrize("kind", ["auto", "folder"])
def test_masks_of_a_folder_of_their_own_reach_every_split(tmp_path, make_images, kind):
    names = ["train/1/c1", "train/1/c2", "query/2/c1", "gallery/2/c2"]
    make_images(tmp_path / "set", [f"{name}.jpg" for name in names])
    make_images(tmp_path / "made", [f"{name}.png" for name in names[1:]])
    dataset = open_dataset(dataset_settings(kind, str(tmp_path / "set"), masks=str(tmp_path / "made")), "x")
    assert dataset.train.mask_path.tolist() == ["", f"{tmp_path}/made/train/1/c2.png"]
    assert dataset.gallery.mask_path.tolist() == [f"{tmp_path}/made/gallery/2/c2.png"]
    assert dataset.notes[-1] == f"Without a mask: 1 of 4 images ({tmp_path}/set/train/1/c1.jpg)."


def test_a_folder_without_a_fitting_mask_is_told(tmp_path, make_images):
    make_images(tmp_path / "set", ["train/1/c1.jpg"])
    make_images(tmp_path / "made", ["1/c1.png"])
    with pytest.raises(UserError, match=r"made holds no mask for any of the 1 images of x; .*set/train/1/c1\.jpg"):
        open_dataset(dataset_settings("auto", str(tmp_path / "set"), masks=str(tmp_path / "made")), "x")


PATTERN = "{cam}-{pid}-*"


def test_a_pattern_reads_any_folder(tmp_path, make_images):
    make_images(tmp_path, ["train/a-anna-1.jpg", "query/a-ben-1.jpg", "gallery/b-ben-2.jpg"])
    for kind in ("auto", "folder"):
        dataset = open_dataset(dataset_settings(kind, str(tmp_path), pattern=PATTERN))
        assert (dataset.train.pid.tolist(), dataset.query.pid.tolist(), dataset.gallery.cam.tolist()) == ([0], [1], [1])
    with pytest.raises(
        UserError, match=r"^a pattern \(.*\) says how files are named in kind folder; kind market1501 is"
    ):
        dataset_settings("market1501", str(tmp_path), pattern=PATTERN)
    with pytest.raises(UserError, match=r"kind folder; a table is read without one$"):
        dataset_settings("auto", "list.csv", pattern=PATTERN)


def market_files(root, make_images):
    names = [f"{inner}/000{pid}_c{pid}s1_000451_03.jpg" for pid, inner in enumerate(THREE, start=1)]
    return make_images(root, names)


@pytest.mark.parametrize(
    ("place", "given", "name"),
    [
        ("vehicles", "vehicles", "vehicles"),
        ("plaza/Market-1501-v15.09.15", "plaza", "plaza"),
        ("plaza/Market-1501-v15.09.15", "plaza/Market-1501-v15.09.15", "plaza"),
        ("shop/images", "shop/images/../images", "shop"),
        ("shop/door", "shop", "door"),
    ],
)
def test_a_data_set_is_called_by_its_folder_with_its_layout_beside(tmp_path, make_images, place, given, name):
    market_files(tmp_path / place, make_images)
    dataset = open_dataset(Auto(root=f"{tmp_path}/{given}"))
    assert (dataset.name, dataset.title) == (name, f"{name} (Market-1501 layout)")
    assert open_dataset(Auto(root=f"{tmp_path}/{given}"), taken=[name]).name == f"{name}-2"
    assert open_dataset(Auto(root=f"{tmp_path}/{given}"), "mine").title == "mine (Market-1501 layout)"


def test_a_released_data_set_has_its_own_name(tmp_path, make_images, monkeypatch):
    monkeypatch.setattr(market, "PUBLISHED", Published("tiny", 1, 1, 1))
    market_files(tmp_path / "data/Market-1501-v15.09.15", make_images)
    dataset = open_dataset(Auto(root=str(tmp_path / "data")))
    assert (dataset.name, dataset.title) == ("market1501", "market1501")


def test_own_layouts_are_said_nowhere(tmp_path, make_images):
    make_images(tmp_path / "mine", ["1/c1.jpg", "2/c2.jpg"])
    assert open_dataset(Auto(root=str(tmp_path / "mine"))).title == "mine"
    (tmp_path / "people.csv").write_text("path,pid\n1.jpg,1\n")
    assert open_dataset(Csv(path=f"{tmp_path}/people.csv")).name == "people"
