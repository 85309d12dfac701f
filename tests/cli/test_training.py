"""`passerby train`: what a run leaves, how it is interrupted and resumed, and data that cannot be trained on."""

from __future__ import annotations

import itertools
import json
import re
import shutil
import signal
from pathlib import Path

import pytest
import timm
import torch

from passerby.training.checkpoint import load_checkpoint
from passerby.training.step import TrainingStep
from tests.cli.invoking import TINY, refused, run


def test_a_run_leaves_everything_that_the_design_promises(trained: Path) -> None:
    names = {path.name for path in trained.iterdir()}
    expected = {"recipe.yaml", "environment.json", "log.jsonl", "last.pt", "embedder.safetensors", "scores.json"}
    assert expected | {"report.html", "embeddings"} <= names


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
    assert "has 1 known identity; training needs at least two" in refused(
        "train", "small", *TINY, "--data", one, "--out", tmp_path / "r"
    )
    single = _keep(site, tmp_path / "single", people=8, images=1)
    assert "one image per identity" in refused("train", "small", *TINY, "--data", single, "--out", tmp_path / "r")


def test_a_checkpoint_from_another_recipe(trained: Path, tmp_path: Path) -> None:
    copied = shutil.copytree(trained, tmp_path / "run")
    assert "optim.lr was 0.001 and is now 0.5" in refused("train", "--resume", "optim.lr=0.5", "--out", copied)
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
