"""`passerby compare`: comparison of finished runs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from passerby.cli.options import JsonFile, make_console
from passerby.files import write_json

if TYPE_CHECKING:
    from rich.console import Console

    from passerby.report.comparison import RunComparison

runs_app = typer.Typer()


@runs_app.command()
def compare(
    runs: Annotated[
        list[Path], typer.Argument(help="run folders, or folders of them as `train --seeds` writes", show_default=False)
    ],
    json_file: JsonFile = None,
) -> None:
    """Compare finished runs: mean and standard deviation over seeds, and differences of their recipes."""
    from passerby.report.comparison import compare_runs

    comparison = compare_runs(runs)
    print_comparison(comparison, make_console())
    if json_file is not None:
        write_json(json_file, comparison.to_json())


def print_comparison(comparison: RunComparison, console: Console) -> None:
    """Print the table of a comparison, then the settings in which its groups differ."""
    from rich.table import Column, Table

    from passerby.report.comparison import FIGURES

    table = Table("", Column("runs", overflow="fold"), "seeds", Column("data set", overflow="fold"), *FIGURES)
    for number, group in enumerate(comparison.groups, start=1):
        for place, dataset in enumerate(comparison.datasets):
            figures = group.figures(dataset)
            about = (str(number), group.name, ", ".join(map(str, group.seeds))) if place == 0 else ("", "", "")
            table.add_row(*about, dataset, *(str(figures.get(name, "")) for name in FIGURES))
    console.print(table)
    for number, group in enumerate(comparison.groups[1:], start=2):
        differs = ", ".join(f"{change} (was {change.before})" for change in group.changes)
        console.print(f"{number} differs from 1 in {differs}", highlight=False, markup=False, soft_wrap=True)
    for caveat in comparison.caveats:
        console.print(caveat, style="yellow", highlight=False, markup=False, soft_wrap=True)
    if any(len(group.runs) > 1 for group in comparison.groups):
        console.print("mean ± sample standard deviation over the seeds, in percent", highlight=False)
