"""`passerby demo` and `passerby train`: from a recipe to a run folder with a report."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from passerby.cli.options import (
    DataFolder,
    ImportedFiles,
    Overrides,
    PatternText,
    import_files,
    make_console,
    runs_a_model,
)
from passerby.cli.runs import print_comparison
from passerby.inference import InferenceSettings

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
        str | None, typer.Argument(help="a shipped recipe, a reference row or a YAML file", show_default=False)
    ] = None,
    overrides: Overrides = None,
    out: Annotated[Path, typer.Option(help="the run folder")] = Path("runs/latest"),
    data: DataFolder = None,
    pattern: PatternText = None,
    epochs: Annotated[
        int | None,
        typer.Option(min=1, help="length of every stage; its schedule is stretched with it", show_default=False),
    ] = None,
    seeds: Annotated[
        str | None,
        typer.Option(help="train once for each, e.g. 0,1,2, into seed-N folders of --out", show_default=False),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="go on with the run in --out")] = False,
    imports: ImportedFiles = None,
) -> None:
    """Train by a recipe, score the model and write a report."""
    import_files(imports)
    from passerby.commands import train_and_report, train_seeds

    console = make_console()
    named = {"root": data, "pattern": pattern}
    chosen = [*(overrides or []), *(f"{key}={json.dumps(value)}" for key, value in named.items() if value)]
    if seeds is None:
        report = train_and_report(recipe, chosen, out, epochs=epochs, resume=resume, console=console)
        typer.echo(f"report: {report}")
        return
    from passerby.report.comparison import compare_runs

    print_comparison(
        compare_runs(train_seeds(recipe, chosen, out, seeds=seeds, epochs=epochs, resume=resume, console=console)),
        console,
    )


@training_app.command()
@runs_a_model
def adapt(
    run: Annotated[Path, typer.Argument(help="the folder of a finished run", show_default=False)],
    folder: Annotated[Path, typer.Argument(help="images of people whom nobody has named", show_default=False)],
    overrides: Overrides = None,
    out: Annotated[Path, typer.Option(help="the folder of the new run")] = Path("runs/adapted"),
    method: Annotated[
        str, typer.Option(help="contrast, pseudo, or another that finds people by clustering")
    ] = "contrast",
    pattern: Annotated[
        str | None, typer.Option(help="how names tell cameras, for example '{cam}/*'", show_default=False)
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="go on with the run in --out")] = False,
    *,
    inference: InferenceSettings,
) -> None:
    """Go on from a finished run with a folder without labels, and say how many people are in it."""
    from passerby.commands import adapt_and_report

    written = adapt_and_report(
        run,
        folder,
        out,
        method=method,
        pattern=pattern,
        overrides=overrides or [],
        inference=inference,
        resume=resume,
        console=make_console(),
    )
    typer.echo(f"report: {written}")
