"""Commands on a trained model: evaluate, embed, search, verify, cluster, interpolate, report."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from passerby.cli.options import (
    AcceptRate,
    CameraNormRule,
    CamerasOf,
    CamerasRule,
    DataFolder,
    Device,
    InputSaid,
    JsonFile,
    MasksFolder,
    ModelPath,
    PatternText,
    QueriesRule,
    RunPath,
    Threshold,
    file_to_write,
    make_console,
    runs_a_model,
    runs_an_engine,
)
from passerby.device import InferenceSettings, find_device
from passerby.errors import UserError
from passerby.files import write_json

models_app = typer.Typer()


@models_app.command()
@runs_an_engine("torch")
def evaluate(
    run: Annotated[
        Path | None,
        typer.Argument(
            help="a run folder, a model file of passerby, or an .onnx or .xml of any program", show_default=False
        ),
    ] = None,
    on: Annotated[
        str | None,
        typer.Option(help="name of a data set in the recipe, or a kind (see `passerby data list`)", show_default=False),
    ] = None,
    data: DataFolder = None,
    embeddings: Annotated[
        Path | None, typer.Option(help="an .npz file of embeddings instead of a run", show_default=False)
    ] = None,
    rerank: Annotated[bool, typer.Option("--rerank", help="re-rank by k-reciprocal neighbours")] = False,
    open_set: Annotated[
        bool, typer.Option("--open-set", help="also score queries whose person is not in the gallery")
    ] = False,
    camera_norm: CameraNormRule = "none",
    background_bias: Annotated[
        bool, typer.Option("--background-bias", help="also evaluate on foregrounds and backgrounds alone")
    ] = False,
    former_option: Annotated[bool, typer.Option("--reliance", hidden=True)] = False,
    masks: MasksFolder = None,
    pattern: PatternText = None,
    cameras: Annotated[CamerasRule | None, typer.Option(help="default: that of the recipe")] = None,
    queries: Annotated[
        QueriesRule | None, typer.Option(help="multi: average the vectors of an identity from the query's camera")
    ] = None,
    flip: Annotated[
        Literal["on", "off"] | None,
        typer.Option(help="average with the vector of the mirrored image; default: as the recipe"),
    ] = None,
    cameras_of: CamerasOf = None,
    said: InputSaid = None,
    json_file: JsonFile = None,
    *,
    inference: InferenceSettings,
) -> None:
    """Evaluate a trained model, or the embeddings of any program: mAP, CMC, mINP."""
    from passerby.commands.embedding import open_model
    from passerby.commands.evaluating import Extras, evaluate_run, evaluate_vectors
    from passerby.commands.printing import print_scores
    from passerby.evaluation import open_set_json, scores_json

    console = make_console()
    if former_option:
        raise UserError("no such option --reliance; use --background-bias")
    if (run is None) == (embeddings is None):
        raise UserError("give either a run folder or --embeddings FILE.npz")
    if said and run is None:
        raise UserError("--input describes an .onnx file; --embeddings holds vectors already")
    extras = Extras(rerank, open_set, background_bias, camera_norm)
    if run is not None:
        result = evaluate_run(
            open_model(run, said or [], console, inference=inference),
            on=on,
            data=data,
            masks=masks,
            pattern=pattern,
            cameras=cameras,
            queries=queries,
            flip=flip,
            extras=extras,
            cameras_of=cameras_of,
            console=console,
        )
    else:
        assert embeddings is not None
        if flip or background_bias or masks or pattern or cameras_of:
            raise UserError(
                "--flip, --background-bias, --masks, --pattern and --cameras-of need the images, so give a run folder "
                "instead of --embeddings"
            )
        result = evaluate_vectors(
            embeddings,
            cameras=cameras or "standard",
            queries=queries or "single",
            extras=extras,
            device=inference.device,
            console=console,
        )
    print_scores([result], console)
    if json_file is not None:
        extra: dict[str, object] = (
            {} if result.background_bias is None else {"background_bias": result.background_bias.to_json()}
        )
        if result.open_set is not None:
            extra["open_set"] = open_set_json(result.open_set)
        again = {} if result.reranked is None else {"reranked": scores_json(result.reranked)}
        write_json(json_file, scores_json(result.plain) | again | extra)


@models_app.command()
@runs_an_engine("auto")
def embed(
    run: ModelPath,
    places: Annotated[list[Path] | None, typer.Argument(help="images, or folders of them", show_default=False)] = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="the .npz to write", callback=file_to_write)] = Path(
        "embeddings.npz"
    ),
    on: Annotated[
        str | None, typer.Option(help="a data set instead of images: its query and gallery", show_default=False)
    ] = None,
    data: DataFolder = None,
    split: Annotated[
        list[str] | None,
        typer.Option(
            help="split of the data set: train, query or gallery; repeat for several; default: query and gallery",
            show_default=False,
        ),
    ] = None,
    pattern: PatternText = None,
    camera: Annotated[
        int | None,
        typer.Option(help="camera of all images, for a model that uses cameras", show_default=False),
    ] = None,
    cameras_of: CamerasOf = None,
    strict: Annotated[bool, typer.Option("--strict", help="stop at the first image that cannot be read")] = False,
    said: InputSaid = None,
    *,
    inference: InferenceSettings,
) -> None:
    """Embed images into vectors; unreadable images are skipped and listed, with exit code 1."""
    from passerby.commands.embedding import embed_places, open_model
    from passerby.encoders import GivenCamera, read_split_names

    console = make_console()
    model = open_model(run, said or [], console, inference=inference)
    damaged: list[str] = []
    table = embed_places(
        model,
        places or [],
        on=on,
        data=data,
        pattern=pattern,
        splits=read_split_names(split or ()),
        camera=GivenCamera(camera, cameras_of),
        leave_out=None if strict else damaged.append,
        console=console,
    )
    table.save(out)
    typer.echo(f"{len(table)} vectors of {table.vectors.shape[1]} numbers in {out}")
    if damaged:
        further = f"; and {len(damaged) - 3:,} more" if len(damaged) > 3 else ""
        typer.secho(f"left out: {len(damaged):,} ({'; '.join(damaged[:3])}{further})", fg="yellow", err=True)
        raise typer.Exit(1)


@models_app.command()
@runs_an_engine("auto")
def search(
    table: Annotated[Path, typer.Argument(help="an .npz made by `passerby embed`", show_default=False)],
    image: Annotated[Path, typer.Argument(help="the query image, or a folder of query images", show_default=False)],
    run: Annotated[Path, typer.Option(help="the run or model file that produced the .npz", show_default=False)],
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
    said: InputSaid = None,
    *,
    inference: InferenceSettings,
) -> None:
    """Rank stored images by similarity to a query image."""
    from passerby.commands.embedding import open_model
    from passerby.commands.searching import SearchOptions, answers_json, calibrated, draw_answers, search_table
    from passerby.metrics.spread import spread_notes
    from passerby.report.figure_files import require_ending
    from passerby.types import Embeddings

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
    model = open_model(run, said or [], make_console(), inference=inference)
    vectors = Embeddings.load(table)
    for note in spread_notes(vectors.vectors):
        typer.echo(note, err=True)
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


@models_app.command()
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
    said: InputSaid = None,
    json_file: JsonFile = None,
    *,
    inference: InferenceSettings,
) -> None:
    """Compare two images: their cosine distance and, with a threshold, the decision same or different person."""
    from passerby.commands.embedding import open_model
    from passerby.commands.searching import verify_images
    from passerby.encoders import GivenCamera
    from passerby.thresholds import decision_threshold

    model = open_model(run, said or [], make_console(), inference=inference)
    limit = decision_threshold(run, threshold, accept)
    numbers = camera[0] if camera and len(camera) == 1 else camera
    verdict = verify_images(model, first, second, threshold=limit, camera=GivenCamera(numbers, cameras_of))
    typer.echo(verdict)
    if json_file is not None:
        write_json(json_file, verdict.to_json())


@models_app.command()
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
    found = find_clusters(vectors, choice.settings, camera_norm=choice.camera_norm, device=str(find_device(device)))
    typer.echo(describe_clusters(found))
    if out is not None:
        write_clusters(out, vectors, found.clusters)
    if json_file is not None:
        write_json(json_file, found.to_json())


@models_app.command()
@runs_a_model
def interpolate(
    old: RunPath,
    new: RunPath,
    on: Annotated[
        list[str] | None, typer.Option(help="data sets; default: those evaluated by the new run's recipe")
    ] = None,
    data: DataFolder = None,
    pattern: PatternText = None,
    alphas: Annotated[
        str | None, typer.Option(help="weights of the new model, e.g. 0,0.5,1; default: 0,0.1,...,1")
    ] = None,
    former_option: Annotated[str | None, typer.Option("--shares", hidden=True)] = None,
    json_file: JsonFile = None,
    *,
    inference: InferenceSettings,
) -> None:
    """Evaluate interpolated weights of two models, for example run/stage-1.safetensors and run."""
    from passerby.commands.evaluating import interpolate_models

    if former_option is not None:
        raise UserError("no such option --shares; use --alphas")
    found = interpolate_models(
        old, new, on=on or [], data=data, pattern=pattern, alphas=alphas, inference=inference, console=make_console()
    )
    if json_file is not None:
        write_json(json_file, found)


@models_app.command()
@runs_a_model
def report(
    run: RunPath,
    against: Annotated[
        Path | None, typer.Option(help="another run over the same stages, for comparison", show_default=False)
    ] = None,
    expert: Annotated[
        list[Path] | None,
        typer.Option(help="a run trained on a single data set; repeat for each data set", show_default=False),
    ] = None,
    *,
    inference: InferenceSettings,
) -> None:
    """Write the report of a run again, for example with another run for comparison."""
    from passerby.console import with_notes
    from passerby.report.page import write_report

    inference = with_notes(inference, make_console())
    typer.echo(write_report(run, against=against, experts=expert or [], inference=inference))
