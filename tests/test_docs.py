"""What the README and the guides say exists: every command, recipe and file that they name; and the tutorials run."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from passerby.cli import app
from passerby.models.embedder import Embedder, save_embedder
from passerby.recipe import load_recipe
from passerby.reference_results import shipped_recipes

ROOT = Path(__file__).parents[1]
WRITTEN = sorted(path for path in (ROOT / "docs").rglob("*.md") if "generated" not in path.parts)
PAGES = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "benchmarks/README.md")] + WRITTEN
GENERATED = ROOT / "docs" / "generated"


def commands() -> list[str]:
    found = re.findall(r"\bpasserby ((?:data|recipe|bench) )?([a-z]+)", "\n".join(page.read_text() for page in PAGES))
    known = {"demo", "train", "evaluate", "embed", "search", "report"}
    return sorted({" ".join(filter(None, (group.strip(), word))) for group, word in found if group or word in known})


@pytest.mark.parametrize("command", commands())
def test_every_command_in_the_pages_answers_to_help(command: str) -> None:
    assert CliRunner().invoke(app, [*command.split(), "--help"]).exit_code == 0


def test_the_pages_name_the_two_commands() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for target in ("demo", "test"):
        assert f"make {target}" in PAGES[0].read_text()
        assert re.search(rf"^{target}:", makefile, re.MULTILINE)
    script = (ROOT / ".ci/run").read_text().splitlines()
    assert {"make test", "make test-slow"} <= set(script)


def test_links_between_pages_lead_somewhere() -> None:
    for page in PAGES:
        for target in re.findall(r"\]\((?!http)([^)#]+)\)", page.read_text()):
            place = (page.parent / target).resolve()
            assert place.exists() or place.parent == GENERATED, f"{page.name} links to {target}"


def test_recipes_named_in_the_readme_are_shipped() -> None:
    for name in re.findall(r"passerby train ([a-z_]+) ", PAGES[0].read_text()):
        assert name in shipped_recipes()


def test_overrides_in_the_readme_are_accepted() -> None:
    line = re.search(r"passerby train bag_of_tricks .*? --out \S+ (.*)", PAGES[0].read_text())
    assert line is not None
    assert load_recipe("bag_of_tricks", line[1].split()).losses.triplet is not None


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)


def shell_lines(page: Path) -> list[str]:
    return [line for block in blocks(page, "sh") for line in block.splitlines() if line]


def run_line(line: str) -> str:
    program, *arguments = shlex.split(line)
    if program != "passerby":
        assert program in ("mkdir", "cp")
        return subprocess.run(line, shell=True, check=True, capture_output=True, text=True).stdout
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, f"{line}: {done.output}"
    return done.output


@pytest.mark.slow
def test_the_tutorial_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    lines = shell_lines(ROOT / "docs" / "tutorial.md")
    assert len(lines) >= 6
    for line in lines:
        run_line(line)
    assert (tmp_path / "runs" / "first" / "report.html").stat().st_size > 100_000


HURRIED = (
    (r"--train-people \d+ --test-people \d+ --images \d+", "--train-people 8 --test-people 3 --images 4"),
    (r"epochs: \d+", "epochs: 1"),
    (r"^passerby train (\S+)", r"passerby train \1 model.backbone=test_resnet model.ibn=none test.background_bias=off"),
    (r"--alphas \S+", "--alphas 0.5"),
)
"""What a test changes of a tutorial that would take minutes; the commands and the recipe stay."""


def hurried(text: str) -> str:
    for pattern, instead in HURRIED:
        text = re.sub(pattern, instead, text, flags=re.MULTILINE)
    return text


@pytest.mark.slow
def test_the_tutorial_of_a_third_site_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = ROOT / "docs" / "tutorial_sites.md"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(
        "passerby.commands.training.write_report", lambda folder, **_: folder
    )  # `passerby report` writes one anyway
    (recipe,) = blocks(page, "yaml")
    (tmp_path / "sites.yaml").write_text(hurried(recipe))
    lines = [hurried(line) for line in shell_lines(page)]
    assert sum(line.startswith("passerby train") for line in lines) == 3
    for line in lines:
        run_line(line)
    words = (tmp_path / "runs" / "held" / "report.html").read_text()
    assert re.search(r"Training on station (cost|gave) plaza .* in plain", words)
    assert "stored" in words


@pytest.mark.slow
def test_the_tutorial_without_labels_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("passerby.commands.training.write_report", lambda folder, **_: folder)
    pattern, instead = HURRIED[2]
    said = [run_line(re.sub(pattern, instead, line)) for line in shell_lines(ROOT / "docs" / "tutorial_unlabelled.md")]
    assert sum("clusters: people" in text for text in said) == 1
    images = {path.name for path in (tmp_path / "crops").iterdir()}
    for table in (tmp_path / "tighter.csv", tmp_path / "runs" / "campus" / "clusters.csv"):
        rows = [line.rpartition(",") for line in table.read_text().splitlines()[1:]]
        assert {Path(path).name for path, _, _ in rows} == images
        assert len({cluster for _, _, cluster in rows} - {"-1"}) > 1


@pytest.fixture
def beside_a_run(tiny, site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Go where `runs/first` is a run, whose model has learnt nothing, and `crops` a data set."""
    recipe = tiny()
    run = tmp_path / "runs" / "first"
    run.mkdir(parents=True)
    save_embedder(Embedder(recipe.model, recipe.input), run / "embedder.safetensors", recipe=recipe.dump())
    (run / "recipe.yaml").write_text(recipe.dump())
    (tmp_path / "crops").symlink_to(site, target_is_directory=True)
    monkeypatch.chdir(tmp_path)


@pytest.mark.usefixtures("beside_a_run")
def test_the_python_page_runs(capsys: pytest.CaptureFixture[str]) -> None:
    found = blocks(ROOT / "docs" / "guide" / "python.md", "python")
    names: dict[str, object] = {}
    for number, block in enumerate(found, start=1):
        exec(compile(block, f"block {number} of python.md", "exec"), names)
    assert len(found) >= 9
    assert "mAP" in capsys.readouterr().out


@pytest.mark.usefixtures("beside_a_run")
def test_the_python_of_the_page_on_trackers_runs() -> None:
    names: dict[str, object] = {}
    (block,) = blocks(ROOT / "docs" / "guide" / "trackers.md", "python")
    exec(compile(block, "trackers.md", "exec"), names)
    distances = names["distances"]
    assert isinstance(distances, np.ndarray)
    assert distances.shape == (2, 2)
    assert abs(distances[0, 0]) < 1e-6 < distances[0, 1]


@pytest.mark.usefixtures("beside_a_run")
def test_the_python_of_the_readme_runs() -> None:
    from passerby.data.decoding import decode

    Path("runs/mine").symlink_to("first", target_is_directory=True)
    files = sorted(Path("crops/query").glob("*.jpg"))
    for file, name in zip(files, ("a.jpg", "b.jpg"), strict=False):
        shutil.copy(file, name)
    block = "\n".join(blocks(PAGES[0], "python"))
    names = {
        "images": [decode(str(file)) for file in files],
        "frame_bgr": np.zeros((90, 60, 3), np.uint8),
        "boxes_xyxy": [[1, 2, 30, 70], [9, 9, 50, 88]],
    }
    exec(compile(block, "README.md", "exec"), names)
    assert names["vectors"].shape[0] == 2


def test_recipes_in_the_guides_read() -> None:
    from passerby.recipe import find_recipe, make_recipe
    from passerby.settings import merge, parse_yaml, read_yaml

    found = [(page, block) for page in WRITTEN for block in blocks(page, "yaml")]
    assert found
    for page, block in found:
        data = parse_yaml(block, source=page.name)
        assert isinstance(data, dict)
        parent = data.pop("extends", None)
        base = {} if parent is None else read_yaml(find_recipe(str(parent)), find_recipe)
        make_recipe(merge(base, data), source=page.name)
