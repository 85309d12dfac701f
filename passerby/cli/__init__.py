"""The command line. Each command parses, calls one public function and prints; nothing heavy is imported up here.

A mistake that a person can mend is one sentence on standard error and exit code 2. Ctrl-C is 130; training saves first.
"""

from __future__ import annotations

from typing import Annotated

import typer
from typer.core import TyperGroup

from passerby import __version__
from passerby.cli.bench import bench_app
from passerby.cli.data import data_app
from passerby.cli.models import models_app
from passerby.cli.recipes import recipe_app
from passerby.cli.runs import runs_app
from passerby.cli.segment import segment_app
from passerby.cli.training import training_app
from passerby.cli.visualise import visualise_app
from passerby.errors import UserError
from passerby.inference import out_of_memory
from passerby.threads import bound_spin


class _Commands(TyperGroup):
    """Turns the exceptions that are meant for people into sentences and exit codes."""

    def invoke(self, ctx: typer.Context) -> object:  # type: ignore[override]  # typer's own class, or click's, by version
        try:
            return super().invoke(ctx)
        except UserError as error:
            typer.secho(f"Error: {error}", fg="red", err=True)
            raise typer.Exit(2) from error
        except RuntimeError as error:
            if not out_of_memory(error):
                raise
            advice = "a smaller --batch or data.identities needs less, and --device cpu may have more"
            typer.secho(f"Error: out of memory; {advice}", fg="red", err=True)
            raise typer.Exit(2) from error
        except KeyboardInterrupt as interruption:
            typer.secho(str(interruption) or "interrupted", fg="yellow", err=True)
            raise typer.Exit(130) from interruption


app = typer.Typer(cls=_Commands, no_args_is_help=True, add_completion=False, help="Person re-identification.")


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"passerby {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="print the version")
    ] = False,
) -> None:
    """Person re-identification."""


app.add_typer(training_app)
app.add_typer(models_app)
app.add_typer(runs_app)
app.add_typer(data_app, name="data")
app.add_typer(segment_app, name="segment")
app.add_typer(recipe_app, name="recipe")
app.add_typer(bench_app, name="bench")
app.add_typer(visualise_app, name="visualise")


def main() -> None:
    """Run the command line."""
    bound_spin()
    app()
