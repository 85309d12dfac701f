"""The pages on extending, followed to the letter in a copy of the project: its own tests take up what is added."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def blocks(page: str) -> list[str]:
    text = (ROOT / "docs" / "extend" / page).read_text()
    return re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def insert(file: Path, text: str, *, before: str) -> None:
    """Put lines into a file, as a reader of a page would."""
    content = file.read_text()
    assert content.count(before) == 1, f"{file.name} holds {before!r} {content.count(before)} times"
    file.write_text(content.replace(before, text + before))


def add_loss(package: Path) -> None:
    module, _, imported, line = blocks("loss.md")
    table = package / "losses" / "table.py"
    (package / "losses" / "length.py").write_text(module)
    insert(table, imported, before="from passerby.losses.loss import")
    insert(table, line, before='        "center": ')


def add_dataset(package: Path) -> None:
    module, _, imported, line = blocks("dataset.md")
    datasets = package / "data" / "datasets.py"
    (package / "data" / "readers" / "square.py").write_text(module)
    insert(datasets, imported, before="from passerby.data.readers.table import")
    insert(datasets, line, before='        "folder": ')


def add_backbone(package: Path) -> None:
    module, _, _, imported, line = blocks("backbone.md")
    backbones = package / "models" / "backbones.py"
    (package / "models" / "strided.py").write_text(module)
    insert(backbones, imported, before="from passerby.models.surgery import")
    insert(backbones, line, before="    },\n)\n")


def add_sampler(package: Path) -> None:
    module, _, imported, line = blocks("sampler.md")
    table = package / "data" / "samplers" / "table.py"
    (package / "data" / "samplers" / "one_camera.py").write_text(module)
    insert(table, imported, before="from passerby.data.samplers.per_domain import")
    insert(table, line, before='        "per_domain": ')


@pytest.fixture(scope="module")
def extended(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the project in which every page was followed."""
    copy = tmp_path_factory.mktemp("extended")
    for name in ("passerby", "tests"):
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__", "oracles_data"))
    shutil.copy(ROOT / "pyproject.toml", copy)
    add_loss(copy / "passerby")
    add_dataset(copy / "passerby")
    add_backbone(copy / "passerby")
    add_sampler(copy / "passerby")
    return copy


def run(extended: Path, *words: str) -> str:
    done = subprocess.run(
        [sys.executable, *words],
        cwd=extended,
        env={**os.environ, "PYTHONPATH": str(extended)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_data_set_of_the_page_is_read(extended: Path, site: Path) -> None:
    words = ("-m", "passerby", "data", "describe", str(site), "--kind", "square")
    assert "48" in run(extended, *words)


BUILT = """
from passerby.errors import UserError
from passerby.models.backbones import make_backbone
print(make_backbone("strided_large", (64, 32)).dimension)
try:
    make_backbone("strided_large", (64, 32), pretrained=True)
except UserError as error:
    print(error)
"""


def test_the_network_of_the_page_is_built(extended: Path) -> None:
    dimension, refusal = run(extended, "-c", BUILT).splitlines()
    assert dimension == "256"
    assert "comes without pretrained weights" in refusal


@pytest.mark.slow
def test_the_tests_of_the_project_take_up_what_the_pages_add(extended: Path) -> None:
    chosen = [
        "tests/contracts/test_losses.py",
        "tests/report/test_drawing_is_whole.py",
        "passerby/losses/length.py",
        "tests/data/samplers/test_sampler.py",
        "passerby/data/samplers/one_camera.py",
    ]
    names = "length or softmax or one_camera"
    told = run(extended, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", names, *chosen)
    count = int(re.search(r"(\d+) passed", told)[1])
    assert count >= 16, told
