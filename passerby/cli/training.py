"""`passerby demo` and `passerby train`: from a recipe to a run folder with a report."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from passerby.cli.options import DataFolder, Overrides, make_console

training_app = typer.Typer()


@training_app.command()
def demo(
    out: Annotated[Path, typer.Option(help="where to write")] = Path("demo"),
    seed: Annotated[int, typer.Option(help="of the generated people and of the training")] = 0,
) -> None:
    """Tell the whole story on generated people: data, training, exact scores, report."""
    from passerby.demo import run_demo

    report = run_demo(out, seed=seed, console=make_console())
    typer.echo(f"\nopen {report.resolve()} in a browser")


@training_app.command()
def train(
    recipe: Annotated[
        str | None, typer.Argument(help="a shipped recipe, a target or a YAML file", show_default=False)
    ] = None,
    overrides: Overrides = None,
    out: Annotated[Path, typer.Option(help="the run folder", show_default=False)] = Path("runs/latest"),
    data: DataFolder = None,
    resume: Annotated[bool, typer.Option("--resume", help="go on with the run in --out")] = False,
) -> None:
    """Train by a recipe, score the model and write a report."""
    from passerby.commands import train_and_report

    chosen = [*(overrides or []), *([f"root={json.dumps(data)}"] if data else [])]
    typer.echo(f"report: {train_and_report(recipe, chosen, out, resume=resume, console=make_console())}")
