"""The command line as people meet it: what works says what it made, every mistake is one sentence and exit code 2."""

from __future__ import annotations

import itertools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
import typer
from PIL import Image
from typer.testing import CliRunner, Result

import passerby
from passerby.cli import app
from passerby.training.checkpoint import load_checkpoint
from passerby.training.step import TrainingStep
from passerby.types import Embeddings
from tests.conftest import copy_marked

TINY = (
    "model.backbone=test_resnet",
    "model.last_stride=2",
    "model.weights=none",
    "input.size=[32, 16]",
    "data.sampler.identities=4",
    "data.sampler.instances=2",
    "stages.0.epochs=2",
    "engine.precision=float32",
    "data.augment.pad=2",
)

JOINED = (
    "datasets={one: {kind: market1501, root: SITE}, two: {kind: market1501, root: TWIN}}",
    "stages=[{train: [one, two]}]",
)


def run(*words: object) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words])


def refused(*words: object) -> str:
    """Run a command that must fail by the person's mistake, and return its sentence."""
    found = run(*words)
    assert found.exit_code == 2, found.output
    lines = found.output.strip().splitlines()
    assert len([line for line in lines if line.startswith("Error: ")]) == 1, found.output
    assert "Traceback" not in found.output
    return found.output


def paint(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(seed)
    colour = np.random.default_rng(seed // 100).integers(0, 256, 3)
    pixels = np.clip(colour + generator.integers(-20, 20, (32, 16, 3)), 0, 255).astype(np.uint8)
    Image.fromarray(pixels).save(path)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight people to learn and five to find, two cameras, in the Market-1501 layout."""
    root = tmp_path_factory.mktemp("site")
    for person in range(1, 9):
        for camera in (1, 2):
            for number in range(2):
                name = f"{person:04d}_c{camera}s1_{number:06d}_00.jpg"
                paint(root / "bounding_box_train" / name, 100 * person + 10 * camera + number)
    for person in range(11, 16):
        paint(root / "query" / f"{person:04d}_c1s1_000000_00.jpg", 100 * person)
        for number in range(2):
            paint(root / "bounding_box_test" / f"{person:04d}_c2s1_{number:06d}_00.jpg", 100 * person + 20 + number)
    return root


@pytest.fixture(scope="module")
def trained(site: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "first"
    found = run("train", "small", *TINY, "--data", site, "--out", folder)
    assert found.exit_code == 0, found.output
    return folder


def test_a_run_leaves_everything_that_the_design_promises(trained: Path) -> None:
    names = {path.name for path in trained.iterdir()}
    expected = {"recipe.yaml", "environment.json", "log.jsonl", "last.pt", "embedder.safetensors", "scores.json"}
    assert expected | {"report.html", "embeddings"} <= names


def test_evaluate_a_run_writes_the_agreed_json(trained: Path, site: Path, tmp_path: Path) -> None:
    found = run("evaluate", trained, "--json", tmp_path / "scores.json")
    assert found.exit_code == 0, found.output
    scores = json.loads((tmp_path / "scores.json").read_text())
    assert {"mAP", "mINP", "cmc", "queries", "protocol"} <= set(scores)
    assert set(scores["cmc"]) == {"1", "5", "10"}
    assert scores["queries"] == 5
    stored = json.loads((trained / "scores.json").read_text())[site.name]["plain"]
    assert scores["mAP"] == pytest.approx(stored["mAP"], abs=0.01)


def test_embeddings_go_out_and_their_scores_come_back_the_same(trained: Path, site: Path, tmp_path: Path) -> None:
    table = tmp_path / "site.npz"
    assert run("embed", trained, "--data", site, "-o", table).exit_code == 0
    for flags in ((), ("--rerank",)):
        for source in ((trained,), ("--embeddings", table)):
            target = tmp_path / f"{len(flags)}{len(source)}.json"
            assert run("evaluate", *source, *flags, "--json", target).exit_code == 0
        first, second = (json.loads((tmp_path / f"{len(flags)}{n}.json").read_text()) for n in (1, 2))
        assert first == second
        assert ("reranked" in first) == bool(flags)
        assert first["protocol"]["rerank"] is None
        if flags:
            assert first["reranked"]["protocol"]["rerank"] is not None


def test_vectors_that_have_collapsed_are_told(tmp_path: Path) -> None:
    rows = np.ones((6, 4), np.float32)
    table = Embeddings(rows, [1, 2, 1, 2, 1, 2], [0, 0, 1, 1, 2, 2], ["query"] * 2 + ["gallery"] * 4)
    table.save(tmp_path / "same.npz")
    assert "all 6 vectors are equal: the model has collapsed" in _flat(
        run("evaluate", "--embeddings", tmp_path / "same.npz").output
    )
    assert "all 6 vectors are equal" in run("cluster", tmp_path / "same.npz", "k1=2").output


def _flat(text: str) -> str:
    return " ".join(text.split())


def test_a_run_is_evaluated_by_its_own_protocol(site: Path, tmp_path: Path) -> None:
    folder, file = tmp_path / "run", tmp_path / "scores.json"
    changes = ("test.distance=euclidean", "test.cameras=ignore", "test.feature=before_neck", "stages.0.epochs=1")
    assert run("train", "small", *TINY, *changes, "--data", site, "--out", folder).exit_code == 0
    assert run("evaluate", folder, "--json", file).exit_code == 0
    stored = json.loads((folder / "scores.json").read_text())[site.name]["plain"]
    assert json.loads(file.read_text())["protocol"] == stored["protocol"]
    assert stored["protocol"]["distance"] == "euclidean"


def test_flip_and_averaged_queries_by_recipe_and_by_option(trained: Path, site: Path, tmp_path: Path) -> None:
    folder, file = tmp_path / "run", tmp_path / "scores.json"
    changes = ("test.flip=true", "test.queries=multi")
    assert run("train", "small", *TINY, *changes, "--data", site, "--out", folder).exit_code == 0
    stored = json.loads((folder / "scores.json").read_text())[site.name]["plain"]
    assert (stored["protocol"]["flip"], stored["protocol"]["queries"]) == (True, "multi")
    assert "averaged with the mirror image" in (folder / "report.html").read_text()
    for words in ((folder,), (trained, "--flip", "on", "--queries", "multi")):
        assert run("evaluate", *words, "--json", file).exit_code == 0
        assert json.loads(file.read_text())["protocol"] == stored["protocol"]
    assert run("evaluate", folder, "--flip", "off", "--queries", "single", "--json", file).exit_code == 0
    assert json.loads(file.read_text())["protocol"] == {**stored["protocol"], "flip": False, "queries": "single"}
    table = folder / "embeddings" / f"{site.name}.npz"
    assert "give a run folder instead of --embeddings" in refused("evaluate", "--embeddings", table, "--flip", "on")
    sentence = "averages the images that cameras: 'standard' leaves out"
    assert sentence in refused("evaluate", folder, "--cameras", "ignore")
    assert sentence in refused("evaluate", "--embeddings", table, "--queries", "multi", "--cameras", "ignore")


def test_search_finds_the_image_itself_first(trained: Path, site: Path, tmp_path: Path) -> None:
    gallery = site / "bounding_box_test"
    assert run("embed", trained, gallery, "-o", tmp_path / "g.npz").exit_code == 0
    image = sorted(gallery.iterdir())[3]
    found = run("search", tmp_path / "g.npz", image, "--run", trained, "--count", 3)
    assert "-0.0000" not in found.output
    assert found.exit_code == 0, found.output
    assert str(image) in found.output.splitlines()[0]
    assert len(found.output.splitlines()) == 3


def test_vectors_of_another_model_are_not_searched(trained: Path, site: Path, tmp_path: Path) -> None:
    gallery = site / "bounding_box_test"
    run("embed", trained, gallery, "-o", tmp_path / "g.npz")
    image = sorted(gallery.iterdir())[3]
    other = run("train", "small", *TINY, "engine.seed=5", "--data", site, "--out", tmp_path / "other")
    assert other.exit_code == 0, other.output
    said = refused("search", tmp_path / "g.npz", image, "--run", tmp_path / "other")
    assert "the table was made by another model, or" in said
    table = replace(Embeddings.load(tmp_path / "g.npz"), path=None)
    table.save(tmp_path / "nameless.npz")
    assert run("search", tmp_path / "nameless.npz", image, "--run", tmp_path / "other").exit_code == 0


def test_cameras_are_read_off_the_names_where_most_tell_one(trained: Path, site: Path, tmp_path: Path) -> None:
    gallery = site / "bounding_box_test"
    assert run("embed", trained, gallery, "-o", tmp_path / "g.npz").exit_code == 0
    told = [int(re.search(r"_c(\d)s", path.name)[1]) for path in sorted(gallery.glob("*.jpg"))]
    assert Embeddings.load(tmp_path / "g.npz").cam.tolist() == told
    shutil.copy(min(gallery.glob("*.jpg")), tmp_path / "someone.jpg")
    assert run("embed", trained, gallery, tmp_path / "someone.jpg", "-o", tmp_path / "g.npz").exit_code == 0
    assert Embeddings.load(tmp_path / "g.npz").cam.tolist() == [*told, -1]


def test_report_can_be_written_again(trained: Path) -> None:
    (trained / "report.html").unlink()
    assert run("report", trained).exit_code == 0
    assert (trained / "report.html").stat().st_size > 10_000


def test_recipes_are_listed_shown_drawn_and_described(tmp_path: Path) -> None:
    assert "bag_of_tricks" in run("recipe", "list").output
    assert "margin: 0.7" in run("recipe", "show", "small", "losses.triplet.margin=0.7").output
    assert json.loads(run("recipe", "schema").output)["title"] == "Recipe"
    assert run("recipe", "draw", "small", "-o", tmp_path / "f.svg").exit_code == 0
    assert (tmp_path / "f.svg").read_text().startswith("<svg")
    for name in ("f.png", "f", "f.html"):
        assert "its name must end in .svg" in refused("recipe", "draw", "small", "-o", tmp_path / name)
        assert not (tmp_path / name).exists()


def test_recipes_are_compared_and_shown_without_defaults(tmp_path: Path) -> None:
    assert "margin" not in run("recipe", "show", "small", "--changes").output
    assert "optim.lr" in run("recipe", "diff", "small", "bag_of_tricks").output
    assert "the recipes are equal" in run("recipe", "diff", "small", "small").output


def test_the_version_is_printed() -> None:
    assert run("--version").output == f"passerby {passerby.__version__}\n"


def test_seeds_are_trained_one_after_another_and_compared(site: Path, tmp_path: Path) -> None:
    command = ["train", "small", *TINY, "--epochs", "1", "--data", site, "--out", tmp_path, "--seeds", "0,1"]
    found = run(*command)
    assert found.exit_code == 0, found.output
    assert "mean ± sample standard deviation over the seeds" in found.output
    assert (tmp_path / "seed-0" / "embedder.safetensors").read_bytes() != (
        tmp_path / "seed-1" / "embedder.safetensors"
    ).read_bytes()
    (tmp_path / "seed-1" / "scores.json").unlink()
    again = run(*command, "--resume").output
    assert "seed 0" not in again
    assert "seed 1" in again
    compared = run("compare", tmp_path, "--json", tmp_path / "c.json").output
    assert "0, 1" in compared
    assert json.loads((tmp_path / "c.json").read_text())[0]["seeds"] == [0, 1]
    for words, sentence in ((["--seeds", "0,0"], "different whole numbers"), (["--seeds", "x"], "different whole")):
        assert sentence in refused("train", "small", "--out", tmp_path / "n", *words)
    assert "both set the seed" in refused("train", "small", "engine.seed=3", "--seeds", "0", "--out", tmp_path / "n")


def test_reference_rows_are_listed_shown_and_drawn_like_recipes(tmp_path: Path) -> None:
    assert re.search(
        r"^market1501/ +27 rows, such as market1501/resnet50-01", run("recipe", "list").output, re.MULTILINE
    )
    listed = run("recipe", "list", "market1501/").output
    assert re.search(r"^market1501/resnet50-09  86\.7 / 93\.9\n    learned weight", listed, re.MULTILINE)
    assert max(map(len, listed.splitlines()[:-1])) <= 100
    assert "not measured by passerby" in listed
    assert "families: market1501/, dukemtmc/" in refused("recipe", "list", "markt")
    assert "weight: learned" in run("recipe", "show", "market1501/resnet50-09").output
    assert run("recipe", "draw", "market1501/resnet50-09", "-o", tmp_path / "f.svg").exit_code == 0
    for command in (("recipe", "show"), ("recipe", "draw"), ("train",)):
        assert "did you mean 'market1501/resnet50-09'?" in refused(*command, "market1501/resnet50-9")


def test_a_run_of_a_row_shows_reference_and_measured_results(site: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    found = run("train", "market1501/resnet50-09", *TINY, "stages.0.epochs=1", "--data", site, "--out", folder)
    assert found.exit_code == 0, found.output
    scores = json.loads((folder / "scores.json").read_text())["market1501"]
    mAP = scores["plain"]["mAP"]
    (row,) = (line for line in found.output.splitlines() if "86.7" in line)
    assert re.findall(r"[+-]?\d+\.\d", row) == ["86.7", f"{mAP:.1f}", f"{mAP - 86.7:+.1f}"]
    told = " ".join(found.output.split())
    assert "Reference results are taken from published or earlier work, not measured by passerby." in told
    assert "Run with changes: " in told
    assert "its scores do not compare with published ones" in told
    assert scores["reference"]["row"] == "market1501/resnet50-09"
    result = {"mAP": 86.7, "rank1": 93.9, "forgetting": None, "mean": 90.36, "reranked": None}
    result |= {"ae": None, "ae_l1": None, "ae_l2": None}
    assert scores["reference"]["result"] == result
    page = (folder / "report.html").read_text()
    assert "Reference and measured results" in page
    assert "The reference results are those of market1501/resnet50-09." in page


def test_data_commands(site: Path, tmp_path: Path) -> None:
    assert "withdrawn" in run("data", "list").output
    assert run("data", "check", site).exit_code == 0
    assert run("data", "describe", site).exit_code == 0
    small = ("--train-people", 4, "--test-people", 3, "--images", 4)
    assert run("data", "make", tmp_path / "people", "--site", "station", *small).exit_code == 0
    assert run("data", "check", tmp_path / "people").exit_code == 0


def test_data_check_exits_1_for_problems_and_not_for_a_set_without_a_test(site: Path, tmp_path: Path) -> None:
    copied = shutil.copytree(site, tmp_path / "site")
    shutil.rmtree(copied / "query")
    (copied / "query").mkdir()
    found = run("data", "check", copied)
    assert found.exit_code == 0
    assert "There is no query, so nothing can be evaluated." in found.output
    next(copied.rglob("*.jpg")).write_bytes(b"")
    assert run("data", "check", copied).exit_code == 1


# ---- mistakes


def test_weights_of_another_shape_are_told(site: Path, tmp_path: Path) -> None:
    body = timm.create_model("resnet18", num_classes=0).state_dict()
    torch.save({**body, "layer4.1.conv2.weight": torch.zeros(3, 3)}, tmp_path / "odd.pth")
    told = " ".join(
        refused(
            *("train", "small", *TINY, "model.backbone=resnet18", f"model.weights={tmp_path / 'odd.pth'}"),
            *("--data", site, "--out", tmp_path / "run"),
        ).split()
    )
    assert "does not fit the backbone" in told
    assert "layer4.1.conv2.weight (3, 3) instead of (512, 512, 3, 3)" in told


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ("losses.triplt.margin=1", "did you mean 'triplet'?"),
        ("losses.triplet.margn=1", "unknown key losses.triplet.margn; did you mean 'margin'?"),
        ("optim.lr=fast", "optim.lr"),
        ("optim.lr=-1", "greater than 0"),
        ("model.backbone=resnt18", "did you mean 'resnet18'?"),
        ("stages.0.train=[markt1501]", "did you mean 'market1501'?"),
        ("stages.0.epochs=0", "stages.0.epochs is 0: must be at least 1"),
        ("engine.precision=fp16", "fp16 is for GPUs"),
        ("model.weights=/no/such.pth", "no weights file"),
        ("data.sampler.identities=40", "the training images show 8"),
        ("losses.softmax", "write key=value"),
        ("losses.triplet.weight=-1", "losses.triplet.weight: got -1, allowed: a number of at least 0, or 'learned'"),
        ("losses.softmax.weight=learnt", "did you mean 'learned'?"),
        ("test={queries: multi, cameras: ignore}", "with cameras: 'ignore' use 'single'"),
    ],
)
def test_recipe_mistakes(site: Path, tmp_path: Path, change: str, sentence: str) -> None:
    assert sentence in refused("train", "small", *TINY, change, "--data", site, "--out", tmp_path / "run")


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (["data.sampler=per_domain"], "data.sampler: per_domain has no effect: no stage trains on several data sets"),
        (["data.sampler=sites"], "data.sampler.kind is 'sites'"),
        ([*JOINED, "data.sampler=per_domain", "data.sampler.identities=5"], "set data.sampler.identities to 4 or 6"),
        ([*JOINED, "data.sampler=per_domain", "data.sampler.identities=20"], "the training images of one show 8; set"),
        (["stages.0.train=[auto, auto]"], "train names a data set twice: auto, auto"),
    ],
)
def test_mistakes_of_joint_training(site: Path, tmp_path: Path, changes: list[str], sentence: str) -> None:
    twin = shutil.copytree(site, tmp_path / "twin", copy_function=copy_marked)
    given = [change.replace("SITE", str(site)).replace("TWIN", str(twin)) for change in changes]
    told = refused("train", "small", *TINY, *given, "--data", site, "--out", tmp_path / "run")
    assert sentence in " ".join(told.split())
    assert not (tmp_path / "run").exists()


TWO = "stages=[{train: [one], epochs: 1}, {train: [two], epochs: 1}]"


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (
            [JOINED[0], "stages=[{train: [one]}, {train: [twoo]}]"],
            "data set 'twoo' is neither in `datasets` nor a kind",
        ),
        ([JOINED[0], "stages=[{train: [one]}, {train: [two], epochs: 0}]"], "stages.1.epochs"),
        (
            ["method.lwf={tr_dist: 1.0}"],
            "method.lwf holds on to an earlier stage and has no effect here: the recipe has",
        ),
        (
            [JOINED[0], "stages=[{train: [one], method: {average: {}}}, {train: [two]}]"],
            "only the first stage names it",
        ),
        (
            [JOINED[0], "stages=[{train: [one]}, {train: [two], method: {ewc: {}}}]"],
            "method.ewc holds on to what it kept of an earlier stage and has no effect here: only the last stage names",
        ),
        (
            [JOINED[0].replace("TWIN", "CROSSED"), "stages=[{train: [one], epochs: 1}]", "evaluate=[two]"],
            "data set 'two' is tested on images that 'one' trains on (first:",
        ),
        ([JOINED[0].replace("TWIN", "SITE"), TWO], "data sets 'one' and 'two' are trained on the same images (first:"),
        ([JOINED[0].replace("TWIN", "LINK"), TWO], "data sets 'one' and 'two' are trained on the same images (first:"),
        (
            [JOINED[0].replace("TWIN", "COPY"), TWO],
            "data sets 'one' and 'two' are trained on copies of the same images (",
        ),
        (
            [JOINED[0].replace("TWIN", "TESTED"), "stages=[{train: [one], epochs: 1}]", "evaluate=[two]"],
            "data set 'two' is tested on copies of images that 'one' trains on (",
        ),
    ],
)
def test_mistakes_of_sequences(site: Path, tmp_path: Path, changes: list[str], sentence: str) -> None:
    places = {"SITE": site, "COPY": shutil.copytree(site, tmp_path / "copy"), "LINK": tmp_path / "link"}
    places["TWIN"] = shutil.copytree(site, tmp_path / "twin", copy_function=copy_marked)
    places["LINK"].symlink_to(site)
    places["TESTED"] = tmp_path / "tested"
    for folder in ("query", "bounding_box_train", "bounding_box_test"):
        shutil.copytree(site / "bounding_box_train", places["TESTED"] / folder)
    places["CROSSED"] = tmp_path / "crossed"
    for folder in ("query", "bounding_box_train", "bounding_box_test"):
        places["CROSSED"].mkdir(exist_ok=True)
        (places["CROSSED"] / folder).symlink_to(site / "bounding_box_train")
    for word, place in places.items():
        changes = [change.replace(word, str(place)) for change in changes]
    told = refused("train", "small", *TINY, *changes, "--out", tmp_path / "run")
    assert sentence in " ".join(told.split())
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (["model.backbone=osnet_x0_25", "model.last_stride=1"], "model.last_stride: 1 is for the ResNet family"),
        (["model.backbone=osnet_x0_25", "model.ibn=a"], "choose one of osnet_ibn_x1_0"),
        (["model.backbone=osnet_x025"], "did you mean 'osnet_x0_25'?"),
        (["model.backbone=test_vit", "model.attention=se"], "model.attention: only ResNets and ResNeXts"),
        (["model.non_local=half"], "model.non_local: its places are known for ResNet-50"),
        (["model.backbone=test_vit", "model.stem_pool=fastreid"], "model.stem_pool: only ResNets"),
        (["model.stem_pool=strong"], "model.stem_pool"),
    ],
)
def test_impossible_models(site: Path, tmp_path: Path, changes: list[str], sentence: str) -> None:
    found = refused("train", "small", *TINY, *changes, "--data", site, "--out", tmp_path / "run")
    assert sentence in " ".join(found.split())


def test_unknown_recipe_and_folders(site: Path, tmp_path: Path) -> None:
    assert "did you mean 'small'?" in refused("train", "smal", "--data", site, "--out", tmp_path / "r")
    missing = tmp_path / "nowhere"
    assert str(missing) in refused("train", "small", *TINY, "--data", missing, "--out", tmp_path / "r")
    assert "no trained model" in refused("evaluate", missing)
    assert "missing recipe" in refused("train", "--out", tmp_path / "r")
    assert "no checkpoint" in refused("train", "--resume", "--out", tmp_path / "r")


def test_a_folder_that_holds_a_run_is_not_written_over(trained: Path, site: Path) -> None:
    before = (trained / "last.pt").read_bytes()
    assert "already holds a run" in refused("train", "small", *TINY, "--data", site, "--out", trained)
    assert (trained / "last.pt").read_bytes() == before


@pytest.mark.parametrize(
    ("content", "sentence"),
    [(b"", "is empty (0 bytes)"), (b"just some text", "is not a readable image"), (None, "is not a readable image")],
    ids=["zero bytes", "text", "truncated"],
)
def test_broken_images(site: Path, tmp_path: Path, content: bytes | None, sentence: str) -> None:
    copied = shutil.copytree(site, tmp_path / "site")
    victim = sorted((copied / "bounding_box_train").iterdir())[5]
    victim.write_bytes(victim.read_bytes()[:200] if content is None else content)
    found = refused("train", "small", *TINY, "--data", copied, "--out", tmp_path / "run")
    assert victim.name in found.replace("\n", "")
    assert sentence in found


def _keep(site: Path, target: Path, *, people: int, images: int) -> Path:
    copied = shutil.copytree(site, target)
    for path in sorted((copied / "bounding_box_train").iterdir()):
        mine = sorted((copied / "bounding_box_train").glob(f"{path.name[:4]}_*"))
        if int(path.name[:4]) > people or path not in mine[:images]:
            path.unlink()
    return copied


def test_one_identity_and_one_image_each(site: Path, tmp_path: Path) -> None:
    one = _keep(site, tmp_path / "one", people=1, images=4)
    assert "needs at least two people" in refused("train", "small", *TINY, "--data", one, "--out", tmp_path / "r")
    single = _keep(site, tmp_path / "single", people=8, images=1)
    assert "one image per identity" in refused("train", "small", *TINY, "--data", single, "--out", tmp_path / "r")


def test_gallery_without_matches(trained: Path, site: Path, tmp_path: Path) -> None:
    copied = shutil.copytree(site, tmp_path / "site")
    for path in sorted((copied / "bounding_box_test").iterdir()):
        path.rename(path.with_name("09" + path.name[2:]))
    assert "no query can be scored" in refused("evaluate", trained, "--data", copied)


def _table(count: int = 6) -> Embeddings:
    vectors = np.random.default_rng(0).normal(size=(count, 4)).astype(np.float32)
    pid, cam = np.arange(count) // 2, np.arange(count) % 2
    return Embeddings(vectors, pid, cam, np.where(cam == 0, "query", "gallery"))


def test_vectors_of_another_program(tmp_path: Path) -> None:
    file = tmp_path / "v.npz"
    _table().save(file)
    assert run("evaluate", "--embeddings", file).exit_code == 0
    with np.load(file) as archive:
        columns = dict(archive)
    broken = columns["vectors"].copy()
    broken[2, 1] = np.nan
    np.savez(tmp_path / "nan.npz", **(columns | {"vectors": broken}))
    assert "1 of 6 vectors hold NaN" in refused("evaluate", "--embeddings", tmp_path / "nan.npz")
    np.savez(tmp_path / "short.npz", vectors=columns["vectors"], pid=columns["pid"])
    assert "lacks cam, role" in refused("evaluate", "--embeddings", tmp_path / "short.npz")
    (tmp_path / "text.npz").write_text("no archive")
    assert "text.npz is no .npz file, as `passerby embed` writes it" in refused(
        "evaluate", "--embeddings", tmp_path / "text.npz"
    )
    assert "give either" in refused("evaluate")


def test_a_checkpoint_from_another_recipe(trained: Path, tmp_path: Path) -> None:
    copied = shutil.copytree(trained, tmp_path / "run")
    assert "optim.lr was 0.001 and is 0.5 now" in refused("train", "--resume", "optim.lr=0.5", "--out", copied)
    (copied / "last.pt").write_bytes(b"PK no checkpoint")
    assert "not a readable checkpoint" in refused("train", "--resume", "--out", copied)


def test_ctrl_c_saves_and_the_resumed_run_ends_alike(
    trained: Path, site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, steps, train_step = tmp_path / "run", itertools.count(1), TrainingStep.__call__

    def press_in_the_sixth_step(*about: object, **options: object) -> object:
        if next(steps) == 6:
            signal.raise_signal(signal.SIGINT)
        return train_step(*about, **options)

    with monkeypatch.context() as patched:
        patched.setattr(TrainingStep, "__call__", press_in_the_sixth_step)
        found = run("train", "small", *TINY, "--data", site, "--out", folder)
    assert found.exit_code == 130, found.output
    told = found.output.replace("\n", " ")
    assert "stopped before stage 1, epoch 2, batch 3; everything is saved" in told
    assert f"passerby train --resume --out {folder}" in told
    assert load_checkpoint(folder / "last.pt").epoch == 1
    done = run("train", "--resume", "--out", folder)
    assert done.exit_code == 0, done.output
    assert "resuming at stage 1 of 1, epoch 2, batch 3" in done.output
    assert "the model is only tested" in run("train", "--resume", "--out", folder).output
    first, second = (load_checkpoint(place / "last.pt") for place in (folder, trained))
    assert all(bool((first.embedder[key] == second.embedder[key]).all()) for key in first.embedder)


def test_help_is_quick_and_light() -> None:
    heavy = (
        "import sys; import passerby.cli; print([m for m in ('torch','timm','matplotlib','numba') if m in sys.modules])"
    )
    assert subprocess.check_output([sys.executable, "-c", heavy], text=True).strip() == "[]"
    times = []
    for _ in range(3):  # processor time, because a busy machine makes anybody wait
        began = os.times()
        subprocess.run([sys.executable, "-m", "passerby", "--help"], check=True, capture_output=True)
        ended = os.times()
        times.append(ended.children_user + ended.children_system - began.children_user - began.children_system)
    assert min(times) < 0.5


RUNNING = {"--device", "--batch", "--workers", "--precision"}
MODEL_COMMANDS = {
    **dict.fromkeys(("evaluate", "embed", "search", "verify", "interpolate", "adapt", "report"), RUNNING),
    **{f"visualise {name}": RUNNING for name in ("ranks", "features", "clusters", "distances", "attention")},
    **{name: {"--device"} for name in ("cluster", "export", "segment train", "segment score")},
    "segment apply": {"--device", "--batch"},
}


@pytest.mark.parametrize("command", MODEL_COMMANDS)
def test_commands_that_run_a_model_share_their_options(command: str) -> None:
    group = typer.main.get_command(app)
    for word in command.split():
        group = group.commands[word]
    assert MODEL_COMMANDS[command] <= {name for option in group.params for name in option.opts}


@pytest.mark.parametrize("words", [("--device", "gpu"), ("--device", "cuda"), ("--precision", "fp16")])
def test_a_device_that_is_not_there_is_one_sentence(
    trained: Path, site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, str]
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    found = run("embed", trained, site / "query", *words, "-o", tmp_path / "x.npz")
    assert found.exit_code == 2
    assert found.output.startswith("Error: ")
    assert len(found.output.splitlines()) == 1


def test_batch_and_workers_do_not_change_the_vectors(trained: Path, site: Path, tmp_path: Path) -> None:
    tables = []
    for words in ((), ("--batch", "2", "--workers", "1", "--device", "cpu", "--precision", "float32")):
        found = run("embed", trained, site / "query", *words, "-o", tmp_path / "x.npz")
        assert found.exit_code == 0, found.output
        tables.append(Embeddings.load(tmp_path / "x.npz").vectors)
    np.testing.assert_allclose(*tables, rtol=1e-4, atol=1e-5)


def test_memory_that_runs_out_is_one_sentence(
    trained: Path, site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")

    monkeypatch.setattr("passerby.evaluation.rank_matches", full)
    found = run("evaluate", trained)
    assert found.exit_code == 2
    assert "\nError: out of memory; " in found.output


def test_search_writes_what_it_finds(trained: Path, site: Path, tmp_path: Path) -> None:
    table, told, picture = tmp_path / "x.npz", tmp_path / "found.json", tmp_path / "found.png"
    assert run("embed", trained, site / "bounding_box_test", "-o", table).exit_code == 0
    words = ("search", table, site / "query", "--run", trained, "--count", "3", "--json", told, "--picture", picture)
    found = run(*words, "--other-cameras", "--threshold", "2")
    assert found.exit_code == 0, found.output
    answers = json.loads(told.read_text())["queries"]
    assert [Path(answer["query"]).parent.name for answer in answers] == ["query"] * 5
    assert all([one["rank"] for one in answer["found"]] == [1, 2, 3] for answer in answers)
    assert all(answer["camera"] == 1 and {one["cam"] for one in answer["found"]} == {2} for answer in answers)
    assert found.output.count("distance") == 15
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert "nothing within the threshold" in run(*words, "--threshold", "0").output


def test_search_refuses_a_picture_of_no_kind_before_it_looks(trained: Path, site: Path, tmp_path: Path) -> None:
    found = run("search", tmp_path / "no.npz", site, "--run", trained, "--picture", tmp_path / "x.gif")
    assert found.exit_code == 2
    assert "a figure is written as .png, .svg, .pdf" in found.output


def test_verify_compares_two_images(trained: Path, site: Path, tmp_path: Path) -> None:
    first, second = sorted((site / "query").iterdir())[:2]
    found = run("verify", trained, first, first, "--threshold", "0.1", "--json", tmp_path / "x.json")
    assert found.exit_code == 0, found.output
    assert "same person at threshold 0.1" in found.output
    assert json.loads((tmp_path / "x.json").read_text())["same"] is True
    assert "a decision needs --threshold" in run("verify", trained, first, second).output


def test_a_pattern_is_taken_wherever_a_folder_is_read(trained: Path, tmp_path: Path) -> None:
    people = tmp_path / "people"
    for identity in ("ann", "ben", "cleo", "dan"):
        for number, camera in enumerate(("door", "hall")):
            paint(people / f"{camera}-{identity}-{number}.jpg", seed=100 * len(identity))
    told = ("--pattern", "{cam}-{pid}-*")
    assert "does not begin like 0001_c2_; give a pattern (--pattern)" in " ".join(
        refused("data", "check", people).split()
    )
    for command in (("data", "check", people), ("data", "describe", people), ("evaluate", trained, "--data", people)):
        found = run(*command, *told)
        assert found.exit_code == 0, found.output
        assert "people" in found.output
    for words in ((people,), ("--data", people)):
        assert run("embed", trained, *words, *told, "-o", tmp_path / "v.npz").exit_code == 0
        assert set(Embeddings.load(tmp_path / "v.npz").cam.tolist()) == {0, 1}
    folder = tmp_path / "run"
    found = run("train", "small", *TINY, "data.sampler.identities=2", "--data", people, *told, "--out", folder)
    assert found.exit_code == 0, found.output
    assert list(json.loads((folder / "scores.json").read_text())) == ["people"]
    bare = refused("segment", "train", people, *told, "--out", tmp_path / "s.safetensors")
    assert "images of people has a mask" in bare
    assert "--pattern belongs to --data DIR" in refused("evaluate", trained, *told)
