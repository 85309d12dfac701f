"""The command line. Each command parses, calls one public function and prints; nothing heavy is imported up here.

A mistake that a person can mend is one sentence on standard error and exit code 2. Ctrl-C is 130; training saves first.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from typer.core import TyperGroup

from passerby.errors import UserError
from passerby.files import write_json
from passerby.visualise import visualise_app

if TYPE_CHECKING:
    from rich.console import Console

    from passerby.bench.measure import BenchTable


class _Commands(TyperGroup):
    """Turns the exceptions that are meant for people into sentences and exit codes."""

    def invoke(self, ctx: typer.Context) -> object:  # type: ignore[override]  # typer's own class, or click's, by version
        try:
            return super().invoke(ctx)
        except UserError as error:
            typer.secho(f"Error: {error}", fg="red", err=True)
            raise typer.Exit(2) from error
        except KeyboardInterrupt as interruption:
            typer.secho(str(interruption) or "interrupted", fg="yellow", err=True)
            raise typer.Exit(130) from interruption


app = typer.Typer(cls=_Commands, no_args_is_help=True, add_completion=False, help="Person re-identification.")
data_app = typer.Typer(cls=_Commands, no_args_is_help=True, help="Look at data sets, check them, make generated ones.")
segment_app = typer.Typer(cls=_Commands, no_args_is_help=True, help="Make foreground masks.")
recipe_app = typer.Typer(cls=_Commands, no_args_is_help=True, help="Look at recipes.")
bench_app = typer.Typer(cls=_Commands, no_args_is_help=True, help="Measure speed against what others do.")
app.add_typer(data_app, name="data")
app.add_typer(segment_app, name="segment")
app.add_typer(recipe_app, name="recipe")
app.add_typer(bench_app, name="bench")
app.add_typer(visualise_app, name="visualise")

RunPath = Annotated[Path, typer.Argument(help="a run folder, or its embedder.safetensors", show_default=False)]
ModelPath = Annotated[
    Path, typer.Argument(help="a run folder, its embedder.safetensors, or an .onnx of any program", show_default=False)
]
InputSaid = Annotated[
    list[str] | None,
    typer.Option("--input", help="about an .onnx of another program: size=[256,128], mean=[..], output=NAME"),
]
Overrides = Annotated[list[str] | None, typer.Argument(help="settings to change, key=value", show_default=False)]
RecipeName = Annotated[str, typer.Argument(help="a shipped recipe, a target or a YAML file", show_default=False)]
DataFolder = Annotated[str | None, typer.Option("--data", help="folder of the images", show_default=False)]
MasksFolder = Annotated[str | None, typer.Option("--masks", help="folder of its masks", show_default=False)]
JsonFile = Annotated[Path | None, typer.Option("--json", help="also write the figures there", show_default=False)]
CamerasRule = Literal["standard", "ignore"]
QueriesRule = Literal["single", "multi"]


# ---- train, score, use


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="where to write")] = Path("demo"),
    seed: Annotated[int, typer.Option(help="of the generated people and of the training")] = 0,
) -> None:
    """Tell the whole story on generated people: data, training, exact scores, report."""
    from passerby.demo import run_demo

    report = run_demo(out, seed=seed, console=_console())
    typer.echo(f"\nopen {report.resolve()} in a browser")


@app.command()
def train(
    recipe: Annotated[
        str | None, typer.Argument(help="a shipped recipe, a target or a YAML file", show_default=False)
    ] = None,
    overrides: Overrides = None,
    out: Annotated[Path, typer.Option(help="the run folder", show_default=False)] = Path("runs/latest"),
    data: DataFolder = None,
    resume: Annotated[bool, typer.Option("--resume", help="go on with the run in --out")] = False,
) -> None:
    """Train by a recipe, score the model and write a report."""
    from passerby.commands import train_and_report

    chosen = [*(overrides or []), *([f"root={json.dumps(data)}"] if data else [])]
    typer.echo(f"report: {train_and_report(recipe, chosen, out, resume=resume, console=_console())}")


@app.command()
def adapt(
    run: Annotated[Path, typer.Argument(help="the folder of a finished run", show_default=False)],
    folder: Annotated[Path, typer.Argument(help="images of people whom nobody has named", show_default=False)],
    overrides: Overrides = None,
    out: Annotated[Path, typer.Option(help="the folder of the new run", show_default=False)] = Path("runs/adapted"),
    method: Annotated[
        str, typer.Option(help="contrast, pseudo, or another that finds people by clustering")
    ] = "contrast",
    pattern: Annotated[
        str | None, typer.Option(help="how names tell cameras, for example '{cam}/*'", show_default=False)
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="go on with the run in --out")] = False,
) -> None:
    """Go on from a finished run with a folder without labels, and say how many people are in it."""
    from passerby.commands import adapt_and_report

    written = adapt_and_report(
        run,
        folder,
        out,
        method=method,
        pattern=pattern,
        overrides=overrides or [],
        resume=resume,
        console=_console(),
    )
    typer.echo(f"report: {written}")


@app.command()
def evaluate(
    run: Annotated[Path | None, typer.Argument(help="a run folder, or what `embed` takes", show_default=False)] = None,
    on: Annotated[str | None, typer.Option(help="a data set the recipe knows, or a kind", show_default=False)] = None,
    data: DataFolder = None,
    embeddings: Annotated[Path | None, typer.Option(help="an .npz instead of a run", show_default=False)] = None,
    rerank: Annotated[bool, typer.Option("--rerank", help="re-rank by k-reciprocal neighbours")] = False,
    reliance: Annotated[bool, typer.Option("--reliance", help="also test people and backgrounds alone")] = False,
    masks: MasksFolder = None,
    cameras: Annotated[CamerasRule | None, typer.Option(help="default: as the recipe says")] = None,
    queries: Annotated[
        QueriesRule | None, typer.Option(help="multi: average a person's images from the query's camera")
    ] = None,
    flip: Annotated[Literal["on", "off"] | None, typer.Option(help="average with the mirror image")] = None,
    said: InputSaid = None,
    json_file: JsonFile = None,
) -> None:
    """Score a trained model, or the vectors of any program."""
    from passerby.commands import evaluate_run, evaluate_vectors, open_model, print_scores
    from passerby.evaluate import scores_json

    console = _console()
    if (run is None) == (embeddings is None):
        raise UserError("give either a run folder or --embeddings FILE.npz")
    if said and run is None:
        raise UserError("--input is about an .onnx file; --embeddings holds vectors already")
    if run is not None:
        result = evaluate_run(
            open_model(run, said or [], console),
            on=on,
            data=data,
            masks=masks,
            cameras=cameras,
            queries=queries,
            flip=flip,
            rerank=rerank,
            reliance="measure" if reliance else "skip",
            console=console,
        )
    else:
        assert embeddings is not None
        if flip or reliance or masks:
            raise UserError("--flip, --reliance and --masks look at images again, so they need a run, not --embeddings")
        result = evaluate_vectors(
            embeddings, cameras=cameras or "standard", queries=queries or "single", rerank=rerank, console=console
        )
    print_scores([result], console)
    if json_file is not None:
        extra = {} if result.reliance is None else {"reliance": result.reliance.to_json()}
        write_json(json_file, scores_json(result.reranked or result.plain) | extra)


@app.command()
def embed(
    run: ModelPath,
    places: Annotated[list[Path] | None, typer.Argument(help="images, or folders of them", show_default=False)] = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="the .npz to write")] = Path("embeddings.npz"),
    on: Annotated[
        str | None, typer.Option(help="a data set instead: its query and gallery", show_default=False)
    ] = None,
    data: DataFolder = None,
    said: InputSaid = None,
) -> None:
    """Turn images into vectors."""
    from passerby.commands import embed_places, open_model

    console = _console()
    table = embed_places(open_model(run, said or [], console), places or [], on=on, data=data, console=console)
    table.save(out)
    typer.echo(f"{len(table)} vectors of {table.vectors.shape[1]} numbers in {out}")


@app.command()
def search(
    table: Annotated[Path, typer.Argument(help="an .npz made by `passerby embed`", show_default=False)],
    image: Annotated[Path, typer.Argument(help="the person to look for", show_default=False)],
    run: Annotated[Path, typer.Option(help="the run or file that made the .npz", show_default=False)],
    count: Annotated[int, typer.Option(min=1, help="how many answers")] = 10,
    said: InputSaid = None,
) -> None:
    """Find the images that look most like one person."""
    from passerby.commands import open_model
    from passerby.trained import search as find
    from passerby.types import Embeddings

    model = open_model(run, said or [], _console())
    for place, found in enumerate(find(model, Embeddings.load(table), image, count=count), start=1):
        typer.echo(f"{place:>3}  distance {found.distance:.4f}  {found.path or f'row {found.row}'}")


@app.command()
def export(
    run: RunPath,
    to: Annotated[Literal["onnx", "safetensors"], typer.Option(help="onnx is checked against torch")] = "onnx",
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="default: embedder.onnx or embedder.safetensors here")
    ] = None,
    feature: Annotated[
        Literal["embedding", "feature"] | None, typer.Option(help="default: the one that the recipe tests")
    ] = None,
) -> None:
    """Write a trained model as one file that needs no run folder."""
    from passerby.export import export as write

    out = out or Path(f"embedder.{to}")
    found = write(run, out, to=to, feature=feature)
    typer.echo(out if found is None else f"{out}\n{found}")


@app.command()
def interpolate(
    old: RunPath,
    new: RunPath,
    on: Annotated[
        list[str] | None, typer.Option(help="data sets; default: all that the new one's recipe tests")
    ] = None,
    data: DataFolder = None,
    shares: Annotated[str | None, typer.Option(help="of the new weights; default: 0,0.1,...,1")] = None,
    json_file: JsonFile = None,
) -> None:
    """Test the mixtures of two models, for example of run/stage-1.safetensors and run."""
    from passerby.commands import interpolate_models

    found = interpolate_models(old, new, on=on or [], data=data, shares=shares, console=_console())
    if json_file is not None:
        write_json(json_file, found)


@app.command()
def report(
    run: RunPath,
    against: Annotated[
        Path | None, typer.Option(help="another run over the same stages, to set beside it", show_default=False)
    ] = None,
    expert: Annotated[
        list[Path] | None, typer.Option(help="a run of one site alone; give one for each site", show_default=False)
    ] = None,
) -> None:
    """Write the report of a run again, for example beside another run."""
    from passerby.report.page import write_report

    typer.echo(write_report(run, against=against, experts=expert or []))


# ---- data


@data_app.command("list")
def data_list() -> None:
    """List the kinds of data sets that can be read."""
    from passerby.data.datasets import KINDS

    for kind, description in KINDS.items():
        typer.echo(f"{kind:12} {description}")


KindName = Annotated[str, typer.Option("--kind", help="see `passerby data list`")]
Folder = Annotated[str, typer.Argument(help="the folder of images (for csv: the file)", show_default=False)]


@data_app.command("check")
def data_check(
    folder: Folder,
    kind: KindName = "auto",
    cameras: Annotated[CamerasRule, typer.Option(help="ignore: same-camera matches count")] = "standard",
    masks: MasksFolder = None,
) -> None:
    """Look for broken files, leaks and queries that cannot be scored; exit 1 when evaluation could not work."""
    from passerby.data.check import check_dataset, render
    from passerby.data.datasets import dataset_settings, open_dataset

    found = check_dataset(open_dataset(dataset_settings(kind, folder, masks=masks), kind), cameras=cameras)
    typer.echo(render(found))
    raise typer.Exit(1 if found.problems else 0)


@data_app.command("describe")
def data_describe(folder: Folder, kind: KindName = "auto") -> None:
    """Say how many images, people and cameras a folder has."""
    from passerby.data.check import describe
    from passerby.data.datasets import dataset_settings, open_dataset

    typer.echo(describe(open_dataset(dataset_settings(kind, folder), kind)))


@data_app.command("make")
def data_make(
    folder: Annotated[Path, typer.Argument(help="where to write", show_default=False)],
    site: Annotated[str, typer.Option(help="plaza, campus or station")] = "plaza",
    seed: Annotated[int, typer.Option(help="other seeds give other people and cameras")] = 0,
    train_people: Annotated[int, typer.Option(help="identities to train on")] = 80,
    test_people: Annotated[int, typer.Option(help="identities to search for")] = 50,
    images: Annotated[int, typer.Option(help="images of each identity, on average")] = 12,
) -> None:
    """Make a site of generated people in the layout of a public data set, with masks."""
    from passerby.console import bar
    from passerby.data.synthetic.layout import SiteSize
    from passerby.data.synthetic.site import make_site

    with bar("drawing people", _console()) as progress:
        root = make_site(folder, site, seed=seed, size=SiteSize(train_people, test_people, images), progress=progress)
    typer.echo(root)


# ---- masks

SegmenterFile = Annotated[Path, typer.Argument(help="made by `passerby segment train`", show_default=False)]


@segment_app.command("train")
def segment_train(
    folder: Folder,
    out: Annotated[Path, typer.Option(help="the .safetensors to write")] = Path("segmenter.safetensors"),
    masks: MasksFolder = None,
    kind: KindName = "auto",
    epochs: Annotated[int, typer.Option(min=1, help="how often each image is seen")] = 12,
    seed: Annotated[int, typer.Option(min=0, help="other seeds hold out other people")] = 0,
) -> None:
    """Teach a small network to find people, from whatever masks there are."""
    from passerby.commands import train_segmenter

    console = _console()
    made = train_segmenter(folder, kind=kind, masks=masks, out=out, epochs=epochs, seed=seed, console=console)
    typer.echo(
        f"{out}: learnt from {made.count_images} images; overlap (IoU) {100 * made.overlap:.1f} % on "
        f"{made.count_held_out} {'images of other people' if made.apart_by == 'people' else 'other images'}"
    )


@segment_app.command("apply")
def segment_apply(
    segmenter: SegmenterFile,
    folder: Annotated[str, typer.Argument(help="the folder of images", show_default=False)],
    out: Annotated[Path, typer.Option(help="the folder of masks to write", show_default=False)],
) -> None:
    """Write a mask for every image below a folder."""
    from passerby.console import bar
    from passerby.segment.apply import apply_segmenter
    from passerby.segment.network import load_segmenter

    network, _ = load_segmenter(segmenter)
    with bar("finding people", _console()) as progress:
        count = apply_segmenter(network, folder, out, progress=progress)
    typer.echo(f"{count} masks in {out}; use them by masks={out}, or --masks {out}")


@segment_app.command("score")
def segment_score(segmenter: SegmenterFile, folder: Folder, masks: MasksFolder = None, kind: KindName = "auto") -> None:
    """Compare what a segmenter finds on the test images of a folder with the masks that are there."""
    from passerby.segment.learn import images_to_score, open_masked, score_segmenter
    from passerby.segment.network import load_segmenter

    network, origin = load_segmenter(segmenter)
    split = images_to_score(open_masked(folder, kind=kind, masks=masks))
    scores = score_segmenter(network, split)
    typer.echo(
        f"trained on {origin.trained_on}: overlap (IoU) {100 * sum(scores) / len(scores):.1f} % on {len(split)} images"
    )


# ---- recipes


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

    text = draw(load_recipe(recipe, overrides or []))
    with atomic_write(out) as file:
        file.write(text.encode())
    typer.echo(out)


# ---- benches

Quick = Annotated[bool, typer.Option("--quick", help="smaller, in seconds")]
SiteName = Annotated[Literal["market1501", "msmt17"], typer.Option(help="how many images and how many queries")]


@bench_app.command("ranking")
def bench_ranking(quick: Quick = False, site: SiteName = "market1501", json_file: JsonFile = None) -> None:
    """Exact ranking against the bare matrix product and against sorting."""
    from passerby.bench.ranking import bench_ranking

    _print_bench(bench_ranking(quick=quick, site=site), json_file)


@bench_app.command("rerank")
def bench_rerank(quick: Quick = False, site: SiteName = "market1501", json_file: JsonFile = None) -> None:
    """Sparse k-reciprocal re-ranking against the usual dense one."""
    from passerby.bench.rerank import bench_rerank

    _print_bench(bench_rerank(quick=quick, site=site), json_file)


@bench_app.command("loader")
def bench_loader(quick: Quick = False, json_file: JsonFile = None) -> None:
    """Loading and augmenting against the training step that waits for it."""
    from passerby.bench.loader import bench_loader

    _print_bench(bench_loader(quick=quick), json_file)


@bench_app.command("step")
def bench_step(
    quick: Quick = False,
    backbone: Annotated[Literal["resnet50", "resnet18"], typer.Option(help="256x128 or 128x64")] = "resnet50",
    json_file: JsonFile = None,
) -> None:
    """A training step against the same step written plainly in torch."""
    from passerby.bench.step import bench_step

    _print_bench(bench_step(quick=quick, backbone=backbone), json_file)


# ---- printing


def _print_bench(found: BenchTable, json_file: Path | None) -> None:
    from passerby.bench.measure import print_bench

    print_bench(found, _console())
    if json_file is not None:
        write_json(json_file, found.to_json())


def _console() -> Console:
    from rich.console import Console

    return Console()


def main() -> None:
    """Run the command line."""
    app()
