"""`passerby gallery`: rows with vectors that last, in a folder or in PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from passerby.cli.options import (
    InputText,
    Threshold,
    make_console,
    runs_an_engine,
    with_options,
)
from passerby.device import InferenceSettings
from passerby.errors import without_passwords

if TYPE_CHECKING:
    from passerby.gallery import Gallery, Where

gallery_app = typer.Typer(no_args_is_help=True, help="Keep vectors in a gallery that lasts; search and forget them.")

Place = Annotated[
    str, typer.Argument(metavar="GALLERY", help="a folder, or postgresql://USER@HOST/DATABASE", show_default=False)
]
FILTERS: dict[str, object] = {
    "camera": Annotated[
        list[str] | None, typer.Option(help="only rows of this camera; repeat for several", show_default=False)
    ],
    "identity": Annotated[
        list[str] | None, typer.Option(help="only rows of this person; repeat for several", show_default=False)
    ],
    "since": Annotated[
        str | None, typer.Option(help="only rows from this time on: 2026-03-01T08:30, or seconds", show_default=False)
    ],
    "until": Annotated[str | None, typer.Option(help="only rows before this time", show_default=False)],
    "attribute": Annotated[
        list[str] | None,
        typer.Option(help="only rows with this attribute, key=value; repeat for several", show_default=False),
    ],
}
REMOVALS: dict[str, object] = {
    **FILTERS,
    "before": Annotated[
        str | None,
        typer.Option(help="only rows of a time before this; without a time, those added before", show_default=False),
    ],
    "id": Annotated[list[int] | None, typer.Option(help="only this row; repeat for several", show_default=False)],
}


@dataclass(frozen=True)
class _Filters:
    """Values of the options above, as typed."""

    camera: list[str] | None = None
    identity: list[str] | None = None
    since: str | None = None
    until: str | None = None
    attribute: list[str] | None = None
    before: str | None = None
    id: list[int] | None = None

    def read(self) -> Where:
        from passerby.commands.galleries import read_filters

        texts = (tuple(each or ()) for each in (self.camera, self.identity, self.attribute))
        return read_filters(*texts, since=self.since, until=self.until, before=self.before, ids=tuple(self.id or ()))


def _chooses_rows(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options of conditions in place of its argument `where`."""
    return with_options(command, "where", _Filters, FILTERS, _Filters())


def _removes_rows(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command those options, --before and --id in place of its argument `where`."""
    return with_options(command, "where", _Filters, REMOVALS, _Filters())


def _open(place: str, *, stamp: str | None = None) -> Gallery:
    from passerby.gallery import open_gallery

    return open_gallery(place, model_stamp=stamp)


@gallery_app.command("add")
def gallery_add(
    place: Place,
    sources: Annotated[
        list[Path], typer.Argument(help=".npz of `passerby embed`, folders of tracklets", show_default=False)
    ],
    run: Annotated[
        Path | None, typer.Option(help="the model of the vectors, where the file does not name it", show_default=False)
    ] = None,
) -> None:
    """Add vectors to a gallery, which is made if there is none."""
    from passerby.commands.galleries import add_sources

    count, notes = add_sources(place, sources, run=run)
    for note in notes:
        typer.echo(note, err=True)
    typer.echo(f"{without_passwords(place)}: {count:,} rows added")


@gallery_app.command("search")
@_chooses_rows
@runs_an_engine("auto")
def gallery_search(
    place: Place,
    images: Annotated[list[Path], typer.Argument(help="query images, or folders of them", show_default=False)],
    run: Annotated[Path, typer.Option(help="the run or model file of the gallery's vectors", show_default=False)],
    count: Annotated[int, typer.Option(min=1, help="maximum number of results")] = 10,
    threshold: Threshold = None,
    approximate: Annotated[
        bool, typer.Option("--approximate", help="search by the index of a gallery in PostgreSQL")
    ] = False,
    input_text: InputText = None,
    *,
    where: _Filters,
    inference: InferenceSettings,
) -> None:
    """Rank the rows of a gallery by similarity to images."""
    from passerby.commands.embedding import open_model
    from passerby.commands.galleries import search_gallery
    from passerby.encoders import model_stamp

    gallery = _open(place, stamp=model_stamp(run))
    model = open_model(run, input_text or [], make_console(), inference=inference)
    answers = search_gallery(
        gallery, model, images, count=count, threshold=threshold, where=where.read(), approximate=approximate
    )
    for answer in answers:
        lines = answer.lines() or ["     nothing"]
        typer.echo("\n".join([answer.query, *lines] if len(answers) > 1 else lines))


@gallery_app.command("list")
@_chooses_rows
def gallery_list(
    place: Place,
    limit: Annotated[int, typer.Option(min=1, help="maximum number of rows")] = 20,
    *,
    where: _Filters,
) -> None:
    """List rows of a gallery."""
    from passerby.commands.galleries import describe_row

    rows = _open(place).list(where.read(), limit=limit)
    for row in range(len(rows)):
        typer.echo(describe_row(rows, row))


@gallery_app.command("index")
def gallery_index(
    place: Place,
    memory: Annotated[
        int | None, typer.Option(min=1, help="MB of the server's memory for it, else as the server is set up")
    ] = None,
) -> None:
    """Make the index of a gallery in PostgreSQL for `search --approximate`."""
    from passerby.gallery import require_indexed

    gallery = require_indexed(_open(place))
    gallery.build_index(megabytes=memory)
    typer.echo(f"{gallery.place}: index made")


@gallery_app.command("info")
def gallery_info(place: Place) -> None:
    """Describe a gallery: rows, cameras, times, model, size, policy and what was forgotten."""
    from passerby.commands.galleries import describe_gallery

    typer.echo("\n".join(describe_gallery(_open(place).info())))


@gallery_app.command("check")
def gallery_check(place: Place) -> None:
    """Read all of a gallery and report faults (exit code 1)."""
    gallery = _open(place)
    faults = gallery.check()
    for fault in faults:
        typer.echo(fault)
    if faults:
        raise typer.Exit(1)
    typer.echo(f"{gallery.place}: no fault")


@gallery_app.command("delete")
@_removes_rows
def gallery_delete(place: Place, *, where: _Filters) -> None:
    """Remove rows from a gallery."""
    gallery = _open(place)
    typer.echo(f"{gallery.place}: {gallery.delete(where.read()):,} rows removed")


@gallery_app.command("forget")
@_removes_rows
def gallery_forget(place: Place, *, where: _Filters) -> None:
    """Remove rows so that nothing of them stays in the files of a gallery, and note when and how many."""
    gallery, conditions = _open(place), where.read()
    count = gallery.forget(conditions) if conditions else gallery.apply_policy()
    if gallery.remains:
        typer.echo(gallery.remains, err=True)
    typer.echo(f"{gallery.place}: {count:,} rows forgotten")
