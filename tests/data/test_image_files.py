"""One listing of image files: hidden files and masks left out, links followed, real folders once, counts by reason."""

import pytest
from PIL import Image

from passerby.data.datasets import dataset_settings, open_dataset
from passerby.data.image_files import image_names, images_below, listing_notes, readable_endings
from passerby.errors import UserError

MARKET = ["bounding_box_train/0001_c1s1_000001_01.jpg", "query/0002_c1s1_000001_01.jpg"]


def listed(folder):
    with listing_notes() as notes:
        return images_below(folder), notes.sentences


def test_hidden_files_and_masks_are_left_out_and_counted(tmp_path, make_images):
    make_images(tmp_path, ["a.jpg", "b/c.png", "masks/a.png", "b/masks/c.png", ".cache/d.jpg", "b/._c.png"])
    names, notes = listed(tmp_path)
    assert names == ["a.jpg", "b/c.png"]
    (note,) = notes
    assert note.startswith("Left out: 2 hidden files or folders (")
    assert "2 folders of masks (" in note


@pytest.mark.parametrize("ending", ["tif", "GIF", "jp2", "ppm", "webp", "bmp", "avif", "jfif"])
def test_what_pillow_reads_is_an_image(tmp_path, make_images, ending):
    assert f".{ending.lower()}" in readable_endings()
    make_images(tmp_path, [f"a.{ending}"])
    assert listed(tmp_path) == ([f"a.{ending}"], ())
    assert image_names(tmp_path) == [f"a.{ending}"]


def test_other_kinds_are_counted_by_ending(tmp_path, make_images):
    make_images(tmp_path, ["a.jpg", "b.raw", "c.raw", "d.txt", "notes"])
    assert listed(tmp_path)[1] == ("Left out: 4 files that are no images (2 .raw, 1 .txt, 1 notes).",)


def test_links_are_followed_and_each_real_folder_is_listed_once(tmp_path, make_images):
    make_images(tmp_path / "disk", ["x.jpg", "deep/y.jpg"])
    make_images(tmp_path / "set", ["z/own.jpg"])
    (tmp_path / "set/a").symlink_to(tmp_path / "disk")
    (tmp_path / "set/b").symlink_to(tmp_path / "disk/deep")
    (tmp_path / "set/a_z").symlink_to(tmp_path / "set/z")
    (tmp_path / "set/z/parent").symlink_to(tmp_path / "set")
    names, notes = listed(tmp_path / "set")
    assert names == ["a/deep/y.jpg", "a/x.jpg", "z/own.jpg"]
    assert notes[0].startswith("Left out: 3 further links to folders (")


def test_broken_links_are_left_out_and_other_links_are_listed(tmp_path, make_images):
    make_images(tmp_path, ["a.jpg", "c.jpg"])
    (tmp_path / "b.jpg").symlink_to(tmp_path / "a.jpg")
    (tmp_path / "e.jpg").symlink_to(tmp_path / "gone.jpg")
    names, notes = listed(tmp_path)
    assert names == ["a.jpg", "b.jpg", "c.jpg"]
    assert notes == (f"Left out: 1 broken link ({tmp_path}/e.jpg).",)


def test_names_that_are_not_utf_8_are_left_out_in_printable_words(tmp_path, make_images):
    make_images(tmp_path, ["a.jpg", "J\udcf6rg.jpg", "M\udcfcller/b.jpg"])
    names, (note,) = listed(tmp_path)
    assert names == ["a.jpg"]
    assert "2 names that are not UTF-8 (" in note
    assert r"J\xf6rg.jpg" in note
    note.encode()


def test_a_root_that_is_not_utf_8_is_refused(tmp_path, make_images):
    make_images(tmp_path / "J\udcf6rg", ["a.jpg"])
    with pytest.raises(UserError, match=r"the name .*J\\xf6rg is not UTF-8; rename it"):
        open_dataset(dataset_settings("images", str(tmp_path / "J\udcf6rg")), "x")


@pytest.mark.parametrize("kind", ["images", "folder", "auto"])
def test_notes_of_a_data_set_say_what_is_left_out(tmp_path, make_images, kind):
    make_images(tmp_path, ["ann/c1.jpg", "ann/c2.jpg", "ann/c3.raw", "bob/c1.jpg", "bob/c2.jpg", "eve/c1.raw"])
    notes = open_dataset(dataset_settings(kind, str(tmp_path)), "x").notes
    assert "Left out: 2 files that are no images (2 .raw)." in notes


def test_no_image_is_explained(tmp_path, make_images):
    make_images(tmp_path, ["ann/1.raw", "ann/2.raw"])
    with pytest.raises(UserError, match=r"no image in .*; left out: 2 files that are no images \(2 \.raw\)$"):
        open_dataset(dataset_settings("images", str(tmp_path)), "x")


# ---- the two ways of writing an accent

NFC, NFD = "Jos\u00e9", "Jose\u0301"


def test_one_identity_in_both_forms_is_one_person(tmp_path, make_images):
    make_images(tmp_path, [f"train/{NFC}/c1.jpg", f"train/{NFD}/c2.jpg", "train/ann/c1.jpg", f"query/{NFC}/c1.jpg"])
    make_images(tmp_path, [f"gallery/{NFD}/c2.jpg"])
    dataset = open_dataset(dataset_settings("folder", str(tmp_path)), "x")
    assert dataset.train.count_identities == 2
    assert dataset.query.pid.tolist() == dataset.gallery.pid.tolist()


@pytest.mark.parametrize(("disk", "table"), [(NFC, NFD), (NFD, NFC)])
def test_files_are_found_by_either_form(tmp_path, make_images, disk, table):
    make_images(tmp_path / disk, [f"{disk}/{disk}_c1.png", f"{disk}/2.png"])
    (tmp_path / disk / "people.csv").write_text(f"path,pid\n{table}/{table}_c1.png,{disk}\n{disk}/2.png,{table}\n")
    dataset = open_dataset(dataset_settings("csv", str(tmp_path / table / "people.csv")), "x")
    paths = [path for split in (dataset.train, dataset.query, dataset.gallery) for path in split.path.tolist()]
    assert sorted(paths) == sorted(str(path) for path in (tmp_path / disk / disk).iterdir())
    assert len(images_below(tmp_path / disk)) == 2
    assert len(open_dataset(dataset_settings("images", str(tmp_path / table)), "x").train) == 2


@pytest.mark.parametrize(("image", "mask"), [(NFC, NFD), (NFD, NFC)])
def test_masks_are_found_by_either_form(tmp_path, make_images, image, mask):
    make_images(tmp_path, [f"{image}/{image}.jpg", f"masks/{mask}/{mask}.png"])
    dataset = open_dataset(dataset_settings("images", str(tmp_path)), "x")
    assert dataset.train.masks.tolist() == [f"{tmp_path}/masks/{mask}/{mask}.png"]
    Image.new("1", (2, 2)).save(dataset.train.masks[0])
