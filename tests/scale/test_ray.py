"""Work over a local Ray cluster of two workers: equal to one process, and whole after workers and drivers end."""

import os
import shutil
import signal
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

if find_spec("ray") is None or find_spec("pyarrow") is None:
    pytest.skip("the extra ray is not installed", allow_module_level=True)

from passerby.distances.kreciprocal import nearest_neighbours
from passerby.distances.pairwise import vectors_on
from passerby.distances.units import unit_rows
from passerby.errors import UserError
from passerby.files import read_json
from passerby.gallery import GalleryRows, folder, open_gallery, shards, tidying
from passerby.models.embedder import Embedder, save_embedder
from passerby.recipe import load_recipe
from passerby.scale import embedding, neighbours
from passerby.scale.search import galleries_over
from passerby.scale.session import ENVIRONMENT, LOOPBACK, local_cluster, ray_session, require_cluster
from passerby.types import Embeddings
from passerby.types.parts import count_parts
from tests.cli.invoking import TINY, run
from tests.scale.light import embed, listed, mean_colours

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def ray():
    """A cluster of this machine with two workers; its address is known, so that other programs can join."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ENVIRONMENT | LOOPBACK:
            patch.setenv(name, "0")
        patch.setenv("PYTHONPATH", os.pathsep.join([str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")]))
        module = require_cluster("local")
        with local_cluster(module, cores=2, store_bytes=80 << 20):
            yield module


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """22 images of noise."""
    folder = tmp_path_factory.mktemp("photos")
    generator = np.random.default_rng(0)
    for number in range(22):
        pixels = generator.integers(0, 256, (12, 8, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{number:04d}_c{number % 3}.png")
    return folder


def test_nothing_listens_beyond_this_machine(ray):
    assert ray.util.get_node_ip_address() == "127.0.0.1"
    listening = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in Path(table).read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A":
                listening.add((fields[1].split(":")[0], fields[9]))
    sockets = {
        str(link.readlink())
        for process in children(os.getpid())
        for link in Path(f"/proc/{process}/fd").glob("*")
        if link.is_symlink() and os.path.lexists(link)
    }
    mine = {address for address, inode in listening if f"socket:[{inode}]" in sockets}
    assert mine
    assert mine <= {"0100007F", "0000000000000000FFFF00000100007F", "00000000000000000000000001000000"}


def children(process):
    """Return the processes below one, itself included."""
    found = [process]
    for task in Path(f"/proc/{process}/task").glob("*/children"):
        for child in task.read_text().split():
            found += children(int(child))
    return found


def test_blocks_of_two_workers_are_the_table_of_one_process(ray, photos, tmp_path):
    images, seen = listed(photos), []
    embed(ray, images, tmp_path / "out", progress=lambda done, total: seen.append((done, total)))
    table = Embeddings.load(tmp_path / "out")
    assert np.array_equal(table.vectors, mean_colours(images.path))
    assert table.path.tolist() == images.path.tolist()
    assert table.cam.tolist() == images.cam.tolist()
    assert seen[-1] == (22, 22)
    assert len(seen) == 6
    assert count_parts(tmp_path / "out") == (22, 3, [])


def test_a_killed_worker_loses_nothing(ray, photos, tmp_path):
    images, marks = listed(photos), tmp_path / "marks"
    marks.mkdir()
    embed(ray, images, tmp_path / "out", {"kill": Path(images.path[9]).name, "marks": marks, "times": 1})
    assert len(list(marks.iterdir())) == 1
    assert np.array_equal(Embeddings.load(tmp_path / "out").vectors, mean_colours(images.path))


def test_workers_that_end_again_and_again_end_the_job_and_keep_the_parts(ray, photos, tmp_path, monkeypatch):
    monkeypatch.setattr(embedding, "RETRIES", 1)
    images, marks = listed(photos), tmp_path / "marks"
    marks.mkdir()
    with pytest.raises(UserError, match=r"a worker ended repeatedly .* the same command makes the others"):
        embed(ray, images, tmp_path / "out", {"kill": Path(images.path[21]).name, "marks": marks, "times": 99})
    assert len(list(marks.iterdir())) == 2
    assert list((tmp_path / "out").glob("part-*.parquet"))
    with pytest.raises(UserError, match="is not finished"):
        Embeddings.load(tmp_path / "out")


DRIVER = """
import sys
from pathlib import Path
from passerby.scale.search import galleries_over
from passerby.scale.session import ray_session
from tests.scale.light import embed, listed
with ray_session(sys.argv[1]) as ray:
    embed(ray, listed(Path(sys.argv[2])), Path(sys.argv[3]), {"wait": 1.0})
"""


def test_a_killed_driver_is_continued_with_the_missing_parts_only(ray, photos, tmp_path):
    out, address = tmp_path / "out", ray.get_runtime_context().gcs_address
    driver = subprocess.Popen([sys.executable, "-c", DRIVER, address, str(photos), str(out)])
    deadline = time.monotonic() + 60
    while not (written := list(out.glob("part-*.parquet"))) and time.monotonic() < deadline:
        time.sleep(0.02)
    driver.kill()
    driver.wait()
    assert 0 < len(written) < 6
    times = {file: file.stat().st_mtime_ns for file in written}
    images = listed(photos)
    embed(ray, images, out)
    assert {file: file.stat().st_mtime_ns for file in written} == times
    assert np.array_equal(Embeddings.load(out).vectors, mean_colours(images.path))


def test_a_changed_image_is_embedded_again_and_its_former_part_removed(ray, photos, tmp_path):
    copies = tmp_path / "copies"
    shutil.copytree(photos, copies)
    embed(ray, listed(copies), tmp_path / "out")
    former = {file.name for file in (tmp_path / "out").glob("part-*.parquet")}
    Image.new("RGB", (8, 12), (1, 2, 3)).save(copies / "0005_c2.png")
    embed(ray, listed(copies), tmp_path / "out")
    assert len(former - {file.name for file in (tmp_path / "out").glob("part-*.parquet")}) == 1
    assert Embeddings.load(tmp_path / "out").vectors[5].tolist() == [1, 2, 3]


# ---- a real model, by the command


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """An untrained network of torch in a file."""
    file = tmp_path_factory.mktemp("model") / "embedder.safetensors"
    recipe = load_recipe("small", [each for each in TINY if not each.startswith("data.")])
    torch.manual_seed(0)
    save_embedder(Embedder(recipe.model, recipe.input), file, recipe=recipe.dump())
    return file


def test_the_command_writes_the_table_of_one_process_and_reports_a_broken_image(ray, photos, model, tmp_path):
    folder = tmp_path / "images"
    shutil.copytree(photos, folder)
    (folder / "0003_broken.png").write_bytes(b"nothing")
    alone = run("embed", model, folder, "--out", tmp_path / "alone.npz")
    over = run("embed", model, folder, "--out", tmp_path / "over.npz", "--ray", "local")
    assert alone.exit_code == over.exit_code == 1, over.output
    assert over.output.replace("over.npz", "alone.npz") == alone.output
    assert "left out: 1 (" in over.output
    first, second = Embeddings.load(tmp_path / "alone.npz"), Embeddings.load(tmp_path / "over.npz")
    assert np.array_equal(first.vectors, second.vectors)
    assert first.fingerprint == second.fingerprint
    for name in ("feature", "flip", "input_mask", "dataset", "model"):
        assert getattr(first, name) == getattr(second, name)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["alone.npz", "images", "over.npz"]


# ---- neighbours


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """16 people at two cameras, 6 images of each at each, roles alternating."""
    generator = np.random.default_rng(0)
    people = np.repeat(np.arange(16), 12)
    vectors = np.eye(16, 24, dtype=np.float32)[people] + 0.12 * generator.normal(size=(192, 24)).astype(np.float32)
    cam, role = np.tile([0, 1], 96), np.tile(["query", "gallery", "gallery"], 64)
    file = tmp_path_factory.mktemp("table") / "table.npz"
    Embeddings(vectors, people, cam, role).save(file)
    return file


def test_neighbours_of_shards_cluster_and_rerank_as_in_one_process(ray, table, tmp_path, monkeypatch):
    monkeypatch.setattr(neighbours, "SHARD", 50)
    commands = {
        "linkage": ("cluster", table, "--camera-norm", "none"),
        "dbscan": ("cluster", table, "k1=10", "eps=0.5", "--kind", "dbscan"),
        "evaluate": ("evaluate", "--embeddings", table, "--rerank"),
    }
    for name, words in commands.items():
        alone = run(*words, "--json", tmp_path / f"{name}.json")
        over = run(*words, "--ray", "local", "--json", tmp_path / f"{name}_ray.json")
        assert alone.exit_code == over.exit_code == 0, over.output
        assert over.output == alone.output
        assert_near(read_json(tmp_path / f"{name}_ray.json"), read_json(tmp_path / f"{name}.json"))


def test_a_killed_task_is_done_again(ray, tmp_path, monkeypatch):
    compare, mark = neighbours.compare_shards, tmp_path / "killed"

    def compare_or_end(first, second, **options):
        if second.start == 100 and not mark.exists():
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return compare(first, second, **options)

    side = vectors_on(np.random.default_rng(0).normal(size=(200, 8)).astype(np.float32), metric="cosine", device="cpu")
    alone = nearest_neighbours((side,), 10, metric="cosine")
    monkeypatch.setattr(neighbours, "compare_shards", compare_or_end)
    monkeypatch.setattr(neighbours, "SHARD", 50)
    with ray_session("local") as module, neighbours.neighbours_over(module):
        over = nearest_neighbours((side,), 10, metric="cosine")
    assert mark.exists()
    assert np.array_equal(alone.row, over.row)
    assert np.abs(alone.square - over.square).max() <= 1e-6


def test_a_gallery_is_searched_over_workers_as_in_one_process(ray, tmp_path, monkeypatch):
    for module in (shards, folder, tidying):
        monkeypatch.setattr(module, "ROWS_PER_SHARD", 64)
    gallery = open_gallery(tmp_path / "gallery", create=True)
    vectors = unit_rows(np.random.default_rng(0).normal(size=(500, 16)).astype(np.float32))
    gallery.add(GalleryRows(vectors))
    alone = gallery.search(vectors[:9], top=20)
    with ray_session("local") as module, galleries_over(module):
        over = gallery.search(vectors[:9], top=20)
    assert np.array_equal(alone.id, over.id)
    assert np.abs(alone.similarity - over.similarity).max() <= 1e-6


def assert_near(value, expected):
    """Compare plain values; numbers may differ by 1e-6, as sums of products do with the size of the matrices."""
    if isinstance(expected, dict):
        assert value.keys() == expected.keys()
        value, expected = list(value.values()), list(expected.values())
    if isinstance(expected, list):
        assert len(value) == len(expected)
        for pair in zip(value, expected, strict=True):
            assert_near(*pair)
    else:
        assert value == (pytest.approx(expected, abs=1e-6) if isinstance(expected, float) else expected)
