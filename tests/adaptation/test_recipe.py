"""A new site without labels: from a finished run and a folder of images to clusters, or to one clear sentence."""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from passerby.adaptation.recipe import adaptation, methods, require_adaptation
from passerby.cli import app
from passerby.clustering.graph_settings import GraphClustering
from passerby.data.datasets import open_dataset
from passerby.distances.camera_norm import normalise_cameras
from passerby.encoders import Trained, load_trained
from passerby.errors import UserError
from passerby.inference.embed import WHOLE, embed, masked_view
from passerby.methods.clustered import unit
from passerby.recipe import load_recipe
from passerby.training.pseudo_labels import read_pseudo_labels, vectors_file
from passerby.training.session import train
from passerby.types import Embeddings, Split
from tests.conftest import draw_person, write_site

PEOPLE, IMAGES = 5, 6
SMALL = [f"method.contrast.cluster={{k1: {IMAGES}, k2: 2, min_samples: 3}}", "stages.0.iterations=2"]

ALL_NEAR = ["method.contrast.cluster.k1=25", "method.contrast.cluster.eps=0.99"]


def paint(folder, people=range(PEOPLE), *, images=IMAGES, cameras=(1, 2)):
    """Put images of people into one folder per camera; the names tell nobody."""
    generator = np.random.default_rng(1)
    for number, (person, turn) in enumerate((p, i) for p in people for i in range(images)):
        path = folder / f"cam{cameras[turn % len(cameras)]}" / f"{number:03d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(draw_person(500 + person, generator)).save(path)
    return folder


@pytest.fixture(scope="module")
def source(tiny, tmp_path_factory):
    folder = tmp_path_factory.mktemp("source") / "run"
    train(tiny("evaluate=[]", "stages.0.epochs=1"), folder)
    return folder


@pytest.fixture(scope="module")
def yard(tmp_path_factory):
    return paint(tmp_path_factory.mktemp("yard") / "yard")


def adapt(source, folder, out, *words):
    return CliRunner().invoke(app, ["adapt", str(source), str(folder), "--out", str(out), *words])


def refused(found):
    assert found.exit_code == 2, found.output
    lines = [line for line in found.output.strip().splitlines() if line.startswith("Error: ")]
    assert len(lines) == 1
    assert "Traceback" not in found.output
    return lines[0].removeprefix("Error: ")


@pytest.fixture(scope="module")
def adapted(source, yard, tmp_path_factory):
    """A run that was adapted, and what was said meanwhile."""
    out = tmp_path_factory.mktemp("adapted") / "run"
    found = adapt(source, yard, out, *SMALL, "stages.0.epochs=2")
    assert found.exit_code == 0, found.output
    return out, found.output


def test_it_says_how_many_people_there_are_and_how_sure_it_is(adapted):
    out, said = adapted
    figures = json.loads((out / "clusters.json").read_text())
    assert figures["images"] == PEOPLE * IMAGES
    doubt, images = figures["doubt"], f"in {PEOPLE * IMAGES} images"
    assert f"people ({figures['clusters']} clusters, {doubt['doubtful']} of them doubtful) {images}" in said
    assert "how sure: agreement with the last epoch" in said
    assert figures["truth"] is None
    assert -1 <= figures["silhouette"] <= 1
    assert [sorted(set(kept.cam.tolist())) for kept in read_pseudo_labels(out)] == [
        [1, 2]
    ] * 3  # as the folders count them
    assert 0 < doubt["fewest"] <= figures["clusters"] <= doubt["most"]
    assert "of them doubtful" in (out / "report.html").read_text()
    assert f"report: {out / 'report.html'}" in said


def test_every_image_is_in_the_table_with_its_cluster(adapted, yard):
    out, _ = adapted
    with (out / "clusters.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["path"] for row in rows] == sorted(map(str, yard.rglob("*.png")))
    clusters = [int(row["cluster"]) for row in rows]
    assert len({c for c in clusters if c >= 0}) == json.loads((out / "clusters.json").read_text())["clusters"]
    people = [int(row["path"][-7:-4]) // IMAGES for row in rows]
    together = {c: {p for p, found in zip(people, clusters, strict=True) if found == c} for c in set(clusters) - {-1}}
    assert all(len(found) == 1 for found in together.values()), "coats of one colour each are easily told apart"


def test_the_result_is_a_run_like_any_other(adapted, yard, tmp_path):
    out, _ = adapted
    found = CliRunner().invoke(app, ["embed", str(out), str(yard), "--out", str(tmp_path / "yard.npz")])
    assert f"{PEOPLE * IMAGES} vectors" in found.output
    found = CliRunner().invoke(
        app, ["export", str(out), "--to", "safetensors", "--out", str(tmp_path / "x.safetensors")]
    )
    assert found.exit_code == 0
    assert f"adapts {out}" not in refused(adapt(out, yard, out, *SMALL))  # the folder holds a run


def test_a_run_goes_on_with_the_same_source_and_folder_only(adapted, source, yard, tmp_path):
    out, _ = adapted
    before = (out / "clusters.csv").read_bytes()
    assert adapt(source, yard, out, "--resume").exit_code == 0
    assert (out / "clusters.csv").read_bytes() == before
    said = refused(adapt(source, paint(tmp_path / "court"), out, "--resume"))
    assert said == f"{out} adapts {source} to {yard}; name these, or choose another --out"


def test_a_run_goes_on_where_its_source_and_its_folder_have_moved_to(adapted, source, yard, tmp_path):
    out, _ = adapted
    recipe = load_recipe(str(out / "recipe.yaml"))
    (name,) = recipe.stages[-1].train
    gone = load_recipe(
        str(out / "recipe.yaml"), [f"datasets.{name}.root={tmp_path / 'a' / yard.name}", "init_from=/gone"]
    )
    found = require_adaptation(gone, source, yard, out=out)
    assert (found.init_from, found.dataset(name).root) == (str(source), str(yard))
    inner = tmp_path / "new" / yard.name
    inner.mkdir(parents=True)
    assert require_adaptation(gone, source, tmp_path / "new", out=out).dataset(name).root == str(inner)


def test_a_folder_whose_test_cannot_be_scored_is_adapted_to_without_it(source, tmp_path):
    generator = np.random.default_rng(0)
    for role, people in {"bounding_box_train": range(1, 9), "query": (20, 21), "bounding_box_test": (30, 31)}.items():
        (tmp_path / "apart" / role).mkdir(parents=True)
        for person, number in ((person, number) for person in people for number in range(8)):
            name = f"{person:04d}_c{number % 2 + 1}s1_{number:06d}_00.png"
            Image.fromarray(draw_person(person, generator)).save(tmp_path / "apart" / role / name)
    said = []
    recipe = adaptation(source, tmp_path / "apart", overrides=SMALL, say=said.append)
    assert recipe.tested == ()
    assert any(sentence.startswith("apart: not tested, since no query can be scored: of 16") for sentence in said)


def test_batches_are_as_small_as_the_people_who_were_found(source, yard, tiny):
    recipe = adaptation(source, yard, overrides=SMALL)
    assert recipe.data.sampler.identities == PEOPLE // 2
    assert recipe.input == tiny().input
    assert recipe.optim.lr == pytest.approx(tiny().optim.lr / 3)
    assert recipe.method.contrast.camera_norm == "standardise"
    assert adaptation(source, yard, overrides=[*SMALL, "data.sampler.identities=3"]).data.sampler.identities == 3


@pytest.mark.parametrize("method", methods())
def test_every_method_makes_a_recipe(source, yard, method):
    cluster = f"method.{method}.cluster={{k1: {IMAGES}, k2: 2, min_samples: 3}}"
    recipe = adaptation(source, yard, method=method, overrides=[cluster])
    assert [stage.labelled for stage in recipe.stages] == [False]
    assert list(recipe.stages[0].method.chosen) == [method]
    assert recipe.evaluate == ()


def test_a_data_set_is_tested_on_and_its_labels_only_measure(source, site):
    recipe = adaptation(source, site, overrides=SMALL)
    (name,) = recipe.tested
    assert recipe.dataset(name).kind == "market1501"
    assert not recipe.stages[0].labelled


def test_masks_are_used_as_in_the_source_and_missed_in_a_sentence(tiny, masks, tmp_path):
    source, yard, said = tmp_path / "masked", paint(tmp_path / "yard"), []
    train(tiny("evaluate=[]", "stages.0.epochs=1", f"masks={masks}", "foreground=mask"), source)
    bare = adaptation(source, yard, overrides=SMALL, say=said.append)
    assert bare.foreground.use == "none"
    assert said == [
        f"{source} was trained with foreground: mask, and masks of {yard} are missing, so training uses whole "
        "images; `passerby segment apply` makes masks"
    ]
    assert "a mask is missing for 30 of 30 training images of 'yard'" in refused(
        adapt(source, yard, tmp_path / "out", *SMALL, "foreground=mask")
    )
    for number, image in enumerate(sorted(yard.rglob("*.png"))):
        mask = yard / "masks" / image.relative_to(yard)
        mask.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.arange(64)[:, None] + np.zeros((64, 32), int) < 20 + number).save(mask)
    assert adaptation(source, yard, overrides=SMALL, say=said.append).foreground.use == "mask"
    assert len(said) == 1
    assert adapt(source, yard, tmp_path / "out", *SMALL).exit_code == 0
    trained = load_trained(tmp_path / "out")
    split = open_dataset(trained.recipe.dataset("yard"), "yard").train
    kept = Embeddings.load(vectors_file(tmp_path / "out", 1)).vectors
    views = (masked_view(split.masks, "foreground"), WHOLE)
    seen = [embed(trained.embedder, Split.of_paths(split.path), view=view) for view in views]
    cosine = [(unit(normalise_cameras(found, split.cam, how="standardise")) * kept).sum(1).min() for found in seen]
    assert cosine[0] > 0.999 > cosine[1]


def test_a_pattern_tells_cameras(source, tmp_path):
    folder = paint(tmp_path / "mine")
    for cam, name in ((1, "north"), (2, "south")):
        (folder / f"cam{cam}").rename(folder / name)
    recipe = adaptation(source, folder, pattern="{cam}/*", overrides=SMALL)
    assert recipe.method.contrast.camera_norm == "standardise"
    assert adaptation(source, folder, overrides=SMALL).method.contrast.camera_norm == "none"


@pytest.mark.parametrize(
    ("painted", "words", "said"),
    [
        ({"images": 3}, (), "fewer images than k1: 15 images with k1=15"),
        ({}, [*SMALL, *ALL_NEAR], "clustering put 30 of 30 images into one cluster"),
        ({}, [*SMALL, "method.contrast.cluster.min_samples=30"], "clustering found no cluster, only noise, in 30"),
        ({}, [*SMALL, "input.size=[64, 32]"], "was trained with input.size [32, 16], this recipe has [64, 32]"),
        ({}, ["--method", "contrst"], "--method contrst: it is one of contrast, "),
        ({}, ["method.contrast.epps=1"], "unknown key method.contrast.epps"),
    ],
)
def test_what_cannot_work_is_one_sentence_and_nothing_is_written(source, tmp_path, painted, words, said):
    folder = paint(tmp_path / "court", **painted)
    assert said in refused(adapt(source, folder, tmp_path / "out", *words))
    assert not (tmp_path / "out").exists()


def test_a_model_file_is_adapted_like_its_run(source, yard, tmp_path):
    file = Path(shutil.copy(source / "embedder.safetensors", tmp_path / "model.safetensors"))
    recipe, whole = (adaptation(place, yard, overrides=SMALL) for place in (file, source))
    assert recipe.init_from == str(file)
    assert (recipe.model, recipe.input, recipe.optim) == (whole.model, whole.input, whole.optim)
    found = adapt(file, yard, tmp_path / "out", *SMALL, "stages.0.epochs=1")
    assert found.exit_code == 0, found.output
    assert (tmp_path / "out" / "embedder.safetensors").exists()


def test_places_that_hold_nothing_are_told(source, yard, tmp_path):
    (tmp_path / "empty").mkdir()
    assert refused(adapt(source, tmp_path / "empty", tmp_path / "out")).endswith(
        f"folder {tmp_path / 'empty'} is empty"
    )
    (tmp_path / "empty" / "notes.txt").touch()
    assert "no image (" in refused(adapt(source, tmp_path / "empty", tmp_path / "out"))
    assert "gone does not exist" in refused(adapt(source, tmp_path / "gone", tmp_path / "out"))
    for place in (tmp_path / "gone", yard):
        assert refused(adapt(place, yard, tmp_path / "out")).startswith(f"{place} is not a run; name the folder")


def test_a_source_that_stopped_half_way_is_refused(tiny, yard, tmp_path):
    folder = tmp_path / "half"
    folder.mkdir()
    (folder / "recipe.yaml").write_text(tiny().dump())
    (folder / "last.pt").touch()
    with pytest.raises(UserError, match="the run is not finished, go on with: passerby train --resume --out "):
        adaptation(folder, yard)


def test_other_layouts_are_understood(source, tmp_path):
    site = write_site(tmp_path / "plain")
    (site / "bounding_box_train").rename(site / "crops")
    for name in ("query", "bounding_box_test"):
        (site / name).rename(tmp_path / name)
    recipe = adaptation(source, site, overrides=SMALL)
    assert recipe.dataset(recipe.stages[0].train[0]).kind == "images"


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_the_first_look_runs_where_the_recipe_trains(source, yard, monkeypatch, device):
    asked, clustered = [], []
    monkeypatch.setattr("passerby.device.find_device", lambda name: asked.append(name) or torch.device("cpu"))
    monkeypatch.setattr(Trained, "device", property(lambda trained: trained.inference.device))
    whole = GraphClustering.neighbours
    monkeypatch.setattr(
        GraphClustering,
        "neighbours",
        lambda self, vectors, *, device, cam: clustered.append(device) or whole(self, vectors, cam=cam),
    )
    recipe = adaptation(source, yard, overrides=[*SMALL, f"engine.device={device}"])
    assert recipe.engine.device == device
    assert asked[-1] == device
    assert clustered == [device]


def test_the_device_of_the_command_is_that_of_the_run(source, yard, tmp_path, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    said = refused(adapt(source, yard, tmp_path / "out", *SMALL, "--device", "cuda"))
    assert said == "device 'cuda' cannot be used, because torch sees no GPU here; auto and cpu can"
    assert not (tmp_path / "out").exists()
