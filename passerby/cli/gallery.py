"""`passerby gallery`: rows with vectors that last, in a folder or in PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from passerby.cli.options import (
    AcceptRate,
    CamerasOf,
    InputText,
    JsonFile,
    RayAddress,
    Threshold,
    file_to_write,
    make_console,
    runs_an_engine,
    searches_on,
    with_options,
)
from passerby.device import InferenceSettings
from passerby.errors import UserError
from passerby.files import write_json

if TYPE_CHECKING:
    from passerby.gallery import Gallery, Where

gallery_app = typer.Typer(no_args_is_help=True, help="Keep vectors in a gallery that lasts; search and forget them.")

Place = Annotated[
    str, typer.Argument(metavar="GALLERY", help="a folder, or postgresql://USER@HOST/DATABASE", show_default=False)
]
ForgetAfter = Annotated[
    str | None,
    typer.Option(help="policy from now on: rows are forgotten after 30d, 12h or never", show_default=False),
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
        list[Path],
        typer.Argument(
            help=".npz of `passerby embed`, folders of `passerby tracklets`, exports (.parquet, .npz), and the .csv of "
            "`passerby associate`, which sets identities",
            show_default=False,
        ),
    ],
    run: Annotated[
        Path | None, typer.Option(help="the model of the vectors, where the file does not name it", show_default=False)
    ] = None,
    camera: Annotated[str | None, typer.Option(help="camera of all rows", show_default=False)] = None,
    identity: Annotated[str | None, typer.Option(help="person in all rows", show_default=False)] = None,
    time: Annotated[
        str | None, typer.Option(help="time of rows that have none: 2026-03-01T08:30, or seconds", show_default=False)
    ] = None,
    attribute: Annotated[
        list[str] | None, typer.Option(help="attribute of all rows, key=value; repeat for several", show_default=False)
    ] = None,
    identity_prefix: Annotated[
        str, typer.Option(help="text before the identities of a .csv, so that those of two days differ")
    ] = "",
    vectors_of: Annotated[
        Literal["tracklets", "crops"], typer.Option(help="one row per tracklet, or one per crop of each")
    ] = "tracklets",
    thumbnails: Annotated[
        bool, typer.Option("--thumbnails", help="keep a small picture of each row in the gallery")
    ] = False,
    forget_after: ForgetAfter = None,
) -> None:
    """Add vectors to a gallery, which is made if there is none; all rows or none are added."""
    from passerby.commands.galleries import AddOptions, add_files, read_attributes
    from passerby.commands.gallery_sources import RowDefaults
    from passerby.tracking.clock import read_start

    seconds = None if time is None else read_start(time, option="--time")
    defaults = RowDefaults(camera, identity, seconds, read_attributes(attribute or ()))
    options = AddOptions(run, defaults, vectors_of, thumbnails, identity_prefix, forget_after)
    for sentence in add_files(place, sources, options):
        typer.echo(sentence)


@gallery_app.command("search")
@_chooses_rows
@runs_an_engine("auto")
def gallery_search(
    place: Place,
    images: Annotated[
        list[Path] | None, typer.Argument(help="query images, or folders of them", show_default=False)
    ] = None,
    run: Annotated[
        Path | None, typer.Option(help="the run or model file of the gallery's vectors", show_default=False)
    ] = None,
    vectors: Annotated[
        Path | None, typer.Option(help="an .npz of `passerby embed` instead of images", show_default=False)
    ] = None,
    count: Annotated[int, typer.Option(min=1, help="maximum number of results")] = 10,
    threshold: Threshold = None,
    approximate: Annotated[
        bool, typer.Option("--approximate", help="search by the index of a gallery in PostgreSQL")
    ] = False,
    accept: AcceptRate = None,
    query_camera: Annotated[
        int | None, typer.Option(help="camera of the images, for a model that uses cameras", show_default=False)
    ] = None,
    cameras_of: CamerasOf = None,
    picture: Annotated[
        Path | None,
        typer.Option(help="also draw the results, as .png, .svg or .pdf", callback=file_to_write, show_default=False),
    ] = None,
    json_file: JsonFile = None,
    ray: RayAddress = None,
    input_text: InputText = None,
    *,
    where: _Filters,
    inference: InferenceSettings,
) -> None:
    """Rank the rows of a gallery by similarity to images."""
    from passerby.commands.embedding import open_model
    from passerby.commands.galleries import answer_vectors, answers_to_json, read_queries, search_gallery
    from passerby.encoders import GivenCamera, model_stamp
    from passerby.gallery.gallery import store_of
    from passerby.report.figure_files import require_ending
    from passerby.retrieval import require_threshold
    from passerby.thresholds import decision_threshold

    if (vectors is None) == (not images):
        raise UserError("give either images or --vectors FILE.npz")
    if run is None and (images or accept is not None):
        raise UserError("images and --accept need the model of the gallery's vectors: add --run MODEL")
    if ray is not None and store_of(place) != "folder":
        raise UserError("--ray searches galleries in folders; a database searches by itself")
    if picture is not None:
        require_ending(picture)
    limit = threshold if run is None else decision_threshold(run, threshold, accept)
    require_threshold(limit)
    conditions, stamp = where.read(), None if run is None else model_stamp(run)
    if vectors is not None:
        names, queries, stamp = read_queries(vectors, stamp=stamp)
        gallery = _open(place, stamp=stamp)
        with searches_on(ray):
            answers = answer_vectors(
                gallery, names, queries, count=count, threshold=limit, where=conditions, approximate=approximate
            )
    else:
        assert images
        assert run is not None
        gallery, camera = _open(place, stamp=stamp), GivenCamera(query_camera, cameras_of)
        model = open_model(run, input_text or [], make_console(), inference=inference)
        with searches_on(ray):
            answers = search_gallery(
                gallery,
                model,
                images,
                count=count,
                threshold=limit,
                where=conditions,
                approximate=approximate,
                camera=camera,
            )
    nothing = "     nothing" if limit is None else "     nothing within the threshold"
    for answer in answers:
        lines = answer.lines() or ["     nobody here" if accept is not None else nothing]
        typer.echo("\n".join([answer.query, *lines] if len(answers) > 1 else lines))
    if picture is not None:
        from passerby.commands.gallery_pictures import draw_gallery_answers

        draw_gallery_answers(answers, picture)
    if json_file is not None:
        write_json(json_file, answers_to_json(answers))


@gallery_app.command("list")
@_chooses_rows
def gallery_list(
    place: Place,
    limit: Annotated[int, typer.Option(min=1, help="maximum number of rows")] = 20,
    after: Annotated[int, typer.Option(help="only rows of larger ids, to go on from there")] = -1,
    json_file: JsonFile = None,
    *,
    where: _Filters,
) -> None:
    """List rows of a gallery by id."""
    from passerby.commands.galleries import describe_row, row_json

    rows = _open(place).list(where.read(), limit=limit, after=after)
    for row in range(len(rows)):
        typer.echo(describe_row(rows, row))
    if json_file is not None:
        write_json(json_file, {"rows": [row_json(rows, row) for row in range(len(rows))]})


@gallery_app.command("export")
@_chooses_rows
def gallery_export(
    place: Place,
    out: Annotated[Path, typer.Option("--out", "-o", help="the .parquet or .npz to write", callback=file_to_write)],
    *,
    where: _Filters,
) -> None:
    """Write rows with their vectors to a file, which `passerby gallery add` and other programs read."""
    from passerby.gallery.exchange import batches_of, require_export_ending, write_export

    require_export_ending(out)
    gallery = _open(place)
    count = write_export(out, batches_of(gallery, where.read()), model=gallery.info().model)
    typer.echo(f"{out}: {count:,} rows")


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
def gallery_info(place: Place, json_file: JsonFile = None) -> None:
    """Describe a gallery: rows, cameras, times, model, size, policy and what was forgotten."""
    from dataclasses import asdict

    from passerby.commands.galleries import describe_gallery

    info = _open(place).info()
    typer.echo("\n".join(describe_gallery(info)))
    if json_file is not None:
        write_json(json_file, asdict(info))


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
def gallery_forget(place: Place, forget_after: ForgetAfter = None, *, where: _Filters) -> None:
    """Remove rows so that nothing of them stays in the files; without conditions, those older than the policy."""
    from passerby.commands.galleries import forget_rows

    gallery = _open(place)
    count = forget_rows(gallery, where.read(), forget_after=forget_after)
    if gallery.remains:
        typer.echo(gallery.remains, err=True)
    typer.echo(f"{gallery.place}: {count:,} rows forgotten")
