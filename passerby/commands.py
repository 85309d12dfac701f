"""Functions behind the commands: each takes plain arguments and a console, and returns the result to print."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Literal

from rich.console import Console
from rich.table import Table

from passerby.adaptation.clusters import find_identities
from passerby.adaptation.folder import folder_settings
from passerby.adaptation.recipe import adaptation, require_adaptation
from passerby.background_bias import BackgroundBias, measure_background_bias
from passerby.console import bar, with_notes
from passerby.data.datasets import open_dataset
from passerby.data.image_files import listing_notes
from passerby.data.naming import free_name
from passerby.data.repeated import repeated_note
from passerby.device import InferenceSettings, find_device
from passerby.encoders import (
    UNGIVEN,
    GivenCamera,
    Model,
    embed_dataset,
    embed_images,
    load_model,
    select_dataset,
)
from passerby.errors import UserError
from passerby.evaluation import evaluate, explain_skipped, scores_json
from passerby.interpolate import ALPHAS, interpolate, load_pair, read_alphas
from passerby.lock import locked
from passerby.metrics.chance import RankScores
from passerby.metrics.spread import spread_notes
from passerby.plugins import require_used
from passerby.recipe import Recipe, TestSettings, load_recipe, recipe_from_text
from passerby.reference_results import REFERENCE_NOTE, compare
from passerby.report.background_bias import background_bias_rows, background_bias_sentence
from passerby.report.explanations import hardly_learnt
from passerby.report.page import write_report
from passerby.scorable import camera_note, require_scorable
from passerby.segment.network import Origin, SegmenterSettings, save_segmenter
from passerby.segment.training import open_masked, train_on_masks
from passerby.training.checkpoint import load_checkpoint
from passerby.training.environment import command_line
from passerby.training.memory import keep_memory
from passerby.training.progress import ProgressBar
from passerby.training.reference import figures
from passerby.training.results import Result
from passerby.training.session import Interrupted, train
from passerby.training.start_messages import require_free
from passerby.training.trackers import tracked
from passerby.training.trainer import Watch
from passerby.types import Cameras, Dataset, Embeddings, Queries, Rerank, Scores, SplitName


def train_seeds(
    name: str | None,
    overrides: Sequence[str],
    out: Path,
    *,
    seeds: str,
    epochs: int | None = None,
    resume: bool,
    console: Console,
) -> list[Path]:
    """Train by a recipe once for each seed and return the run folders.

    Args:
        name, overrides, epochs, console: as in `train_and_report`.
        out: folder of the run folders, `seed-N` each.
        seeds: whole numbers with commas, as typed.
        resume: go on: leave runs with scores as they are, resume what was begun, begin the others.

    """
    numbers = [word.strip() for word in seeds.split(",")]
    if not all(word.isascii() and word.isdigit() for word in numbers) or len(set(numbers)) != len(numbers):
        raise UserError(f"--seeds takes different whole numbers with commas, for example 0,1,2; got {seeds!r}")
    if any(override.startswith("engine.seed=") for override in overrides):
        raise UserError("engine.seed and --seeds both set the seed; give only one of them")
    folders = [out / f"seed-{number}" for number in numbers]
    for number, folder in zip(numbers, folders, strict=True):
        if resume and (folder / "scores.json").is_file():
            continue
        console.rule(f"seed {number}")
        train_and_report(
            name,
            [*overrides, f"engine.seed={number}"],
            folder,
            epochs=epochs,
            resume=resume and (folder / "last.pt").is_file(),
            console=console,
        )
    return folders


def train_and_report(
    name: str | None,
    overrides: Sequence[str],
    out: Path,
    *,
    epochs: int | None = None,
    resume: bool,
    console: Console,
) -> Path:
    """Train by a recipe, print the scores, write the report, and return its path.

    Args:
        name: a shipped recipe or a YAML file; may be left out when resuming.
        overrides: `key=value`.
        out: the run folder.
        epochs: length of every stage, whose schedule is stretched with it; None keeps the recipe's.
        resume: go on with the run in `out`.
        console: where progress is shown.

    """
    if name is not None and "=" in name:  # `train --resume optim.lr=...`: the recipe is left out, not the change
        overrides, name = [name, *overrides], None
    recipe = _recipe(name, overrides, out, epochs=epochs, resume=resume)
    _learn(
        recipe,
        out,
        resume=resume,
        again=shlex.join(["passerby", "train", "--resume", "--out", str(out)]),
        console=console,
    )
    return write_report(out, inference=with_notes(InferenceSettings(device=recipe.engine.device), console))


def adapt_and_report(
    source: Path,
    folder: Path,
    out: Path,
    *,
    method: str = "contrast",
    pattern: str | None = None,
    overrides: Sequence[str] = (),
    inference: InferenceSettings,
    resume: bool,
    console: Console,
) -> Path:
    """Adapt a finished run to unlabelled images, print the predicted identities, write the report, and return its path.

    Args:
        source, folder, method, pattern, overrides: as in `adaptation`.
        inference: how images are embedded; the run trains on the same device, in the same precision.
        out: the folder of the new run.
        resume: continue the run in `out`, which must have the same source and folder.
        console: where progress is shown.

    """
    inference = with_notes(inference, console)
    overrides = [*_engine_overrides(inference), *overrides]
    if resume:
        recipe = _recipe(None, overrides, out, resume=True)
        recipe = require_adaptation(recipe, source, folder, out=out)
    else:
        require_free(out)
        with bar("embedding the images", console) as advance:
            recipe = adaptation(
                source,
                folder,
                method=method,
                pattern=pattern,
                overrides=overrides,
                inference=inference,
                progress=advance,
                say=partial(console.print, highlight=False, markup=False, soft_wrap=True),
            )
    again = shlex.join(["passerby", "adapt", str(source), str(folder), "--resume", "--out", str(out)])
    _learn(recipe, out, resume=resume, again=again, console=console)
    with locked(out, command=command_line(sys.argv)), bar("clustering", console) as advance:
        found = find_identities(out, inference=inference, progress=advance)
    for sentence in (*found.sentences(), f"cluster of each image: {out / 'clusters.csv'}"):
        console.print(sentence, highlight=False, markup=False, soft_wrap=True)
    return write_report(out, inference=replace(inference, device=recipe.engine.device))


def _engine_overrides(inference: InferenceSettings) -> list[str]:
    """Return the recipe overrides equal to the inference settings that are set explicitly."""
    chosen = {"device": inference.device, "precision": inference.precision}
    return [f"engine.{name}={value}" for name, value in chosen.items() if value != "auto"]


def _learn(recipe: Recipe, out: Path, *, resume: bool, again: str, console: Console) -> None:
    """Run a recipe and print its scores; `again` is the command that resumes an interrupted run."""
    keep_memory()
    progress = ProgressBar(console)
    watch: list[Watch] = [progress.watch]
    try:
        with progress.shown(), tracked(recipe.engine.track, out, recipe.model_dump(mode="json")) as trackers:
            results = train(
                recipe,
                out,
                start="resume" if resume else "fresh",
                watch=watch,
                listen=[progress.tell, *trackers],
                say=console.print,
            )
    except Interrupted as interruption:
        raise Interrupted(f"{interruption}\nresume with: {again}") from None
    if results:
        print_scores(results, console)
    print_reference_results(results, console)


def _recipe(
    name: str | None, overrides: Sequence[str], out: Path, *, epochs: int | None = None, resume: bool
) -> Recipe:
    if resume:
        require_used(out)
    if resume and name is None:
        if epochs is not None:
            raise UserError("--epochs stretches the schedule of a new run; a run that is resumed keeps its own")
        text = load_checkpoint(out / "last.pt").recipe
        return recipe_from_text(text, overrides, source=str(out / "last.pt"))
    if name is None:
        raise UserError("missing recipe; give one, for example: passerby train small --data FOLDER --out runs/first")
    return load_recipe(name, overrides, epochs=epochs)


def evaluate_vectors(
    file: Path, *, cameras: Cameras, queries: Queries = "single", rerank: bool, device: str = "auto", console: Console
) -> Result:
    """Evaluate a file of embeddings of any program, optionally with re-ranking."""
    score = partial(evaluate, cameras=cameras, queries=queries, device=str(find_device(device)))
    result = _result(Embeddings.load(file), score, rerank=Rerank() if rerank else None, console=console)
    if result.plain.protocol.cameras != cameras:
        console.print("no image has a known camera, so matches from the query's camera are included", highlight=False)
    return result


def open_model(path: Path, given: Sequence[str], console: Console, *, inference: InferenceSettings) -> Model:
    """Load a run folder, an embedder.safetensors or an ONNX file, and print assumptions about its input."""
    model = load_model(path, given, inference=with_notes(inference, console))
    for note in model.notes:
        console.print(note, highlight=False, markup=False, soft_wrap=True)
    return model


def evaluate_run(
    model: Model,
    *,
    on: str | None,
    data: str | None,
    masks: str | None = None,
    pattern: str | None = None,
    cameras: Cameras | None,
    queries: Queries | None = None,
    flip: Literal["on", "off"] | None = None,
    rerank: bool,
    background_bias: Literal["measure", "skip"] = "skip",
    cameras_of: str | None = None,
    console: Console,
) -> Result:
    """Evaluate a trained model on a data set: that of the recipe, one by name, or a folder.

    What is None in `cameras`, `queries` and `flip` is as the recipe says; for `cameras_of` see `embed_dataset`.
    """
    say = partial(console.print, highlight=False, markup=False, soft_wrap=True)
    test = model.recipe.test if model.recipe else TestSettings()
    dataset = select_dataset(model.recipe, on=on, data=data, masks=masks, pattern=pattern)
    for note in dataset.notes:
        console.print(note, highlight=False)
    rule = cameras or test.cameras
    require_scorable(dataset, cameras=rule, queries=queries or test.queries, ignore="--cameras ignore")
    if note := camera_note(dataset, rule):
        console.print(note, highlight=False, markup=False)
    if flip is not None:
        model = model.with_flip(flip == "on")
    with bar(f"embedding {dataset.name}", console) as advance:
        embeddings = embed_dataset(model, dataset, cameras_of=cameras_of, progress=advance, say=say)
    wanted = (test.rerank.parameters if test.rerank else Rerank()) if rerank else None
    score = partial(
        evaluate, cameras=rule, queries=queries or test.queries, distance=test.distance, device=model.device
    )
    result = _result(embeddings, score, rerank=wanted, console=console)
    if background_bias == "skip":
        return result
    with bar("embedding people and places alone", console) as advance:
        found = measure_background_bias(
            dataset,
            embeddings,
            embed=lambda view: embed_dataset(model, dataset, cameras_of=cameras_of, progress=advance, view=view),
            score=score,
            cameras=rule,
        )
    return replace(result, background_bias=found)


def _result(embeddings: Embeddings, score: partial[Scores], *, rerank: Rerank | None, console: Console) -> Result:
    plain = score(embeddings)
    for note in spread_notes(embeddings.vectors):
        console.print(note, style="yellow", highlight=False, markup=False)
    if not plain.valid.all():
        skipped = explain_skipped(embeddings, cameras=plain.protocol.cameras)
        console.print(f"queries not scored: {skipped}", highlight=False)
    again = None if rerank is None else score(embeddings, rerank=rerank)
    return Result(embeddings.dataset or "vectors", plain, again)


def interpolate_models(
    old: Path,
    new: Path,
    *,
    on: Sequence[str],
    data: str | None,
    pattern: str | None = None,
    alphas: str | None,
    inference: InferenceSettings,
    console: Console,
) -> list[dict[str, object]]:
    """Evaluate interpolated models, print the table, and return it as JSON values.

    Args:
        old, new: run folders or files.
        on: data sets of the new one's recipe; none = all that it tests.
        data: a folder to test on instead.
        pattern: template of its file names.
        alphas: weights of the new model, separated by commas; None = 0, 0.1, ..., 1.
        inference: how the mixtures are run.
        console: where the table goes.

    """
    chosen = ALPHAS if alphas is None else read_alphas(alphas)
    earlier, later = load_pair(old, new, inference=with_notes(inference, console))
    names: Sequence[str | None] = on or ([None] if data is not None else later.recipe.tested)
    datasets: list[Dataset] = []
    for name in names:
        dataset = select_dataset(later.recipe, on=name, data=data, pattern=pattern)
        datasets.append(replace(dataset, name=free_name(dataset.name, [other.name for other in datasets])))
    for dataset in datasets:
        require_scorable(dataset, cameras=later.recipe.test.cameras, queries=later.recipe.test.queries)
    with bar("testing mixtures", console) as advance:
        found = interpolate(earlier, later, datasets=datasets, alphas=chosen, progress=advance)
    table = Table("alpha", *(f"{dataset.name} mAP" for dataset in datasets), "mean")
    for row in found:
        values = [100 * scores.mAP for scores in row.scores.values()]
        table.add_row(f"{row.alpha:g}", *(f"{v:.1f}" for v in values), f"{sum(values) / len(values):.1f}")
    console.print(table)
    return [
        {"alpha": row.alpha, "scores": {name: scores_json(scores) for name, scores in row.scores.items()}}
        for row in found
    ]


def embed_places(
    model: Model,
    places: Sequence[Path],
    *,
    on: str | None,
    data: str | None,
    pattern: str | None = None,
    splits: Sequence[SplitName] = (),
    camera: GivenCamera = UNGIVEN,
    leave_out: Callable[[str], None] | None = None,
    console: Console,
) -> Embeddings:
    """Embed images and folders of images, or splits of a data set.

    Args:
        model: makes the vectors.
        places: images and folders; none = a data set.
        on: name of the data set in the recipe, or its kind.
        data: its folder.
        pattern: template of the file names below the one folder, or below that of the data set.
        splits: of the data set; none = query and gallery, or all images of one folder with a pattern.
        camera: that of the images, for a model that uses cameras.
        leave_out: called with a sentence for each image among `places` that cannot be read; None = it is refused.
        console: where notes and progress go.

    """
    say = partial(console.print, highlight=False, markup=False, soft_wrap=True)
    if places and (on or data):
        raise UserError("give either images and folders, or a data set by --on or --data, not both")
    if splits and not (on or data):
        raise UserError("--split chooses splits of a data set; give it by --on or --data")
    if camera.number is not None and not places:
        raise UserError("--camera is that of loose images; a data set has cameras of its own (see --cameras-of)")
    with bar("embedding", console) as advance:
        if places and pattern is not None:
            dataset = open_dataset(folder_settings(_one_folder(places), pattern=pattern))
            _print_notes(dataset.notes, console)
            return embed_dataset(
                model,
                dataset,
                splits=("train", "query", "gallery"),
                cameras_of=camera.dataset,
                progress=advance,
                leave_out=leave_out,
                say=say,
            )
        if places:
            with listing_notes() as listed:
                table = embed_images(model, places, camera=camera, progress=advance, leave_out=leave_out, say=say)
            assert table.path is not None
            _print_notes((*listed.sentences, *repeated_note(table.path.tolist())), console)
            return table
        if not (on or data):
            raise UserError("nothing to embed; give images, folders, or a data set by --on or --data")
        dataset = select_dataset(model.recipe, on=on, data=data, pattern=pattern)
        _print_notes(dataset.notes, console)
        return embed_dataset(
            model,
            dataset,
            splits=splits or ("query", "gallery"),
            cameras_of=camera.dataset,
            progress=advance,
            say=say,
        )


def _print_notes(notes: Sequence[str], console: Console) -> None:
    for note in notes:
        console.print(note, highlight=False, markup=False, soft_wrap=True)


def _one_folder(places: Sequence[Path]) -> Path:
    if len(places) > 1:
        raise UserError(f"--pattern applies to one folder; embed {places[0]} and {places[1]} in separate calls")
    return places[0]


def train_segmenter(
    folder: str,
    *,
    kind: str,
    masks: str | None,
    pattern: str | None = None,
    out: Path,
    epochs: int,
    seed: int,
    device: str = "auto",
    console: Console,
) -> Origin:
    """Train a segmenter on the masked training images of a folder and write it."""
    dataset = open_masked(folder, kind=kind, masks=masks, pattern=pattern)
    for note in dataset.notes:
        console.print(note, highlight=False)
    with (
        locked(out.parent, file=out.name, command=command_line(sys.argv)),
        bar(f"learning from the masks of {dataset.name}", console) as advance,
    ):
        trained = train_on_masks(
            dataset, SegmenterSettings(), epochs=epochs, seed=seed, device=device, progress=advance
        )
        save_segmenter(trained.segmenter, out, origin=trained.origin)
    return trained.origin


def print_scores(results: Sequence[Result], console: Console) -> None:
    """Print a table of scores, plain and re-ranked."""
    table = Table("data set", "ranking", "mAP", "rank-1", "rank-5", "rank-10", "mINP", "queries")
    for result in results:
        table.add_row(result.dataset, "plain", *_figures(result.plain))
        if result.reranked is not None:
            table.add_row("", "re-ranked", *_figures(result.reranked))
        chance = (f"{100 * share:.1f}" for share in (result.plain.chance_mAP, result.plain.chance_rank1))
        table.add_row("", "chance", *chance)
    console.print(table)
    for result in results:
        if (text := hardly_learnt(*_rank_scores(result.plain))) is not None:
            console.print(f"{result.dataset}: {text}", style="yellow", highlight=False, markup=False)
    for result in results:
        if result.background_bias is not None:
            _print_background_bias(result.dataset, result.background_bias, console)


def _rank_scores(scores: Scores) -> tuple[RankScores, RankScores]:
    """Return mAP and rank-1 as measured and by chance."""
    return RankScores(scores.mAP, scores.rank(1)), RankScores(scores.chance_mAP, scores.chance_rank1)


def _print_background_bias(name: str, found: BackgroundBias, console: Console) -> None:
    table = Table(f"{name} is shown", "mAP", "rank-1")
    for title, row in background_bias_rows(found):
        table.add_row(title, f"{100 * row.mAP:.1f}", f"{100 * row.rank1:.1f}")
    console.print(table)
    console.print(background_bias_sentence(found), highlight=False)


def print_reference_results(results: Sequence[Result], console: Console) -> None:
    """Print measured and reference results, and reservations about comparing them."""
    table = Table("data set", "figure", "reference", "measured", "difference", title="Reference and measured results")
    caveats: dict[str, None] = {}
    for result in results:
        if (reference := result.reference) is None:
            continue
        reranked = None if result.reranked is None else figures(result.reranked)
        measured = figures(result.plain)
        for row in compare(reference.result, measured, reranked, forgetting=result.forgetting, losses=result.losses):
            place = result.dataset if row.figure == "mAP" else ""
            table.add_row(place, row.figure, *row.texts)
        caveats |= dict.fromkeys(reference.caveats)
    if table.row_count:
        console.print(table)
        console.print(REFERENCE_NOTE, *caveats, sep="\n", highlight=False)


def _figures(scores: Scores) -> list[str]:
    shares = (scores.mAP, scores.rank(1), scores.rank(5), scores.rank(10), scores.mINP)
    return [*(f"{100 * share:.1f}" for share in shares), str(int(scores.valid.sum()))]
