"""Tracklets: columns that fit one another, rows selected with their crops, files that survive the disk."""

from dataclasses import replace

import numpy as np
import pytest

from passerby.errors import UserError
from passerby.types import TRACKLETS_FILE, Tracklets

COUNTS = (2, 0, 3)


def unit(count, dimension=4, seed=0):
    vectors = np.random.default_rng(seed).normal(size=(count, dimension))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def tracklets(**columns):
    standard = {
        "vectors": unit(3),
        "camera": ["door", "door", "hall"],
        "name": ["a.mp4/1", "a.mp4/2", "b/x/1"],
        "first": [0.0, 1.5, np.nan],
        "last": [2.0, 1.5, np.nan],
        "has_clock": [True, True, False],
        "pid": [7, -1, 7],
        "crop_start": [0, 2, 2, 5],
        "crop_path": [f"crops/{i}.jpg" for i in range(5)],
        "crop_time": [0.0, 2.0, np.nan, np.nan, np.nan],
        "crop_vectors": unit(5, seed=1),
        "dataset": "site",
        "model": "osnet 0123",
    }
    return Tracklets(**standard | columns)


def equal(left, right):
    for name in vars(left):
        np.testing.assert_array_equal(getattr(left, name), getattr(right, name), err_msg=name)
    return True


def test_columns_have_one_type_and_rows_know_their_crops():
    table = tracklets()
    assert len(table) == 3
    assert table.vectors.dtype == table.crop_vectors.dtype == np.float32
    assert table.crop_row.tolist() == [0, 0, 2, 2, 2]
    assert table.crops(2) == slice(2, 5)
    assert table.clip.tolist() == ["a.mp4", "a.mp4", "b/x"]


@pytest.mark.parametrize("rows", [[2, 0], [1], [], [0, 0, 2]])
def test_selected_rows_take_their_crops_along(rows):
    table = tracklets()
    chosen = table.select(np.array(rows, dtype=np.int64))
    assert chosen.name.tolist() == [table.name[row] for row in rows]
    expected = [path for row in rows for path in table.crop_path[table.crops(row)]]
    assert chosen.crop_path.tolist() == expected
    assert np.diff(chosen.crop_start).tolist() == [COUNTS[row] for row in rows]


def test_a_mask_selects_as_indices_do():
    table = tracklets()
    assert equal(table.select(table.camera == "hall"), table.select(np.array([2])))


def test_the_disk_returns_what_was_written_and_paths_move_with_the_folder(tmp_path):
    table = tracklets(crop_path=[*(str(tmp_path / "old" / "crops" / f"{i}.jpg") for i in range(3)), "", "/other/a.jpg"])
    table.save(tmp_path / "old" / TRACKLETS_FILE)
    assert equal(Tracklets.load(tmp_path / "old" / TRACKLETS_FILE), table)
    (tmp_path / "old").rename(tmp_path / "new")
    moved = Tracklets.load(tmp_path / "new")
    assert moved.crop_path.tolist() == [
        *(str(tmp_path / "new" / "crops" / f"{i}.jpg") for i in range(3)), "", "/other/a.jpg",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("columns", "sentence"),
    [
        ({"vectors": 2 * unit(3)}, "3 of 3 'vectors' are not of length 1"),
        ({"crop_vectors": np.full((5, 4), np.nan, np.float32)}, "5 of 5 'crop_vectors' are not of length 1"),
        ({"vectors": unit(3)[0]}, r"'vectors' must be a float array of shape \(N, D\)"),
        ({"vectors": unit(3, 5)}, "'vectors' have 5 dimensions, 'crop_vectors' 4"),
        ({"camera": ["door"]}, r"column 'camera' has shape \(1,\), expected \(3,\)"),
        ({"crop_time": [0.0]}, "column 'crop_time' has shape"),
        ({"crop_start": [0, 2, 2]}, r"'crop_start' has shape \(3,\), expected \(4,\)"),
        ({"crop_start": [0, 3, 2, 5]}, r"'crop_start' must ascend from 0 to the number of crops \(5\)"),
        ({"crop_start": [0, 2, 2, 4]}, "'crop_start' must ascend"),
        ({"last": [-1.0, 1.5, np.nan]}, "1 of 3 tracklets end before they begin"),
        ({"first": [0.0, np.nan, np.nan]}, "must both be seconds, or both NaN"),
        ({"last": [np.inf, 1.5, np.nan]}, "must both be seconds"),
        ({"has_clock": [True, True, True]}, "cannot have a clock"),
        ({"pid": [0.5, 1.0, 2.0]}, "'pid' must hold whole numbers"),
    ],
)
def test_columns_that_do_not_fit_are_refused(columns, sentence):
    with pytest.raises(UserError, match=sentence):
        tracklets(**columns)


def test_joined_tables_keep_rows_and_crops():
    table = tracklets()
    parts = [table.select(np.array([0, 1])), table.select(np.array([2]))]
    assert equal(Tracklets.join(parts), table)
    assert Tracklets.join([parts[0], replace(parts[1], dataset="other")]).dataset == ""


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"model": "other 99"}, "different models, whose vectors do not compare: osnet 0123, other 99"),
        ({"vectors": unit(3, 5), "crop_vectors": unit(5, 5)}, "different lengths: 4, 5"),
        ({}, "camera 'door' has 2 tracklets 'a.mp4/1'; is one folder named twice"),
    ],
)
def test_tables_that_do_not_fit_are_not_joined(change, sentence):
    with pytest.raises(UserError, match=sentence):
        Tracklets.join([tracklets(), tracklets(**change)])


def test_no_tables_are_not_joined():
    with pytest.raises(UserError, match="no tracklets to join"):
        Tracklets.join([])


@pytest.mark.parametrize(
    ("content", "sentence"), [(None, "no tracklets file"), (b"text", "is no .npz file, as `passerby tracklets`")]
)
def test_other_files_are_refused(tmp_path, content, sentence):
    if content is not None:
        (tmp_path / TRACKLETS_FILE).write_bytes(content)
    with pytest.raises(UserError, match=sentence):
        Tracklets.load(tmp_path)


def test_a_file_without_a_column_or_with_code_is_refused(tmp_path):
    np.savez(tmp_path / "few.npz", vectors=unit(3))
    with pytest.raises(UserError, match=r"few.npz lacks crop_vectors, crop_start, camera.*it holds vectors"):
        Tracklets.load(tmp_path / "few.npz")
    columns = {name: getattr(tracklets(), name) for name in vars(tracklets())}
    np.savez(tmp_path / "code.npz", **columns | {"name": np.array(["a", "b", None], dtype=object)})
    with pytest.raises(UserError, match=r"code.npz"):
        Tracklets.load(tmp_path / "code.npz")
