"""`passerby import` and `passerby models`: published models of other projects."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from passerby.cli.options import file_to_write
from passerby.errors import UserError

if TYPE_CHECKING:
    from passerby.published.family import PublishedFamily
    from passerby.published.importing import PublishedModel

published_app = typer.Typer()


@published_app.command("import")
def import_model(
    file: Annotated[
        str, typer.Argument(help="a published file: .pth, .pt, .tar, .bin, .safetensors, or hf://OWNER/NAME/FILE")
    ],
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


catalogue_app = typer.Typer(invoke_without_command=True, help="List the families of published models.")
published_app.add_typer(catalogue_app, name="models")


@catalogue_app.callback()
def list_models(ctx: typer.Context) -> None:
    """List the families of published models that `passerby import` reads, with licences and where to get them."""
    if ctx.invoked_subcommand is None:
        from passerby.published.table import FAMILIES

        typer.echo("\n\n".join(describe_family(name, kind) for name, kind in FAMILIES.items()))
        typer.echo("\nScores are the authors' own, not measured here. Nothing is downloaded by itself.")


@catalogue_app.command("get")
def get_model(
    name: Annotated[
        str | None, typer.Argument(help="which one; without a name, all are listed", show_default=False)
    ] = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="the folder to write to")] = Path("models"),
) -> None:
    """Download a published model: the only command that downloads, with the licence, the size and a checked hash."""
    from passerby.console import bar, make_console
    from passerby.published.download import describe_remote, fetch, hash_of, list_remote, remote_model

    if name is None:
        typer.echo("\n".join(list_remote()))
        typer.echo("passerby models get NAME prints the addresses and downloads to models/ (--out)")
        return
    model = remote_model(name)
    typer.echo("\n".join(describe_remote(name, model)))
    console, paths = make_console(), []
    for file in model.files:
        with bar(file.name, console) as advance:
            paths.append(fetch(file, out, progress=advance))
        checked = "as published" if file.sha256 else f"not published; this file has SHA-256 {hash_of(paths[-1])}"
        typer.echo(f"{paths[-1]}: hash {checked}")
    if paths:
        typer.echo(f"use: {model.use.replace('FILE', str(paths[0]))}")


def describe_family(name: str, kind: type[PublishedFamily]) -> str:
    """Return the facts of a family in a few lines: models, licences, size, scores, what to download, settings."""
    settings = {key: field.default for key, field in kind.settings_class.model_fields.items()}
    lines = [
        f"images    {kind.sizes}",
        f"licence   code {kind.code_licence}; weights {kind.weights_licence}",
        f"download  {kind.download}",
        *(f"{'scores' if number == 0 else '':9} {score}" for number, score in enumerate(kind.scores)),
        *([f"--set     {', '.join(f'{key}={_word(value)}' for key, value in settings.items())}"] if settings else []),
    ]
    return "\n".join([f"{name}  {kind.summary}", *(f"    {line}" for line in lines)])


def describe_published(model: PublishedModel) -> list[str]:
    """Return what was made of a published file, line by line."""
    embedder, imported = model.embedder, model.imported
    height, width = embedder.input.size
    values = {key: value for key, value in model.settings.model_dump(mode="json").items() if key not in imported.idle}
    plain = {"distance": imported.distance, "last_stride": imported.model.last_stride, "pool": imported.model.pool}
    chosen = plain | imported.model.architecture
    settings = ", ".join(
        f"{key}={chosen[key]} (auto)" if value == "auto" and key in chosen else f"{key}={_word(value)}"
        for key, value in values.items()
    )
    mean, std = embedder.input.mean, embedder.input.std
    return [
        f"file: {model.file}, SHA-256 {model.digest}",
        f"family: {model.family} ({model.reason})",
        f"settings: {settings or 'none'}",
        f"network: {imported.model.backbone}, {sum(p.numel() for p in embedder.parameters()):,} parameters",
        f"images: {height}x{width}, {embedder.input.interpolation}, mean {_list(mean)}, std {_list(std)}",
        f"vector: {imported.vector}, {embedder.dimension} numbers, {imported.distance} distance",
        *model.notes,
    ]


def _word(value: object) -> str:
    return "null" if value is None else str(value)


def _list(values: tuple[float, ...]) -> str:
    return "/".join(f"{value:.4g}" for value in values)


def _size(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"(\d+)x(\d+)", text)
    if match is None:
        raise UserError(f"--size {text}: write height x width, for example 256x128")
    return int(match[1]), int(match[2])
