"""Copies of files between data sets are found by looking into few of them."""

import shutil

import pytest

from passerby.data import duplicates
from passerby.data.duplicates import by_size, shared_file


def write(folder, contents):
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    return by_size(str(path) for path in sorted(folder.iterdir()))


def test_a_copy_under_other_names_is_found_by_its_content(tmp_path):
    one = write(tmp_path / "one", {f"a{n}": b"x" * (n + 1) for n in range(5)})
    other = write(tmp_path / "two", {"b": b"xxx", "c": b"y" * 9})
    assert shared_file(one, other) == (str(tmp_path / "one" / "a2"), str(tmp_path / "two" / "b"))
    assert shared_file(other, one) == (str(tmp_path / "two" / "b"), str(tmp_path / "one" / "a2"))


def test_files_of_one_size_and_other_content_are_no_copies(tmp_path):
    one = write(tmp_path / "one", {f"a{n}": bytes([n]) * 9 for n in range(5)})
    other = write(tmp_path / "two", {f"a{n}": bytes([n + 5]) * 9 for n in range(5)})
    assert shared_file(one, other) is None


def test_empty_and_missing_files_are_nobodys_copies(tmp_path):
    one, other = (write(tmp_path / name, {"a": b""}) for name in ("one", "two"))
    assert one == other == by_size([str(tmp_path / "nowhere")]) == {}
    assert shared_file(one, other) is None


def test_a_whole_copy_of_bitmaps_is_found_by_names_in_another_layout(tmp_path):
    one = write(tmp_path / "one", {f"{n:04}": n.to_bytes(4, "big") for n in range(900)})
    shutil.copytree(tmp_path / "one", tmp_path / "two" / "inner")
    other = by_size(str(path) for path in sorted((tmp_path / "two" / "inner").iterdir()))
    assert shared_file(one, other) is not None


@pytest.mark.parametrize("size", [3, 4])
def test_few_files_are_read(tmp_path, monkeypatch, size):
    one = write(tmp_path / "one", {f"a{n:04}": n.to_bytes(size, "big") for n in range(900)})
    other = write(tmp_path / "two", {f"b{n:04}": (n + 900).to_bytes(size, "big") for n in range(900)})
    read = []
    monkeypatch.setattr(duplicates, "_digest", lambda path: read.append(path) or path.encode())
    assert shared_file(one, other) is None
    assert 0 < len(read) <= 2 * duplicates.SAMPLE
