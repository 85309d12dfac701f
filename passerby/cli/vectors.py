"""Commands that compare images by their vectors: search, verify, cluster."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from passerby.cli.options import (
    AcceptRate,
    CameraNormRule,
    CamerasOf,
    Device,
    InputText,
    JsonFile,
    ModelPath,
    RayAddress,
    Threshold,
    file_to_write,
    make_console,
    runs_a_model,
    runs_an_engine,
    searches_on,
)
from passerby.device import InferenceSettings, find_device
from passerby.errors import UserError
from passerby.files import write_json

vectors_app = typer.Typer()


@vectors_app.command()
@runs_an_engine("auto")
def search(
    table: Annotated[Path, typer.Argument(help="an .npz made by `passerby embed`", show_default=False)],
    image: Annotated[
        Path | None, typer.Argument(help="the query image, or a folder of query images", show_default=False)
    ] = None,
    *,
    run: Annotated[Path, typer.Option(help="the run or model file that produced the .npz", show_default=False)],
    text: Annotated[
        str | None,
        typer.Option(help="a description to search for instead of an image, for a CLIP", show_default=False),
    ] = None,
    text_tower: Annotated[
        Path | None,
        typer.Option(help="file of the CLIP whose text tower encodes --text, if not in the model", show_default=False),
    ] = None,
    count: Annotated[int, typer.Option(min=1, help="maximum number of results")] = 10,
    threshold: Threshold = None,
    accept: AcceptRate = None,
    camera_norm: CameraNormRule = "none",
    other_cameras: Annotated[
        bool, typer.Option("--other-cameras", help="exclude gallery images of the query's camera")
    ] = False,
    camera: Annotated[
        str | None,
        typer.Option(
            help="camera of the query image, if neither the .npz nor the file name gives it", show_default=False
        ),
    ] = None,
    cameras_of: CamerasOf = None,
    pattern: Annotated[
        str | None, typer.Option(help="pattern of the camera in file names, for example '{cam}/*'", show_default=False)
    ] = None,
    picture: Annotated[
        Path | None,
        typer.Option(help="also draw the results, as .png, .svg or .pdf", callback=file_to_write, show_default=False),
    ] = None,
    json_file: JsonFile = None,
    input_text: InputText = None,
    inference: InferenceSettings,
) -> None:
    """Rank stored images by similarity to a query image, or to a description where the model is a CLIP."""
    from passerby.commands.embedding import open_model
    from passerby.commands.searching import SearchOptions, answers_json, calibrated, draw_answers, search_table
    from passerby.commands.text_search import require_one_query, search_text
    from passerby.metrics.spread import spread_notes
    from passerby.report.figure_files import require_ending
    from passerby.types import Embeddings

    require_one_query(image, text, tower=text_tower, picture=picture)
    if picture is not None:
        require_ending(picture)
    options = SearchOptions(
        count,
        threshold,
        "other" if other_cameras else "all",
        camera,
        pattern,
        cameras_of,
        accept=accept,
        camera_norm=camera_norm,
    )
    vectors = Embeddings.load(table)
    for note in spread_notes(vectors.vectors):
        typer.echo(note, err=True)
    if text is not None:
        answers = [search_text(run, vectors, text, options, tower=text_tower, inference=inference)]
    else:
        assert image is not None, "refused above"
        model = open_model(run, input_text or [], make_console(), inference=inference)
        options, notes = calibrated(options, run, vectors)
        for note in notes:
            typer.echo(note, err=True)
        answers = search_table(model, vectors, image, options)
    for answer in answers:
        nobody = "     nobody here" if accept is not None else "     nothing within the threshold"
        lines = answer.lines() or [nobody if options.threshold is not None else "     nothing"]
        typer.echo("\n".join([answer.query, *lines] if len(answers) > 1 else lines))
    if picture is not None:
        draw_answers(answers, picture)
    if json_file is not None:
        write_json(json_file, answers_json(answers, options))


@vectors_app.command()
@runs_a_model
def verify(
    run: ModelPath,
    first: Annotated[Path, typer.Argument(help="an image", show_default=False)],
    second: Annotated[Path, typer.Argument(help="another image", show_default=False)],
    threshold: Threshold = None,
    accept: AcceptRate = None,
    camera: Annotated[
        list[int] | None,
        typer.Option(
            help="camera of both images, for a model that uses cameras; give it twice for one of each",
            show_default=False,
        ),
    ] = None,
    cameras_of: CamerasOf = None,
    input_text: InputText = None,
    json_file: JsonFile = None,
    *,
    inference: InferenceSettings,
) -> None:
    """Compare two images: their cosine distance and, with a threshold, the decision same or different person."""
    from passerby.commands.embedding import open_model
    from passerby.commands.searching import verify_images
    from passerby.encoders import GivenCamera
    from passerby.thresholds import decision_threshold

    model = open_model(run, input_text or [], make_console(), inference=inference)
    limit = decision_threshold(run, threshold, accept)
    numbers = camera[0] if camera and len(camera) == 1 else camera
    verdict = verify_images(model, first, second, threshold=limit, camera=GivenCamera(numbers, cameras_of))
    typer.echo(verdict)
    if json_file is not None:
        write_json(json_file, verdict.to_json())


@vectors_app.command()
def cluster(
    table: Annotated[Path, typer.Argument(help="an .npz made by `passerby embed`", show_default=False)],
    assignments: Annotated[
        list[str] | None,
        typer.Argument(help="settings of the algorithm as key=value, e.g. eps=0.5 k1=20", show_default=False),
    ] = None,
    kind: Annotated[str, typer.Option(help="linkage, dbscan, hdbscan, kmeans or infomap")] = "linkage",
    camera_norm: Annotated[
        Literal["none", "centre", "standardise", "auto"] | None,
        typer.Option(
            help="take each camera's mean (centre) and spread (standardise) out of the vectors, or what of the mean "
            "the number of people supports (auto); default: auto with linkage where cameras are known, else none"
        ),
    ] = None,
    run: Annotated[Path | None, typer.Option(help="the model of the vectors, for --accept", show_default=False)] = None,
    accept: AcceptRate = None,
    former_option: Annotated[str | None, typer.Option("--cameras", hidden=True)] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", help="also write a .csv of path,cluster", callback=file_to_write, show_default=False
        ),
    ] = None,
    ray: RayAddress = None,
    device: Device = "auto",
    json_file: JsonFile = None,
) -> None:
    """Cluster unlabelled images into identities and print quality measures of the clusters."""
    from passerby.clustering.findings import describe_clusters, find_clusters, write_clusters
    from passerby.clustering.graph_settings import GraphClustering
    from passerby.commands.clustering import choose_clustering
    from passerby.metrics.spread import spread_notes
    from passerby.types import Embeddings

    if former_option is not None:
        raise UserError("no such option --cameras; use --camera-norm none, centre, standardise or auto")
    vectors = Embeddings.load(table)
    choice = choose_clustering(
        vectors, kind=kind, assignments=assignments or [], camera_norm=camera_norm, run=run, accept=accept
    )
    for note in [*spread_notes(vectors.vectors), *choice.notes]:
        typer.echo(note, err=True)
    if isinstance(choice.settings, GraphClustering) and (note := choice.settings.camera_note(vectors.cam)):
        typer.echo(note, err=True)
    if ray is not None and getattr(choice.settings, "distance", "") == "ca_jaccard":
        raise UserError("--ray searches neighbours among all images; distance=ca_jaccard is computed without it")
    with searches_on(ray):
        clustering = find_clusters(
            vectors, choice.settings, camera_norm=choice.camera_norm, device=str(find_device(device))
        )
    typer.echo(describe_clusters(clustering))
    if out is not None:
        write_clusters(out, vectors, clustering.clusters)
    if json_file is not None:
        write_json(json_file, clustering.to_json())
