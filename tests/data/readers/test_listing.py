from pathlib import Path

import pytest

from passerby.data.image_files import folder_names, image_names
from passerby.data.readers.listing import Shot, find_masks, locate, some, split_of
from passerby.errors import UserError


def test_only_visible_images_are_listed_sorted(tmp_path, make_images):
    make_images(tmp_path, ["b.JPG", "a.png", "c.webp", "d.bmp", "e.jpeg", ".hidden.jpg"])
    for other in ("Thumbs.db", "readme.txt", "f.jpg.part"):
        (tmp_path / other).touch()
    (tmp_path / "folder.jpg").mkdir()
    assert image_names(tmp_path) == ["a.png", "b.JPG", "c.webp", "d.bmp", "e.jpeg"]


def test_masks_and_hidden_folders_are_not_listed(tmp_path):
    for name in ("b", "a", "masks", ".git"):
        (tmp_path / name).mkdir()
    assert folder_names(tmp_path) == ["a", "b"]


def test_an_unreadable_folder_is_named(tmp_path):
    with pytest.raises(UserError, match=r"cannot read the folder .*gone: no such file or directory"):
        image_names(tmp_path / "gone")


def place(root: Path) -> Path:
    return locate(str(root), kind="thing", holds=lambda folder: (folder / "x").is_dir(), expected="a folder x")


def test_locate_looks_here_and_one_level_below(tmp_path):
    (tmp_path / "inner" / "x").mkdir(parents=True)
    assert place(tmp_path / "inner") == tmp_path / "inner"
    assert place(tmp_path) == tmp_path / "inner"


def test_locate_says_what_was_expected_where(tmp_path):
    with pytest.raises(UserError, match=r"^thing: .*gone does not exist; expected a folder x there$"):
        place(tmp_path / "gone")
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"^thing: .*file is a file, not a folder; expected a folder x there$"):
        place(tmp_path / "file")
    with pytest.raises(UserError, match=r"^thing: expected a folder x in .* or one level below, found no folder$"):
        place(tmp_path)
    for name in "abcdefg":
        (tmp_path / name).mkdir()
    with pytest.raises(UserError, match=r"found a, b, c, d, e and 2 more$"):
        place(tmp_path)
    for name in "ab":
        (tmp_path / name / "x").mkdir()
    with pytest.raises(UserError, match=r"^thing: .* holds several such folders \(a, b\); give one of them as root$"):
        place(tmp_path)


def test_locate_expands_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "x").mkdir()
    assert place(Path("~")) == tmp_path


@pytest.mark.parametrize("masks", ["site/set/masks", "site/masks/set"])
def test_masks_are_found_inside_and_beside(tmp_path, make_images, masks):
    folder = make_images(tmp_path / "site/set", ["train/a.jpg", "train/b.jpg", "c.jpg"])
    make_images(tmp_path / masks, ["train/a.png", "c.png"])
    found = find_masks(["train/a.jpg", "train/b.jpg", "c.jpg"], folder)
    assert found == [f"{tmp_path}/{masks}/train/a.png", "", f"{tmp_path}/{masks}/c.png"]


def test_masks_are_found_for_a_relative_root(tmp_path, make_images, monkeypatch):
    make_images(tmp_path / "set", ["a.jpg"])
    make_images(tmp_path / "masks/set", ["a.png"])
    monkeypatch.chdir(tmp_path / "set")
    assert find_masks(["a.jpg"], Path()) == [f"{tmp_path}/masks/set/a.png"]


@pytest.mark.parametrize("place", ["made", "made/set"])
def test_masks_are_found_where_told_and_only_there(tmp_path, make_images, place):
    folder = make_images(tmp_path / "set", ["train/a.jpg", "b.jpg", "masks/b.png"])
    make_images(tmp_path / place, ["train/a.png"])
    found = find_masks(["train/a.jpg", "b.jpg"], folder, masks=str(tmp_path / "made"))
    assert found == [f"{tmp_path}/{place}/train/a.png", ""]


def test_a_folder_of_masks_that_is_not_there_is_told(tmp_path):
    with pytest.raises(UserError, match=r"masks: .*nowhere does not exist; expected one \.png for each image"):
        find_masks(["a.jpg"], tmp_path, masks=str(tmp_path / "nowhere"))


def test_split_columns(tmp_path):
    split = split_of([Shot("a/x.jpg", 3, 1, 7), Shot("a/y.jpg", 4, 2, 8)], tmp_path)
    assert split.path.tolist() == [f"{tmp_path}/a/x.jpg", f"{tmp_path}/a/y.jpg"]
    assert (split.pid.tolist(), split.cam.tolist(), split.frame.tolist()) == ([3, 4], [1, 2], [7, 8])
    assert split.mask_path is None


def test_frames_are_all_or_none(tmp_path):
    assert split_of([Shot("x.jpg", 3, 1, 7), Shot("y.jpg", 4, 2)], tmp_path).frame is None
    assert split_of([], tmp_path).frame is None


def test_some_names_few():
    assert some([], "nothing") == "nothing"
    assert some(list("abcde"), "nothing") == "a, b, c, d, e"
