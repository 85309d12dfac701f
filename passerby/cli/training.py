"""`passerby demo`, `passerby train` and `passerby adapt`: from a recipe to a run folder with a report."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Literal

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
from passerby.device import InferenceSettings

training_app = typer.Typer()


@training_app.command()
def demo(
    out: Annotated[Path, typer.Option(help="output folder")] = Path("demo"),
    seed: Annotated[int, typer.Option(help="random seed of the generated data and the training")] = 0,
    cameras: Annotated[
        bool, typer.Option("--cameras", help="clips of three cameras, and one identity per person over them")
    ] = False,
) -> None:
    """Run the whole pipeline on synthetic data: generation, training, evaluation, report."""
    from passerby.demo import run_camera_demo, run_demo

    report = (run_camera_demo if cameras else run_demo)(out, seed=seed, console=make_console())
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
        typer.Option(
            min=1, help="epochs of every stage; its learning-rate schedule is stretched alike", show_default=False
        ),
    ] = None,
    seeds: Annotated[
        str | None,
        typer.Option(help="seeds of repeated runs, e.g. 0,1,2, written to seed-N folders in --out", show_default=False),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="resume the run in --out")] = False,
    imports: ImportedFiles = None,
) -> None:
    """Train a model by a recipe, evaluate it and write a report."""
    import_files(imports)
    from passerby.commands.training import train_and_report, train_seeds

    console = make_console()
    named = {"root": data, "pattern": pattern}
    assignments = [*(overrides or []), *(f"{key}={json.dumps(value)}" for key, value in named.items() if value)]
    if seeds is None:
        report = train_and_report(recipe, assignments, out, epochs=epochs, resume=resume, console=console)
        typer.echo(f"report: {report}")
        return
    from passerby.report.comparison import compare_runs

    print_comparison(
        compare_runs(train_seeds(recipe, assignments, out, seeds=seeds, epochs=epochs, resume=resume, console=console)),
        console,
    )


@training_app.command()
@runs_a_model
def adapt(
    run: Annotated[
        Path, typer.Argument(help="the folder of a finished run; with --backbone any model", show_default=False)
    ],
    folder: Annotated[Path, typer.Argument(help="folder of unlabelled images", show_default=False)],
    overrides: Overrides = None,
    out: Annotated[Path, typer.Option(help="the folder of the new run")] = Path("runs/adapted"),
    method: Annotated[
        str | None,
        typer.Option(
            help="method of pseudo-labels: contrast (default), pseudo, or another that clusters; with --backbone of a "
            "second stage",
            show_default=False,
        ),
    ] = None,
    backbone: Annotated[
        str | None,
        typer.Option(
            help="train a new network, for example resnet18, from a model that only has to run (.onnx, .xml, ...)",
            show_default=False,
        ),
    ] = None,
    pattern: Annotated[
        str | None, typer.Option(help="pattern of the camera in file names, for example '{cam}/*'", show_default=False)
    ] = None,
    camera_norm: Annotated[
        Literal["none", "centre", "standardise", "auto"] | None,
        typer.Option(
            help="per camera, before clustering; default: standardise where there are several cameras",
            show_default=False,
        ),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="resume the run in --out")] = False,
    *,
    inference: InferenceSettings,
) -> None:
    """Adapt a finished run to a folder of unlabelled images (unsupervised domain adaptation)."""
    from passerby.commands.training import adapt_and_report
    from passerby.methods.table import DEFAULT_CLUSTERING, DISTILLATION, PLAIN_CLUSTERING

    student = (PLAIN_CLUSTERING, DISTILLATION)
    norms = (method,) if method is not None else student if backbone is not None else (DEFAULT_CLUSTERING,)
    assignments = [] if camera_norm is None else [f"method.{name}.camera_norm={camera_norm}" for name in norms]
    written = adapt_and_report(
        run,
        folder,
        out,
        method=method,
        backbone=backbone,
        pattern=pattern,
        overrides=[*assignments, *(overrides or [])],
        inference=inference,
        resume=resume,
        console=make_console(),
    )
    typer.echo(f"report: {written}")
