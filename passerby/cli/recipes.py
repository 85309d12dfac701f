"""`passerby recipe`: what recipes and targets there are, and what they say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from passerby.cli.options import Overrides, RecipeName
from passerby.errors import UserError

recipe_app = typer.Typer(no_args_is_help=True, help="Look at recipes.")


@recipe_app.command("list")
def recipe_list() -> None:
    """List the shipped recipes, and the targets with the figures they aim at."""
    from passerby.targets import GOALS_NOTE, shipped_recipes, shipped_targets

    for name, description in shipped_recipes().items():
        typer.echo(f"{name:16} {description}")
    typer.echo(f"\nTargets, with their goals (mAP / rank-1 in percent; change of the mAP in points). {GOALS_NOTE}\n")
    targets = shipped_targets()
    names, words = (max(map(len, column)) for column in (targets, [target.differs for target in targets.values()]))
    for name, target in targets.items():
        typer.echo(f"{name:{names}}  {target.differs:{words}}  goal: {target.aim}")


@recipe_app.command("show")
def recipe_show(recipe: RecipeName, overrides: Overrides = None) -> None:
    """Print a recipe with every value, as it would run."""
    from passerby.recipe import load_recipe

    typer.echo(load_recipe(recipe, overrides or []).dump())


@recipe_app.command("schema")
def recipe_schema() -> None:
    """Print the JSON schema of recipes, for editors that complete and check YAML."""
    from passerby.recipe import Recipe

    typer.echo(json.dumps(Recipe.model_json_schema(), indent=2))


@recipe_app.command("draw")
def recipe_draw(
    recipe: RecipeName,
    overrides: Overrides = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="the .svg to write")] = Path("framework.svg"),
) -> None:
    """Draw the framework that a recipe runs."""
    from passerby.files import atomic_write
    from passerby.recipe import load_recipe
    from passerby.report.diagrams import draw

    if out.suffix.lower() != ".svg":
        raise UserError(f"{out}: the drawing is written as SVG, so its name must end in .svg")
    text = draw(load_recipe(recipe, overrides or []))
    with atomic_write(out) as file:
        file.write(text.encode())
    typer.echo(out)
