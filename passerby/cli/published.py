"""`passerby import` and `passerby models`: published models of other projects."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from passerby.cli.options import file_to_write, make_console
from passerby.errors import UserError

if TYPE_CHECKING:
    from passerby.published.importing import PublishedModel

published_app = typer.Typer()


@published_app.command("import")
def import_model(
    file: Annotated[Path, typer.Argument(help="a published file: .pth, .pt, .tar, .bin, .safetensors")],
    out: Annotated[Path, typer.Option("--out", "-o", help="the .safetensors to write", callback=file_to_write)],
    family: Annotated[
        str | None,
        typer.Option("--as", help="family of the file, see `passerby models`; default: guessed", show_default=False),
    ] = None,
    changes: Annotated[
        list[str] | None, typer.Option("--set", help="what is no key of the file: heads=4", show_default=False)
    ] = None,
    size: Annotated[
        str | None, typer.Option(help="HxW of the images, e.g. 256x128; default: as published", show_default=False)
    ] = None,
) -> None:
    """Import a published model: a file for embed, evaluate, export, adapt and as model.weights of a recipe."""
    from passerby.published.importing import read_published

    if out.suffix != ".safetensors":
        raise UserError(f"import writes a file that ends in .safetensors, got {out}")
    model = read_published(file, family=family, overrides=changes or [], size=None if size is None else _size(size))
    model.save(out)
    for line in describe_published(model):
        typer.echo(line)
    typer.echo(out)


@published_app.command("models")
def list_models() -> None:
    """List the families of published models that `passerby import` reads, with licences and where to get them."""
    from rich.table import Table

    from passerby.published.table import FAMILIES

    table = Table("family", "models", "code", "weights", "size", "published scores (theirs)", "download")
    for name, kind in FAMILIES.items():
        scores = "\n".join(map(str, kind.scores))
        table.add_row(name, kind.summary, kind.code_licence, kind.weights_licence, kind.sizes, scores, kind.download)
    make_console().print(table)


def describe_published(model: PublishedModel) -> list[str]:
    """Return what was made of a published file, line by line."""
    embedder, imported = model.embedder, model.imported
    height, width = embedder.input.size
    settings = ", ".join(f"{key}={value}" for key, value in model.settings.model_dump(mode="json").items())
    mean, std = embedder.input.mean, embedder.input.std
    return [
        f"family: {model.family} ({model.reason})",
        f"settings: {settings or 'none'}",
        f"network: {imported.model.backbone}, {sum(p.numel() for p in embedder.parameters()):,} parameters",
        f"images: {height}x{width}, {embedder.input.interpolation}, mean {_list(mean)}, std {_list(std)}",
        f"vector: {imported.vector}, {embedder.dimension} numbers",
        *model.notes,
    ]


def _list(values: tuple[float, ...]) -> str:
    return "/".join(f"{value:.4g}" for value in values)


def _size(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"(\d+)x(\d+)", text)
    if match is None:
        raise UserError(f"--size {text}: write height x width, for example 256x128")
    return int(match[1]), int(match[2])
