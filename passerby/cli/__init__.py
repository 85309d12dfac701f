"""The command line. Each command parses, calls one public function and prints; heavy imports are local.

A mistake that a person can mend is one sentence on standard error and exit code 2, Ctrl-C is 130 (training saves
first), a bug is 70: see `passerby.cli.boundary`.
"""

from __future__ import annotations

import sys
import warnings
from typing import Annotated

import typer
from typer.core import TyperGroup

from passerby import __version__
from passerby.cli.association import association_app
from passerby.cli.bench import bench_app
from passerby.cli.boundary import (
    finish_output,
    print_any_name,
    print_plugin_warnings,
    report,
    require_working_directory,
)
from passerby.cli.calibration import calibration_app
from passerby.cli.data import data_app
from passerby.cli.exporting import exporting_app
from passerby.cli.gallery import gallery_app
from passerby.cli.models import models_app
from passerby.cli.options import ImportedFiles, import_files
from passerby.cli.output import guard_output
from passerby.cli.published import published_app
from passerby.cli.recipes import recipe_app
from passerby.cli.runs import runs_app
from passerby.cli.segment import segment_app
from passerby.cli.tracking import tracking_app
from passerby.cli.training import training_app
from passerby.cli.vectors import vectors_app
from passerby.cli.visualise import visualise_app
from passerby.errors import without_passwords
from passerby.threads import bound_spin


class _Commands(TyperGroup):
    """Command group that turns every exception into one sentence and an exit code."""

    def invoke(self, ctx: typer.Context) -> object:  # type: ignore[override]  # typer's own class, or click's, by version
        try:
            return super().invoke(ctx)
        except (typer.Exit, typer.Abort, BrokenPipeError):
            raise
        except (Exception, KeyboardInterrupt) as error:
            if hasattr(error, "exit_code"):  # how a command is used: typer explains that itself
                if hasattr(error, "message"):
                    error.message = without_passwords(str(error.message))
                raise
            raise typer.Exit(report(error)) from error


app = typer.Typer(
    cls=_Commands,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Person re-identification.",
)


def _print_version(requested: bool) -> None:
    if requested:
        typer.echo(f"passerby {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="print the version")
    ] = False,
    imports: ImportedFiles = None,
) -> None:
    """Person re-identification."""
    import_files(imports)


app.add_typer(training_app)
app.add_typer(models_app)
app.add_typer(vectors_app)
app.add_typer(exporting_app)
app.add_typer(calibration_app)
app.add_typer(published_app)
app.add_typer(tracking_app)
app.add_typer(association_app)
app.add_typer(runs_app)
app.add_typer(data_app, name="data")
app.add_typer(gallery_app, name="gallery")
app.add_typer(segment_app, name="segment")
app.add_typer(recipe_app, name="recipe")
app.add_typer(bench_app, name="bench")
app.add_typer(visualise_app, name="visualise")


def main() -> None:
    """Run the command line."""
    print_any_name()
    output = guard_output()
    code: object = 0
    try:
        require_working_directory()
        bound_spin()
        warnings.filterwarnings("ignore", "Image size .* exceeds limit")  # said in a sentence of our own
        print_plugin_warnings()
        app()
    except SystemExit as end:
        code = end.code
    except (Exception, KeyboardInterrupt) as error:  # outside of any command
        code = report(error)
    sys.exit(finish_output(output) or code)  # type: ignore[arg-type]  # what SystemExit carries is whatever it was given
