"""`passerby gallery` from the command line: sources, conditions, exports, the policy, and mistakes."""

import json
import sys
import time
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from passerby.cli import app
from passerby.data.decoding import decode, read_size
from passerby.encoders import model_stamp
from passerby.gallery import Where, open_gallery
from passerby.types import NO_CAMERAS, Embeddings, Tracklets

DAY = 86_400.0
START = 1.75e9


def run(*arguments, code=0):
    result = CliRunner().invoke(app, ["gallery", *map(str, arguments)])
    assert result.exit_code == code, result.output
    return result.output


def mean_colours(paths, **_):
    """Stand for a network: the mean colour of each image, of unit length."""
    colours = np.stack([decode(path).mean(axis=(0, 1)) for path in paths]).astype(np.float32)
    return colours / np.linalg.norm(colours, axis=1, keepdims=True)


@pytest.fixture
def model(monkeypatch, tmp_path):
    """The file of a model that gives mean colours."""
    network = SimpleNamespace(
        recipe=None, feature="after_neck", flip=False, notes=(), cameras=NO_CAMERAS, unknown_camera="refuse"
    )
    network.vectors = mean_colours
    monkeypatch.setattr("passerby.commands.embedding.open_model", lambda *_, **__: network)
    (tmp_path / "colours.onnx").write_bytes(b"stands for weights")
    return tmp_path / "colours.onnx"


@pytest.fixture
def images(tmp_path):
    """Four images of clearly different colours."""
    paths = [tmp_path / f"{name}.png" for name in ("red", "green", "blue", "grey")]
    colours = [(200, 10, 10), (10, 200, 10), (10, 10, 200), (90, 90, 90)]
    for path, colour in zip(paths, colours, strict=True):
        Image.new("RGB", (30, 60), colour).save(path)
    return paths


@pytest.fixture
def table(images, model, tmp_path):
    """The .npz of these images, at cameras 1 and 2, of people 7 and unknown."""
    names = np.array([str(path) for path in images])
    pid, cam = np.array([7, 7, -1, -1]), np.array([1, 1, 2, -1])
    stamp = model_stamp(model)
    Embeddings(mean_colours(names), pid, cam, np.full(4, ""), names, model=stamp).save(tmp_path / "table.npz")
    return tmp_path / "table.npz"


@pytest.fixture
def tracklets(images, model, tmp_path):
    """A folder of two tracklets of two crops each, of a clock with a date."""
    vectors = mean_colours(images)
    table = Tracklets(
        vectors=vectors[[0, 2]],
        camera=np.array(["door", "door"]),
        name=np.array(["clip/1", "clip/2"]),
        first=np.array([START, START + 60]),
        last=np.array([START + 5, START + 70]),
        has_clock=np.array([True, True]),
        pid=np.array([-1, -1]),
        crop_start=np.array([0, 2, 4]),
        crop_path=np.array([str(path) for path in images]),
        crop_time=START + np.array([1.0, 2.0, 61.0, 62.0]),
        crop_vectors=vectors,
        model=model_stamp(model),
    )
    folder = tmp_path / "tracklets"
    folder.mkdir()
    table.save(folder / "tracklets.npz")
    return folder


@pytest.fixture
def place(tmp_path):
    return tmp_path / "people"


def test_images_are_added_searched_and_forgotten(place, table, images, model, tmp_path):
    assert "4 rows added" in run("add", place, table, "--thumbnails", "--time", "2026-03-01T08:30")
    found = run("search", place, images[2], "--run", model, "--count", 2, "--json", tmp_path / "answer.json")
    first, second = found.strip().split("\n")
    assert "distance 0.0000" in first
    assert f"camera 2  2026-03-01 08:30:00Z  {images[2]}" in first
    assert str(images[3]) in second
    (query,) = json.loads((tmp_path / "answer.json").read_text())["queries"]
    assert [hit["id"] for hit in query["found"]] == [2, 3]
    assert query["found"][0]["identity"] is None
    images[1].unlink()  # its thumbnail is drawn
    run("search", place, images[0], images[2], "--run", model, "--picture", tmp_path / "answers.png")
    assert read_size((tmp_path / "answers.png").read_bytes())[1] > 200
    assert "2 rows forgotten" in run("forget", place, "--identity", 7)
    assert "2 rows, 0 identities" in run("info", place)
    assert "no fault" in run("check", place)


def test_nobody_is_found_beyond_the_threshold(place, table, images, model, monkeypatch):
    run("add", place, table)
    assert run("search", place, images[0], "--run", model, "--threshold", 0.01, "--camera", 2).strip() == (
        "nothing within the threshold"
    )
    monkeypatch.setattr("passerby.thresholds.accepted_distance", lambda *_: (0.01, SimpleNamespace(camera_norm="none")))
    arguments = ("search", place, images[0], "--run", model, "--accept", 0.001)
    assert run(*arguments, "--camera", 2).strip() == "nobody here"
    assert "distance 0.0000  id 0" in run(*arguments)


def test_vectors_are_searched_without_a_model(place, table, images, tmp_path):
    run("add", place, table)
    lines = run("search", place, "--vectors", table, "--count", 1).split("\n")
    assert lines[:2] == [str(images[0]), f"  1  distance 0.0000  id 0  identity 7  camera 1  {images[0]}"]
    Embeddings(np.eye(3, dtype=np.float32), *np.full((2, 3), -1), np.full(3, "")).save(tmp_path / "other.npz")
    assert "does not say which model" in run("search", place, "--vectors", tmp_path / "other.npz", code=2)


def test_tracklets_get_their_identities_from_a_table(place, tracklets, tmp_path):
    (tmp_path / "identities.csv").write_text("identity,camera,tracklet,first\n3,door,clip/2,1\n4,yard,clip/2,1\n")
    output = run("add", place, tracklets, tmp_path / "identities.csv", "--identity-prefix", "monday-")
    assert "2 rows added" in output
    assert "identities of 1 rows set" in output
    rows = open_gallery(place).list()
    assert rows.identity.tolist() == ["", "monday-3"]
    assert rows.tracklet.tolist() == ["clip/1", "clip/2"]
    np.testing.assert_array_equal(rows.time, [START, START + 60])
    assert json.loads(rows.attributes[0]) == {"last": START + 5}


def test_a_folder_with_tracklets_of_several_cameras_is_added_at_once(place, tracklets, tmp_path):
    yard = replace(Tracklets.load(tracklets), camera=np.array(["yard", "yard"]))
    for name, table in (("door", Tracklets.load(tracklets)), ("yard", yard)):
        (tmp_path / "tracks" / name).mkdir(parents=True)
        table.save(tmp_path / "tracks" / name / "tracklets.npz")
    run("add", place, tmp_path / "tracks")
    assert open_gallery(place).list().camera.tolist() == ["door", "door", "yard", "yard"]


def test_crops_of_tracklets_and_defaults(place, tracklets):
    run("add", place, tracklets, "--vectors-of", "crops", "--camera", "back", "--attribute", "day=monday")
    rows = open_gallery(place).list(Where(attributes=(("day", "monday"),)))
    assert rows.camera.tolist() == ["back"] * 4
    assert (rows.time - START).tolist() == [1, 2, 61, 62]
    listed = run("list", place, "--since", START + 30, "--limit", 1, "--after", 2)
    assert listed.startswith("id 3  camera back  tracklet clip/2")


def test_times_that_are_no_dates_are_named(place, tracklets):
    table = Tracklets.load(tracklets)
    hours = [30_600.0, 30_660.0]
    clock = Tracklets(**{**vars(table), "first": np.array(hours), "last": np.array(hours)})
    clock.save(tracklets / "tracklets.npz")
    assert "2 of 2 rows get no time" in run("add", place, tracklets)
    assert np.isnan(open_gallery(place).list().time).all()


@pytest.mark.parametrize("ending", ["parquet", "npz"])
def test_an_export_is_added_again_as_it_was(place, table, tracklets, tmp_path, ending):
    if ending == "parquet":
        pytest.importorskip("pyarrow")
    run("add", place, table, tracklets, "--thumbnails")
    out = tmp_path / f"export.{ending}"
    assert "6 rows" in run("export", place, "-o", out)
    run("add", tmp_path / "copy", out)
    first, second = open_gallery(place).list(), open_gallery(tmp_path / "copy").list()
    for name in ("vectors", "path", "camera", "time", "box", "tracklet", "identity", "attributes", "id"):
        np.testing.assert_array_equal(getattr(first, name), getattr(second, name), err_msg=name)
    if ending == "parquet":
        assert first.thumbnails == second.thumbnails
        assert all(first.thumbnails)
    assert "1 rows" in run("export", place, "-o", out, "--camera", 2)


def test_the_policy_forgets_old_rows_at_addition_and_by_itself(place, table, tmp_path):
    now = time.time()
    run("add", place, table, "--time", now - 40 * DAY, "--forget-after", "30d")
    assert open_gallery(place).info().count == 0
    run("add", place, table, "--time", now - 20 * DAY)
    assert "rows are forgotten after 30 days" in run("info", place)
    assert "0 rows forgotten" in run("forget", place)
    assert "4 rows forgotten" in run("forget", place, "--forget-after", "12h")
    assert [line.kinds for line in open_gallery(place).info().audit] == ["before", "before"]
    run("forget", place, "--forget-after", "never")
    assert open_gallery(place).info().forget_after is None


MISTAKES = [
    (("delete", "GALLERY"), "no condition, so all rows would go"),
    (("forget", "GALLERY"), "nothing says what to forget"),
    (("forget", "GALLERY", "--forget-after", "soon"), "no length of time; give days as 30d"),
    (("list", "GALLERY", "--since", "yesterday"), "--since 'yesterday' is no time"),
    (("list", "GALLERY", "--since", "20", "--until", "10"), "no time lies from"),
    (("list", "GALLERY", "--attribute", "bag"), "is not of the form key=value"),
    (("list", "NOWHERE"), "no gallery in"),
    (("list", "ftp://host/x"), "no gallery at ftp://"),
    (("add", "GALLERY", "NOWHERE"), "no file or folder"),
    (("add", "GALLERY", "TEXT"), "is not an .npz of `passerby embed`"),
    (("add", "GALLERY", "BROKEN"), "is not a readable Parquet file"),
    (("add", "GALLERY", "CSV"), "has no camera and no tracklet"),
    (("export", "GALLERY", "-o", "rows.txt"), "ends in neither of .parquet and .npz"),
    (("search", "GALLERY"), "give either images or --vectors"),
    (("search", "GALLERY", "TEXT"), "add --run MODEL"),
]


@pytest.mark.parametrize(("arguments", "sentence"), MISTAKES, ids=[sentence for _, sentence in MISTAKES])
def test_mistakes_are_one_sentence(place, table, tmp_path, arguments, sentence):
    if sentence.endswith("Parquet file"):
        pytest.importorskip("pyarrow")
    run("add", place, table)
    files = {
        name: tmp_path / f"file.{ending}" for name, ending in (("TEXT", "npz"), ("BROKEN", "parquet"), ("CSV", "csv"))
    }
    for file in files.values():
        file.write_text("identity\n3\n")
    names = {"GALLERY": place, "NOWHERE": tmp_path / "nowhere", **files}
    output = run(*(names.get(argument, argument) for argument in arguments), code=2)
    assert sentence in output
    assert output.startswith("Error: ")
    assert output.count("\n") == 1
    assert open_gallery(place).info().count == 4


def test_parquet_without_pyarrow_is_refused(place, table, tmp_path, monkeypatch):
    run("add", place, table)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    assert "pip install 'passerby[gallery]'" in run("export", place, "-o", tmp_path / "rows.parquet", code=2)
    assert not list(tmp_path.glob("*.parquet*"))
