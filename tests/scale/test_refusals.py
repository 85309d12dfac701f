"""Mistakes that end work over a cluster with one sentence; no cluster is started for them."""

import contextlib
import os
import socket
import sys
from dataclasses import replace
from importlib.util import find_spec

import numpy as np
import pytest
from PIL import Image

from passerby.device import AUTOMATIC
from passerby.encoders import model_stamp
from passerby.errors import UserError
from passerby.scale import session
from passerby.scale.blocks import Workers, cut_blocks
from passerby.scale.embedding import embed_parts
from passerby.scale.session import ray_session, require_ray, sentences
from passerby.scale.worker import BlockWorker, WorkerSettings
from passerby.types import Embeddings
from passerby.types.listed import ListedImages
from passerby.types.parts import PartsList, read_part, write_part
from tests.cli.invoking import flat, refused
from tests.onnx_graphs import write_graph

needs_ray = pytest.mark.skipif(find_spec("ray") is None, reason="the extra ray is not installed")
needs_parquet = pytest.mark.skipif(find_spec("pyarrow") is None, reason="the extra ray is not installed")


@pytest.fixture
def model(tmp_path):
    return write_graph(tmp_path / "model.onnx", shape=("batch", 3, 16, 8))


@pytest.fixture
def photo(tmp_path):
    file = tmp_path / "photos" / "1.png"
    file.parent.mkdir()
    Image.new("RGB", (4, 8), (10, 20, 30)).save(file)
    return file


@needs_parquet
def test_a_missing_extra_is_named(model, photo, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    assert "pip install 'passerby[ray]'" in flat(refused("embed", model, photo, "--ray", "local"))


def test_parquet_without_pyarrow_is_refused(model, photo, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    assert "pip install 'passerby[ray]'" in flat(refused("embed", model, photo, "--ray", "local"))


@needs_ray
@pytest.mark.parametrize(
    ("address", "sentence"),
    [
        ("127.0.0.1:1", "no Ray cluster can be reached there"),
        ("ray://127.0.0.1:10001", "give local, auto (the cluster of this machine) or HOST:PORT"),
        ("locl", "give local, auto"),
    ],
)
def test_an_address_without_a_cluster_is_refused(address, sentence, model, photo):
    assert sentence in flat(refused("embed", model, photo, "--ray", address))


@needs_ray
def test_ranges_of_one_process_are_refused(model, photo):
    text = flat(refused("embed", model, photo, "--ray", "local", "--precision", "int8"))
    assert "--precision int8 takes ranges from the images of one process" in text


@needs_ray
def test_a_numbered_gpu_is_refused(model, photo):
    text = flat(refused("embed", model, photo, "--ray", "local", "--device", "cuda:1"))
    assert "Ray gives each worker a GPU of its own" in text


@needs_ray
@pytest.mark.parametrize(
    ("name", "arguments", "sentence"),
    [
        ("OutOfMemoryError", ("1 worker(s) were killed",), "the workers ran out of memory repeatedly; parts that are"),
        ("ActorDiedError", (), "a worker ended repeatedly (see the logs of the cluster); parts that are written stay"),
        ("ActorUnavailableError", ("out of memory", None), "a worker ended repeatedly (out of memory); parts that are"),
        ("ObjectLostError", ("ab", "cd", "ef"), "the Ray cluster failed (ObjectLostError: "),
    ],
)
def test_a_failure_of_the_cluster_is_one_sentence(name, arguments, sentence):
    ray = require_ray()
    with pytest.raises(UserError) as caught, sentences(ray):
        raise getattr(ray.exceptions, name)(*arguments)
    assert str(caught.value).startswith(sentence)
    assert str(caught.value).endswith("the same command makes the others")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("known", [True, False])
def test_a_running_cluster_is_found_by_the_address_that_ray_start_wrote(tmp_path, monkeypatch, known):
    monkeypatch.setattr(session, "_is_connected", lambda: False)
    monkeypatch.setattr(session, "require_ray", lambda: "ray")
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("RAY_ADDRESS", "RAY_AUTH_MODE", *session.LOOPBACK):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv(name, "")  # so that what is set is taken back
        monkeypatch.delenv(name)
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    if not known:
        with pytest.raises(UserError, match="no Ray cluster runs on this machine; start one by `ray start --head`"):
            session.require_cluster("auto")
        return
    (tmp_path / ".ray").mkdir()
    (tmp_path / ".ray/auth_token").write_text("secret")
    (tmp_path / "ray").mkdir()
    with socket.create_server(("127.0.0.1", 0)) as server:
        (tmp_path / "ray/ray_current_cluster").write_text(f"127.0.0.1:{server.getsockname()[1]}\n")
        assert session.require_cluster("auto") == "ray"
    assert os.environ["RAY_AUTH_MODE"] == "token"
    assert os.environ.items() >= session.LOOPBACK.items()


@needs_ray
def test_a_cluster_that_does_not_start_is_one_sentence(monkeypatch):
    ray = require_ray()

    def fail(**_):
        raise Exception("The current node timed out during startup. This could happen because")

    monkeypatch.setattr(ray, "init", fail)
    sentence = r"Ray did not start on this machine \(The current node timed out .* try again"
    with pytest.raises(UserError, match=sentence), ray_session("local"):
        pass


@needs_ray
def test_what_ray_prints_about_single_failures_is_left_out(monkeypatch, capsys):
    from ray._private import worker

    @contextlib.contextmanager
    def cluster(_):
        worker.print_to_stdstream({"lines": ["Task failed"], "pid": "raylet", "is_err": False}, ignore_prefix=False)
        yield

    printed = worker.print_to_stdstream
    monkeypatch.setattr(session, "local_cluster", cluster)
    with ray_session("local"):
        pass
    assert worker.print_to_stdstream is printed
    assert capsys.readouterr() == ("", "")


def test_ray_without_an_effect_is_refused(tmp_path):
    file = tmp_path / "table.npz"
    ones = np.ones(8, np.int64)
    Embeddings(np.eye(8, dtype=np.float32), ones, ones, np.full(8, "query")).save(file)
    assert "no effect without it" in flat(refused("evaluate", "--embeddings", file, "--ray", "local"))
    words = ("--kind", "dbscan", "distance=ca_jaccard", "--ray", "local")
    assert "distance=ca_jaccard is computed without it" in flat(refused("cluster", file, *words))


def test_a_database_searches_by_itself(model, photo):
    words = ("gallery", "search", "postgresql://nobody@127.0.0.1:1/people", photo, "--run", model, "--ray", "local")
    assert "a database searches by itself" in flat(refused(*words))


# ---- a worker, without a cluster


def images_at(*paths):
    count = len(paths)
    none = np.full(count, -1)
    return ListedImages(np.array(list(map(str, paths))), none, none, np.full(count, ""), none)


def fault_of(images, settings):
    (block,) = cut_blocks(images)
    return BlockWorker(settings).embed(block).fault


@pytest.fixture
def settings(model, tmp_path):
    return WorkerSettings(model, model_stamp(model), (), AUTOMATIC, tmp_path / "out", strict=False)


def test_a_worker_without_the_model_reports_it(settings, photo, tmp_path):
    missing = replace(settings, model=tmp_path / "elsewhere.onnx")
    assert "elsewhere.onnx is not there on node" in fault_of(images_at(photo), missing)


def test_a_worker_with_another_model_reports_it(settings, photo):
    write_graph(settings.model, shape=("batch", 3, 24, 8))
    assert "model.onnx is another model on node" in fault_of(images_at(photo), settings)


def test_a_worker_without_the_images_reports_it(settings, tmp_path):
    sentence = fault_of(images_at(tmp_path / "a.png", tmp_path / "b.png"), settings)
    assert "a.png is not there on node" in sentence
    assert "nor are the 1 after it" in sentence
    assert not (tmp_path / "out").exists()


@needs_parquet
def test_a_broken_image_ends_a_strict_job_and_is_left_out_of_another(settings, photo):
    broken = photo.with_name("2.png")
    broken.write_bytes(b"nothing")
    images = images_at(photo, broken)
    assert "2.png is not a readable image" in fault_of(images, replace(settings, strict=True))
    assert fault_of(images, settings) == ""
    (part,) = settings.folder.glob("part-*.parquet")
    columns, left_out = read_part(part)
    assert columns["path"].tolist() == [str(photo)]
    assert len(left_out) == 1
    assert "2.png is not a readable image" in left_out[0]


@needs_parquet
def test_a_block_without_a_readable_image_has_a_part_without_rows(settings, photo, tmp_path):
    photo.write_bytes(b"nothing")
    assert fault_of(images_at(photo, photo), settings) == ""
    (part,) = settings.folder.glob("part-*.parquet")
    columns, left_out = read_part(part)
    assert len(columns["path"]) == 0
    assert len(left_out) == 2
    PartsList({}, 2, (part.name,)).save(settings.folder)
    with pytest.raises(UserError, match="none of 2 images can be read"):
        Embeddings.load(settings.folder)


# ---- the folder of parts


def write_table(folder, images, **settings):
    """Write a table as a job does, here."""
    stamps = {"model": "", "dataset": "", "feature": "", "flip": False, "input_mask": "none"} | settings
    blocks = cut_blocks(images, size=2)
    PartsList(stamps, len(images), tuple(block.name for block in blocks)).save(folder)
    for block in blocks:
        rows = np.arange(len(block.images))
        write_part(folder / block.name, block.images.table(np.ones((len(rows), 3), np.float32), rows), [])
    return stamps


def embed_again(folder, images, stamps):
    embed_parts(None, images, Workers(BlockWorker, None, folder), stamps, notify=print)


@needs_parquet
def test_vectors_of_another_model_or_engine_are_refused(photo, tmp_path):
    images, out = images_at(photo, photo, photo), tmp_path / "out"
    stamps = write_table(out, images, model="first 1", engine="torch")
    for other in ({"model": "second 2"}, {"engine": "openvino"}):
        ((name, value),) = other.items()
        with pytest.raises(UserError, match=f"holds vectors with {name} '{stamps[name]}', and '{value}' is asked for"):
            embed_again(out, images, stamps | other)
    assert len(Embeddings.load(out)) == 3


def test_a_folder_of_other_things_is_refused(photo, tmp_path):
    with pytest.raises(UserError, match=r"holds 1\.png and no table of vectors; give a new folder"):
        embed_again(photo.parent, images_at(photo), {})


@needs_parquet
@pytest.mark.parametrize("damage", [b"", b"PAR1 but nothing else"])
def test_a_damaged_part_is_named(damage, photo, tmp_path):
    write_table(tmp_path / "out", images_at(photo, photo, photo))
    part = sorted((tmp_path / "out").glob("part-*.parquet"))[1]
    part.write_bytes(damage)
    with pytest.raises(UserError, match=f"{part.name} is not a readable part"):
        Embeddings.load(tmp_path / "out")


@needs_parquet
def test_a_missing_part_and_a_folder_without_a_table_are_refused(photo, tmp_path):
    write_table(tmp_path / "out", images_at(photo, photo, photo))
    sorted((tmp_path / "out").glob("part-*.parquet"))[1].unlink()
    with pytest.raises(UserError, match="is not finished: 1 of 2 parts are missing"):
        Embeddings.load(tmp_path / "out")
    with pytest.raises(UserError, match="holds no table of vectors"):
        Embeddings.load(photo.parent)
    newer = tmp_path / "newer"
    newer.mkdir()
    (newer / "table.json").write_text('{"format": 2, "settings": {}, "images": 0, "parts": []}')
    with pytest.raises(UserError, match="has format 2, and this version of passerby reads 1"):
        Embeddings.load(newer)
