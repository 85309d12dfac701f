"""What the tables over three sites of people share: where the sites are, and what it takes to do a run only once."""

from __future__ import annotations

import glob
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from passerby.recipe import load_recipe
from passerby.training.session import train

FILE = Path(__file__).with_name("sites.yaml")
SITES = {"plaza": "market1501", "campus": "dukemtmc", "station": "msmt17"}
PLAZA = "{train: [plaza], epochs: 20}"


def overrides(sites: Path, seed: int) -> list[str]:
    """Return what all runs are told."""
    roots = ", ".join(
        f"{name}: {{kind: {kind}, root: {json.dumps(str(sites / name))}}}" for name, kind in SITES.items()
    )
    return [f"datasets={{{roots}}}", f"engine.seed={seed}"]


def once(folder: Path, changes: Sequence[str]) -> None:
    """Train by the recipe of the tables with some changes, unless it was done; go on where it was broken off."""
    if not (folder / "scores.json").is_file():
        train(load_recipe(str(FILE), changes), folder, start="resume" if (folder / "last.pt").is_file() else "fresh")


def last_scores(folder: Path) -> dict[str, float]:
    """Return the mAP in percent of each site at the end of a run."""
    entry = json.loads((folder / "scores.json").read_text())
    return {name: found["plain"]["mAP"] for name, found in entry.items()}


def last_rank1(folder: Path) -> dict[str, float]:
    """Return the rank-1 in percent of each site at the end of a run."""
    entry = json.loads((folder / "scores.json").read_text())
    return {name: found["plain"]["cmc"]["1"] for name, found in entry.items()}


def finished(out: Path, name: str) -> list[Path]:
    """Return the folders of that name, one for each seed, whose runs have come to their end."""
    return [path.parent for path in sorted(out.glob(f"seed-*/{glob.escape(name)}/scores.json"))]


def folder_name(row: str) -> str:
    """Return the name of a line of a table as that of a folder."""
    return row.replace(" ", "_").replace("^", "")


def over_seeds(values: Sequence[float]) -> str:
    """Return mean and standard deviation over seeds in a cell's words; one seed has no deviation, none is empty."""
    if not len(values):
        return ""
    return f"{np.mean(values):.1f} ± {np.std(values, ddof=1):.1f}" if len(values) > 1 else f"{values[0]:.1f}"


def line(*cells: str) -> str:
    """Return a line of a table as Markdown."""
    return f"| {' | '.join(cells)} |"
