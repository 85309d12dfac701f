"""`passerby visualise`: each command draws one figure as .png, .svg or .pdf.

Nothing heavy is imported up here; `passerby.cli` turns mistakes into sentences.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from passerby.cli.options import file_to_write, make_console, runs_a_model
from passerby.device import InferenceSettings
from passerby.errors import UserError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from passerby.report.figure_files import Subject
    from passerby.report.ranked_lists import Kind

visualise_app = typer.Typer(
    no_args_is_help=True, help="Draw ranked lists, features, clusters, distances, activation maps, learning rates."
)

RunFolder = Annotated[Path | None, typer.Argument(help="a run folder", show_default=False)]
OnName = Annotated[str | None, typer.Option(help="a data set that the run was evaluated on", show_default=False)]
EmbeddingsFile = Annotated[
    Path | None, typer.Option(help="an .npz file of embeddings instead of a run", show_default=False)
]
OutFile = Annotated[
    Path,
    typer.Option("--out", "-o", help="the .png, .svg or .pdf to write", callback=file_to_write, show_default=False),
]
KindOfQuery = Literal["best", "worst", "random", "all"]
Queries = Annotated[KindOfQuery, typer.Option(help="which queries, by average precision")]


@visualise_app.command()
@runs_a_model
def ranks(
    out: OutFile,
    run: RunFolder = None,
    embeddings: EmbeddingsFile = None,
    on: OnName = None,
    queries: Queries = "all",
    count: Annotated[int, typer.Option(min=1, help="queries of each kind")] = 1,
    k: Annotated[int, typer.Option("--k", min=1, help="length of each ranked list")] = 8,
    rerank: Annotated[bool, typer.Option("--rerank", help="also draw the re-ranked lists")] = False,
    own_camera: Annotated[
        bool, typer.Option("--own-camera", help="also show images excluded by the camera rule")
    ] = False,
    *,
    inference: InferenceSettings,
) -> None:
    """Draw ranked lists, with correct and wrong results marked."""
    from passerby.report.list_figures import ranks_figure

    subject = _subjects(out, run, embeddings, on, inference)[0]
    figure = ranks_figure(
        subject.embeddings,
        kinds=_kinds(queries),
        count=count,
        k=k,
        cameras=subject.cameras,
        distance=subject.distance,
        rerank=subject.rerank if rerank else None,
        left_out="show" if own_camera else "hide",
        device=str(inference.torch_device()),
    )
    _save(figure, out)


@visualise_app.command()
@runs_a_model
def features(
    out: OutFile,
    run: RunFolder = None,
    embeddings: EmbeddingsFile = None,
    on: OnName = None,
    colour: Annotated[
        Literal["identity", "camera", "dataset"], typer.Option(help="column that colours the points")
    ] = "identity",
    most: Annotated[int, typer.Option(min=10, help="maximum number of images, sampled by whole identities")] = 3000,
    *,
    inference: InferenceSettings,
) -> None:
    """Draw a t-SNE projection of the features."""
    from passerby.report.projection import camera_pull, features_figure, project

    subjects = _subjects(out, run, embeddings, on, inference)
    coloured = subjects if colour == "dataset" else subjects[:1]
    projection = project([s.embeddings for s in coloured], most=most, distance=subjects[0].distance)
    _save(features_figure(projection, colour=colour), out)
    if colour == "camera" and (pull := camera_pull(projection, device=str(inference.torch_device()))) is not None:
        typer.echo(pull)


@visualise_app.command()
@runs_a_model
def clusters(
    out: OutFile,
    run: Annotated[Path, typer.Argument(help="a run with an unlabelled stage", show_default=False)],
    show: Annotated[
        Literal["images", "epochs", "moves", "radius", "features"],
        typer.Option(help="images of clusters, curves over epochs, transitions, radius, or projected features"),
    ] = "images",
    order: Annotated[Literal["largest", "doubtful", "outside"], typer.Option(help="order of the clusters")] = "largest",
    page: Annotated[int, typer.Option(min=1, help="page of images")] = 1,
    rows: Annotated[int, typer.Option(min=1, help="clusters on a page")] = 6,
    colour: Annotated[
        Literal["cluster", "identity", "camera"], typer.Option(help="column that colours the features")
    ] = "cluster",
    *,
    inference: InferenceSettings,
) -> None:
    """Draw the predicted identities (clusters) of an unlabelled run."""
    from passerby.report.clusterings import require_clusterings, with_vectors
    from passerby.report.figure_files import require_ending
    from passerby.report.folder import read_run
    from passerby.report.predicted_identities import clusters_figure, collapse_notes

    require_ending(out)
    folder = read_run(run)
    clusterings = require_clusterings(folder)
    if show == "features" or order == "doubtful":
        clusterings = with_vectors(folder, clusterings, inference=_with_notes(inference))
    _warn(collapse_notes(clusterings))
    _save(clusters_figure(clusterings, show=show, order=order, page=page, rows=rows, colour=colour), out)


@visualise_app.command()
@runs_a_model
def distances(
    out: OutFile,
    run: RunFolder = None,
    embeddings: EmbeddingsFile = None,
    on: OnName = None,
    *,
    inference: InferenceSettings,
) -> None:
    """Draw the distributions of distances between images of the same and of different identities."""
    from passerby.report.pair_distances import count_pairs, distances_figure

    subject = _subjects(out, run, embeddings, on, inference)[0]
    pairs = count_pairs(
        subject.embeddings, cameras=subject.cameras, distance=subject.distance, device=str(inference.torch_device())
    )
    _save(distances_figure(pairs), out)
    typer.echo(pairs)


@visualise_app.command()
@runs_a_model
def attention(
    out: OutFile,
    run: Annotated[Path, typer.Argument(help="a run folder", show_default=False)],
    on: OnName = None,
    queries: Queries = "best",
    count: Annotated[int, typer.Option(min=1, help="queries of each kind")] = 2,
    k: Annotated[int, typer.Option("--k", min=1, help="length of each ranked list")] = 8,
    kind: Annotated[
        Literal["similarity", "norm"],
        typer.Option(help="contribution to the similarity with the query, or norm of the last feature map"),
    ] = "similarity",
    *,
    inference: InferenceSettings,
) -> None:
    """Draw activation maps on the images of ranked lists."""
    from passerby.encoders import load_trained
    from passerby.report.attention import attention_figure, require_unmasked
    from passerby.report.list_figures import queries_of_kinds
    from passerby.report.ranked_lists import rank_for

    subject = _subjects(out, run, None, on, inference)[0]
    table, cameras, distance = subject.embeddings, subject.cameras, subject.distance
    require_unmasked(table)
    trained = load_trained(run, inference=_with_notes(inference))
    queries_by_kind = queries_of_kinds(
        table, kinds=_kinds(queries), count=count, cameras=cameras, distance=distance, device=trained.device
    )
    rows = [query for some in queries_by_kind.values() for query in some]
    lists = rank_for(table, rows, k=k, cameras=cameras, distance=distance, device=trained.device)
    figure = attention_figure(
        trained.embedder,
        lists,
        kind=kind,
        feature=trained.feature,
        inference=trained.inference,
        precision=trained.precision,
        dataset=table.dataset,
    )
    _save(figure, out)


@visualise_app.command()
def schedule(
    recipe: Annotated[str, typer.Argument(help="a shipped recipe or a YAML file", show_default=False)],
    out: OutFile,
    overrides: Annotated[
        list[str] | None, typer.Argument(help="settings to change, key=value", show_default=False)
    ] = None,
) -> None:
    """Draw the learning-rate schedule of a recipe."""
    from passerby.recipe import load_recipe
    from passerby.report.figure_files import require_ending
    from passerby.report.schedule import rate_curve

    require_ending(out)
    _save(rate_curve(load_recipe(recipe, overrides or [])), out)


def _kinds(queries: KindOfQuery) -> tuple[Kind, ...]:
    return ("best", "worst", "random") if queries == "all" else (queries,)


def _with_notes(inference: InferenceSettings) -> InferenceSettings:
    from passerby.console import with_notes

    return with_notes(inference, make_console())


def _subjects(
    out: Path, run: Path | None, embeddings: Path | None, on: str | None, inference: InferenceSettings
) -> list[Subject]:
    """Read the embeddings to be drawn, after a check of the device and the output file."""
    from passerby.metrics.spread import spread_notes
    from passerby.report.figure_files import require_ending, subject_of_file, subjects_of_run

    require_ending(out)
    inference.torch_device()  # refuses a device that is not there, also where nothing is computed on it
    if (run is None) == (embeddings is None):
        raise UserError("give either a run folder or --embeddings FILE.npz")
    if run is not None:
        subjects = subjects_of_run(run, on=on, inference=_with_notes(inference))
    else:
        assert embeddings is not None
        if on is not None:
            raise UserError("--on chooses a data set of a run; an --embeddings file holds one only")
        subjects = [subject_of_file(embeddings)]
    for subject in subjects:
        _warn(f"{subject.embeddings.dataset or 'vectors'}: {note}" for note in spread_notes(subject.embeddings.vectors))
    return subjects


def _warn(notes: Iterable[str]) -> None:
    for note in notes:
        typer.secho(note, fg="yellow", err=True)


def _save(figure: Figure, out: Path) -> None:
    from passerby.report.figure_files import save_figure

    save_figure(figure, out)
    typer.echo(out)
