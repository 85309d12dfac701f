"""What the README and the guides say exists: every `passerby` command, recipe and file that they name."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from passerby.cli import app
from passerby.recipe import load_recipe
from passerby.targets import shipped_recipes

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "benchmarks/README.md")]


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
    assert "make test" in (ROOT / ".ci/run").read_text()


def test_links_between_pages_lead_somewhere() -> None:
    for page in PAGES:
        for target in re.findall(r"\]\((?!http)([^)#]+)\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_recipes_named_in_the_readme_are_shipped() -> None:
    for name in re.findall(r"passerby train ([a-z_]+) ", PAGES[0].read_text()):
        assert name in shipped_recipes()


def test_overrides_in_the_readme_are_accepted() -> None:
    line = re.search(r"passerby train bag_of_tricks .*? --out \S+ (.*)", PAGES[0].read_text())
    assert line is not None
    assert load_recipe("bag_of_tricks", line[1].split()).losses.triplet is not None
