"""`passerby recipe`, `--version` and `--help`."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import passerby
from tests.cli.invoking import refused, run


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
