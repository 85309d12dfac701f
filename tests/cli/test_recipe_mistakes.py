"""Mistakes in recipes and overrides: each is one sentence and exit code 2, before anything is written."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.cli.invoking import TINY, refused
from tests.conftest import copy_marked

JOINED = (
    "datasets={one: {kind: market1501, root: SITE}, two: {kind: market1501, root: TWIN}}",
    "stages=[{train: [one, two]}]",
)


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
            "method.lwf needs an earlier stage and has no effect here: the recipe has",
        ),
        (
            [JOINED[0], "stages=[{train: [one], method: {average: {}}}, {train: [two]}]"],
            "only the first stage names it",
        ),
        (
            [JOINED[0], "stages=[{train: [one]}, {train: [two], method: {ewc: {}}}]"],
            "method.ewc needs state of an earlier stage and has no effect here: only the last stage names",
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
