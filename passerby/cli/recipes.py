"""`passerby recipe`: list, show, compare and draw recipes and reference rows."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from passerby.cli.options import Overrides, RecipeName, file_to_write, make_console
from passerby.errors import UserError

if TYPE_CHECKING:
    from passerby.reference_results import ReferenceRow

recipe_app = typer.Typer(no_args_is_help=True, help="List, show, compare and draw recipes.")


@recipe_app.command("list")
def recipe_list(
    family: Annotated[
        str | None, typer.Argument(help="prefix of reference rows, for example uda/; all = every row")
    ] = None,
) -> None:
    """List the shipped recipes and the families of reference rows, or the rows of one family with their figures."""
    from passerby.reference_results import REFERENCE_NOTE, shipped_recipes, shipped_rows

    rows = shipped_rows()
    if family is not None:
        listed = {name: row for name, row in rows.items() if family == "all" or name.startswith(family)}
        if not listed:
            raise UserError(f"no reference row begins with {family!r}; families: {', '.join(_families(rows))}")
        _print_rows(listed)
        typer.echo(f"mAP / rank-1 in percent; change of the mAP in points. {REFERENCE_NOTE}")
        return
    _print_columns(shipped_recipes())
    typer.echo(f"\nReference rows, listed by `passerby recipe list FAMILY`. {REFERENCE_NOTE}\n")
    counts = {f: sum(name.startswith(f) for name in rows) for f in _families(rows)}
    _print_columns({f: f"{count} rows, such as {_first(rows, f)}" for f, count in counts.items()})


def _families(rows: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(f"{name.partition('/')[0]}/" for name in rows))


def _first(rows: Iterable[str], family: str) -> str:
    return next(name for name in rows if name.startswith(family))


def _print_columns(lines: Mapping[str, str]) -> None:
    """Print names and descriptions, wrapped to the width of the terminal."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    for name, description in lines.items():
        table.add_row(Text(name), Text(description))
    make_console().print(table)


def _print_rows(rows: Mapping[str, ReferenceRow]) -> None:
    """Print the name and results of each row on a line, and its differences below."""
    from rich.padding import Padding
    from rich.text import Text

    console = make_console()
    for name, row in rows.items():
        console.print(Text(f"{name}  {row.summary}"))
        console.print(Padding(Text(row.differs, style="dim"), (0, 0, 0, 4)))


@recipe_app.command("show")
def recipe_show(
    recipe: RecipeName,
    overrides: Overrides = None,
    changes: Annotated[bool, typer.Option("--changes", help="only settings that differ from the defaults")] = False,
) -> None:
    """Print the resolved recipe with all settings."""
    from passerby.recipe import load_recipe

    resolved = load_recipe(recipe, overrides or [])
    typer.echo(resolved.dump_changes() if changes else resolved.dump())


@recipe_app.command("diff")
def recipe_diff(
    before: RecipeName,
    after: Annotated[str, typer.Argument(help="the other recipe, or a run folder", show_default=False)],
) -> None:
    """Print the settings that differ between two recipes or two runs."""
    from rich.table import Table

    from passerby.recipe import load_recipe
    from passerby.recipe.changes import changes

    first, second = (f"{name}/recipe.yaml" if Path(name).is_dir() else name for name in (before, after))
    differences = changes(load_recipe(first), load_recipe(second))
    if not differences:
        typer.echo("the recipes are equal")
        return
    table = Table("setting", before, after)
    for change in differences:
        table.add_row(change.key, change.before, change.after)
    make_console().print(table, markup=False)


@recipe_app.command("schema")
def recipe_schema() -> None:
    """Print the JSON schema of recipes, for completion and validation in editors."""
    from passerby.plugins import load_plugins
    from passerby.recipe import Recipe

    load_plugins()
    typer.echo(json.dumps(Recipe.model_json_schema(), indent=2))


@recipe_app.command("draw")
def recipe_draw(
    recipe: RecipeName,
    overrides: Overrides = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="the .svg to write", callback=file_to_write)] = Path(
        "framework.svg"
    ),
) -> None:
    """Draw the training pipeline of a recipe."""
    from passerby.files import atomic_write
    from passerby.recipe import load_recipe
    from passerby.report.diagrams import draw

    if out.suffix.lower() != ".svg":
        raise UserError(f"{out}: the drawing is written as SVG, so its name must end in .svg")
    text = draw(load_recipe(recipe, overrides or []))
    with atomic_write(out) as file:
        file.write(text.encode())
    typer.echo(out)
