"""Files that are listed more than once are counted in one sentence, whatever reads the data set."""

import os

import pytest

from passerby.data.datasets import dataset_settings, open_dataset
from passerby.data.repeated import repeated_files, repeated_note

SENTENCE = "Listed more than once, by the same name, another name or a link: "


def notes_on(kind, place):
    notes = open_dataset(dataset_settings(kind, str(place)), "x").notes
    return [note for note in notes if note.startswith(SENTENCE)]


def test_names_links_and_hard_links_of_one_file(tmp_path, make_images):
    make_images(tmp_path, ["a.jpg", "c.jpg", "deep/f.jpg"])
    (tmp_path / "b.jpg").symlink_to(tmp_path / "a.jpg")
    os.link(tmp_path / "c.jpg", tmp_path / "d.jpg")
    (tmp_path / "linked").symlink_to(tmp_path / "deep")
    names = [str(tmp_path / name) for name in ("a.jpg", "b.jpg", "c.jpg", "d.jpg", "deep/f.jpg", "linked/f.jpg")]
    assert repeated_files(names) == [(names[0], names[1]), (names[2], names[3]), (names[4], names[5])]
    assert repeated_note(names) == (f"{SENTENCE}3 (b.jpg = a.jpg).",)
    assert repeated_note(names[4:]) == (f"{SENTENCE}1 (linked/f.jpg = deep/f.jpg).",)


def test_copies_broken_links_and_missing_files_are_none(tmp_path, make_images):
    make_images(tmp_path, ["a.jpg"])
    (tmp_path / "b.jpg").write_bytes((tmp_path / "a.jpg").read_bytes())
    (tmp_path / "c.jpg").symlink_to(tmp_path / "gone.jpg")
    names = [str(tmp_path / name) for name in ("a.jpg", "b.jpg", "c.jpg", "c.jpg", "d.jpg", "d.jpg", "no/e.jpg")]
    assert repeated_note(names) == ()


def test_one_name_twice_and_relative_names(tmp_path, make_images, monkeypatch):
    make_images(tmp_path, ["a.jpg"])
    monkeypatch.chdir(tmp_path)
    assert repeated_note(["a.jpg", "a.jpg"]) == (f"{SENTENCE}1 (a.jpg twice).",)
    assert repeated_files(["a.jpg", "./a.jpg", str(tmp_path / "a.jpg")]) == [
        ("a.jpg", "./a.jpg"),
        ("a.jpg", str(tmp_path / "a.jpg")),
    ]


def test_every_reader_reports_them(tmp_path, make_images):
    names = [f"{p:04}_c{c}s1_000001_01.jpg" for p in (1, 2) for c in (1, 2)]
    folders = ("bounding_box_train", "query", "bounding_box_test")
    make_images(tmp_path / "market", [f"{folder}/{name}" for folder in folders for name in names])
    assert notes_on("market1501", tmp_path / "market") == []
    query = tmp_path / "market" / "query" / names[0]
    query.unlink()
    query.symlink_to(tmp_path / "market" / "bounding_box_test" / names[0])
    for kind in ("market1501", "auto"):
        (note,) = notes_on(kind, tmp_path / "market")
        assert note.startswith(f"{SENTENCE}1 (")
        assert f"query/{names[0]}" in note


@pytest.mark.parametrize("line", ["a.jpg,1", "./a.jpg,2"])
def test_a_table_reports_them(tmp_path, make_images, line):
    make_images(tmp_path, ["a.jpg", "b.jpg"])
    (tmp_path / "people.csv").write_text(f"path,pid\na.jpg,1\nb.jpg,2\n{line}\n")
    assert len(notes_on("csv", tmp_path / "people.csv")) == 1


def test_a_folder_reports_them_once(tmp_path, make_images):
    make_images(tmp_path, ["ann/c1.jpg", "ann/c2.jpg", "bob/c1.jpg", "bob/c2.jpg"])
    (tmp_path / "bob/c3.jpg").symlink_to(tmp_path / "ann/c1.jpg")
    assert len(notes_on("folder", tmp_path)) == 1
    assert len(notes_on("images", tmp_path)) == 1
