"""Searching with a model, and comparing two images."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from passerby.commands.searching import SearchOptions, search_table, verify_images
from passerby.errors import UserError
from passerby.retrieval import query_cameras, search, search_all
from passerby.types import NO_CAMERAS, Embeddings


def test_no_distance_is_below_0(tmp_path):
    generator = np.random.default_rng(0)
    vectors = generator.normal(size=(200, 33)).astype(np.float32)
    blank = np.full(len(vectors), "")
    table = Embeddings(vectors, np.full(len(vectors), -1), np.full(len(vectors), -1), blank)
    for row in range(0, len(vectors), 10):
        looked = lambda _, row=row, **__: 3 * vectors[row : row + 1]  # noqa: E731
        model = SimpleNamespace(recipe=None, flip=False, device="cpu", cameras=NO_CAMERAS, vectors=looked)
        (first, *_) = search(model, table, tmp_path / "x.jpg", count=3)
        assert first.row == row
        assert not f"{first.distance:.4f}".startswith("-")


# ---- searching by options, on vectors that are known

NAMES = ["a_c1.jpg", "b_c2.jpg", "c_c3.jpg", "d_c2.jpg"]
ANGLES = {"a_c1": 0.0, "b_c2": 0.1, "c_c3": 0.5, "d_c2": 3.0, "new_c1": 0.0, "new_c9": 0.0, "new": 0.0}


def vectors_by_name(paths, **_):
    angles = np.array([ANGLES.get(Path(path).stem, 0.0) for path in paths])
    return np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)


MODEL = SimpleNamespace(recipe=None, flip=False, device="cpu", cameras=NO_CAMERAS, vectors=vectors_by_name)


def table_of(names=NAMES, cam=(1, 2, 3, 2)):
    unknown = np.full(len(names), -1)
    return Embeddings(vectors_by_name(names), unknown, np.array(cam), np.full(len(names), ""), np.array(names))


def found_by(options, place):
    return [[Path(one.path).stem for one in answer.hits] for answer in search_table(MODEL, table_of(), place, options)]


@pytest.fixture
def crops(tmp_path):
    folder = tmp_path / "crops"
    folder.mkdir()
    for stem in ("new_c1", "new_c9", "new"):
        (folder / f"{stem}.jpg").touch()
    return folder


def test_a_threshold_is_the_largest_distance_that_is_accepted(crops):
    near = float(search_all(MODEL, table_of(), np.array(["new_c1.jpg"]), count=4)[0][1].distance)
    assert near == pytest.approx(1 - np.cos(0.1), abs=1e-6)
    for threshold, expected in ((0.0, 1), (near, 2), (near - 1e-4, 1), (2.0, 4), (None, 4)):
        assert len(found_by(SearchOptions(threshold=threshold), crops / "new_c1.jpg")[0]) == expected
    assert len(found_by(SearchOptions(threshold=2.0, count=3), crops / "new_c1.jpg")[0]) == 3
    with pytest.raises(UserError, match="a threshold is a cosine distance from 0 to 2, got 3"):
        found_by(SearchOptions(threshold=3.0), crops / "new_c1.jpg")


def test_images_of_the_own_camera_are_left_out(crops):
    other = SearchOptions(cameras="other")
    assert found_by(other, crops / "new_c1.jpg") == [["b_c2", "c_c3", "d_c2"]]
    assert found_by(other, crops / "new_c9.jpg") == [["a_c1", "b_c2", "c_c3", "d_c2"]]  # a camera without a row
    assert found_by(replace(other, camera="2"), crops / "new.jpg") == [["a_c1", "c_c3"]]
    assert found_by(replace(other, pattern="*_c{cam}"), crops / "new_c1.jpg") == [["b_c2", "c_c3", "d_c2"]]
    assert found_by(replace(other, count=1), crops / "new_c1.jpg") == [["b_c2"]]
    with pytest.raises(UserError, match=r"unknown camera of .*new.jpg; give --camera"):
        found_by(other, crops)
    for option in ({"camera": "2"}, {"pattern": "{cam}/*"}):
        with pytest.raises(UserError, match="add --other-cameras"):
            found_by(SearchOptions(**option), crops)


def test_cameras_are_told_by_the_row_then_by_words():
    table = table_of(["yard/x.jpg", "hall/y.jpg"] * 2, (0, 1, 0, 1))  # numbered in sorted order: hall would be 0
    assert query_cameras(table, np.array(["hall/y.jpg"])).tolist() == [1]
    assert query_cameras(table, np.array(["hall/z.jpg", "gate/z.jpg"]), pattern="{cam}/*").tolist() == [1, -2]
    assert query_cameras(table, np.array(["z.jpg"]), camera="yard", pattern="{cam}/*").tolist() == [0]
    assert query_cameras(table_of(), np.array(["cam3/z.jpg"])).tolist() == [3]
    with pytest.raises(UserError, match="has no cameras, which --other-cameras needs"):
        query_cameras(table_of(cam=[-1] * 4), np.array(["z.jpg"]))


def test_every_image_of_a_folder_is_searched_for(crops):
    assert found_by(SearchOptions(count=1), crops) == [["a_c1"]] * 3
    (crops / "empty").mkdir()
    with pytest.raises(UserError, match="no image in"):
        found_by(SearchOptions(), crops / "empty")


def test_many_queries_in_blocks_are_each_alike(monkeypatch):
    monkeypatch.setattr("passerby.distances.pairwise.rows_per_block", lambda *_: 2)
    images = np.array(["new_c1.jpg", "b_c2.jpg", "c_c3.jpg", "d_c2.jpg", "new.jpg"])
    cameras = np.array([1, 2, 3, 2, -2])
    together = search_all(MODEL, table_of(), images, count=2, other_than=cameras)
    alone = [
        search_all(MODEL, table_of(), images[[row]], count=2, other_than=cameras[[row]])[0]
        for row in range(len(images))
    ]
    assert together == alone


def test_two_images_are_compared_and_a_threshold_decides():
    verdict = verify_images(MODEL, Path("a_c1.jpg"), Path("b_c2.jpg"))
    assert verdict.distance == pytest.approx(1 - np.cos(0.1), abs=1e-6)
    assert str(verdict) == "distance 0.0050; a decision needs --threshold"
    assert verdict.same is None
    same, different = (verify_images(MODEL, Path("a_c1.jpg"), Path("b_c2.jpg"), threshold=t) for t in (0.1, 0.001))
    assert str(same) == "distance 0.0050, same person at threshold 0.1"
    assert str(different) == "distance 0.0050, different people at threshold 0.001"
    assert different.to_json() == {"distance": different.distance, "threshold": 0.001, "same": False}
    with pytest.raises(UserError, match="a threshold is a cosine distance"):
        verify_images(MODEL, Path("a_c1.jpg"), Path("b_c2.jpg"), threshold=-1)
