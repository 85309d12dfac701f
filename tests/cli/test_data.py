"""`passerby data`, and patterns of file names wherever a folder is read."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from passerby.types import Embeddings
from tests.cli.invoking import TINY, paint, refused, run


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
