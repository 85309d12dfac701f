"""Commands on a trained model: evaluate, embed, interpolate, report."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import typer

from passerby.cli.options import (
    CamerasOf,
    CamerasRule,
    ClothesRule,
    DataFolder,
    InputText,
    JsonFile,
    MasksFolder,
    ModelPath,
    PatternText,
    QueriesRule,
    RayAddress,
    RunPath,
    UnitRule,
    make_console,
    runs_a_model,
    runs_an_engine,
    searches_on,
)
from passerby.device import InferenceSettings
from passerby.errors import UserError
from passerby.files import require_file_name, write_json

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
    rerank_distance: Annotated[
        Literal["jaccard", "ca_jaccard"] | None,
        typer.Option(
            help="neighbours of --rerank: among all images, or by camera (ca_jaccard); default: as the recipe",
            show_default=False,
        ),
    ] = None,
    open_set: Annotated[
        bool, typer.Option("--open-set", help="also score queries whose person is not in the gallery")
    ] = False,
    camera_norm: Annotated[
        Literal["none", "centre", "standardise", "auto"] | None,
        typer.Option(
            help="what is taken out of the vectors of each camera; default: as the recipe", show_default=False
        ),
    ] = None,
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
    clothes: Annotated[
        ClothesRule | None,
        typer.Option(
            help="which images of the query's identity are looked for: in any (general), changing, same clothes"
        ),
    ] = None,
    unit: Annotated[
        UnitRule | None, typer.Option(help="compare images, or tracklets by the mean of their images' vectors")
    ] = None,
    gallery_draws: Annotated[
        int | None,
        typer.Option(
            min=0, help="means over so many drawn galleries of one image of each identity", show_default=False
        ),
    ] = None,
    flip: Annotated[
        Literal["on", "off"] | None,
        typer.Option(help="average with the vector of the mirrored image; default: as the recipe"),
    ] = None,
    cameras_of: CamerasOf = None,
    ray: RayAddress = None,
    input_text: InputText = None,
    json_file: JsonFile = None,
    *,
    inference: InferenceSettings,
) -> None:
    """Evaluate a trained model, or the embeddings of any program: mAP, CMC, mINP."""
    from passerby.commands.embedding import open_model
    from passerby.commands.evaluating import ChangedRules, Extras, evaluate_run, evaluate_vectors
    from passerby.commands.printing import print_scores
    from passerby.evaluation import open_set_json, scores_json

    console = make_console()
    if former_option:
        raise UserError("no such option --reliance; use --background-bias")
    if (run is None) == (embeddings is None):
        raise UserError("give either a run folder or --embeddings FILE.npz")
    if input_text and run is None:
        raise UserError("--input describes an .onnx or .xml file; --embeddings holds vectors already")
    if ray is not None and not rerank:
        raise UserError("--ray searches the neighbours of --rerank, and has no effect without it")
    if ray is not None and rerank_distance == "ca_jaccard":
        raise UserError("--ray searches neighbours among all images; leave it out with --rerank-distance ca_jaccard")
    changes = ChangedRules(cameras, queries, camera_norm, clothes, unit, gallery_draws)
    extras = Extras(rerank, open_set, background_bias, rerank_distance)
    with searches_on(ray):
        if run is not None:
            result = evaluate_run(
                open_model(run, input_text or [], console, inference=inference),
                on=on,
                data=data,
                masks=masks,
                pattern=pattern,
                changes=changes,
                flip=flip,
                extras=extras,
                cameras_of=cameras_of,
                console=console,
            )
        else:
            assert embeddings is not None
            if flip or background_bias or masks or pattern or cameras_of:
                raise UserError(
                    "--flip, --background-bias, --masks, --pattern and --cameras-of need the images, so give a run "
                    "folder instead of --embeddings"
                )
            result = evaluate_vectors(
                embeddings, changes=changes, extras=extras, device=inference.device, console=console
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
    out: Annotated[
        Path, typer.Option("--out", "-o", help="the .npz to write; with --ray also a folder of Parquet parts")
    ] = Path("embeddings.npz"),
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
    ray: RayAddress = None,
    input_text: InputText = None,
    *,
    inference: InferenceSettings,
) -> None:
    """Embed images into vectors; unreadable images are skipped and listed, with exit code 1."""
    from dataclasses import replace

    from passerby.commands.embedding import ImageSelection, embed_places, open_model
    from passerby.encoders import GivenCamera, model_stamp, read_split_names

    console = make_console()
    given_camera = GivenCamera(camera, cameras_of)
    selection = ImageSelection(places or (), on, data, pattern, read_split_names(split or ()), given_camera)
    if ray is not None:
        from passerby.commands.scaling import embed_on_ray

        written = embed_on_ray(
            run,
            selection,
            address=ray,
            out=out,
            inference=inference,
            input_text=input_text or (),
            strict=strict,
            console=console,
        )
        _print_embedded(written.count, written.dimension, out, written.left_out)
        return
    require_file_name(out)
    model = open_model(run, input_text or [], console, inference=inference)
    damaged: list[str] = []
    table = embed_places(
        model,
        selection,
        leave_out=None if strict else damaged.append,
        console=console,
    )
    replace(table, model=model_stamp(run)).save(out)
    _print_embedded(len(table), table.vectors.shape[1], out, damaged)


def _print_embedded(count: int, dimension: int, out: Path, damaged: Sequence[str]) -> None:
    """Print the size of a table that is written, and the images left out, which end the command with 1."""
    typer.echo(f"{count} vectors of {dimension} numbers in {out}")
    if damaged:
        further = f"; and {len(damaged) - 3:,} more" if len(damaged) > 3 else ""
        typer.secho(f"left out: {len(damaged):,} ({'; '.join(damaged[:3])}{further})", fg="yellow", err=True)
        raise typer.Exit(1)


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
    scores = interpolate_models(
        old, new, on=on or [], data=data, pattern=pattern, alphas=alphas, inference=inference, console=make_console()
    )
    if json_file is not None:
        write_json(json_file, scores)


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
