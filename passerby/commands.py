"""What the commands do, as functions: each takes plain arguments and a console, and returns what there is to print."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Literal

from rich.console import Console
from rich.table import Table

from passerby.console import bar
from passerby.distances.pairwise import Metric
from passerby.errors import UserError
from passerby.evaluate import evaluate, explain_skipped
from passerby.recipe import Recipe, load_recipe, recipe_from_text
from passerby.report.page import write_report
from passerby.train.checkpoint import load_checkpoint
from passerby.train.loop import Watch
from passerby.train.memory import keep_memory
from passerby.train.progress import ProgressBar
from passerby.train.session import Interrupted, Result, train
from passerby.train.tensorboard import tensorboard_listener
from passerby.trained import chosen_dataset, embed_images, embed_site, load_trained
from passerby.types import Cameras, Embeddings, Queries, Rerank, Scores


def train_and_report(name: str | None, overrides: Sequence[str], out: Path, *, resume: bool, console: Console) -> Path:
    """Train by a recipe, print the scores, write the report, and return its path.

    Args:
        name: a shipped recipe or a YAML file; may be left out when resuming.
        overrides: `key=value`.
        out: the run folder.
        resume: go on with the run in `out`.
        console: where progress is shown.

    """
    if name is not None and "=" in name:  # `train --resume optim.lr=...`: the recipe is left out, not the change
        overrides, name = [name, *overrides], None
    recipe = _recipe(name, overrides, out, resume=resume)
    keep_memory()
    progress = ProgressBar(console)
    listen = [progress.tell, *([tensorboard_listener(out)] if recipe.engine.tensorboard else [])]
    watch: list[Watch] = [progress.watch]
    try:
        with progress.shown():
            results = train(
                recipe, out, start="resume" if resume else "fresh", watch=watch, listen=listen, say=console.print
            )
    except Interrupted as interruption:
        raise Interrupted(f"{interruption}\ngo on with: passerby train --resume --out {out}") from None
    print_scores(results, console)
    return write_report(out)


def _recipe(name: str | None, overrides: Sequence[str], out: Path, *, resume: bool) -> Recipe:
    if resume and name is None:
        text = load_checkpoint(out / "last.pt").recipe
        return recipe_from_text(text, overrides, source=str(out / "last.pt"))
    if name is None:
        raise UserError("name a recipe to train by, for example: passerby train small --data FOLDER --out runs/first")
    return load_recipe(name, overrides)


def evaluate_vectors(
    file: Path, *, cameras: Cameras, queries: Queries = "single", rerank: bool, console: Console
) -> Result:
    """Score an evaluation file of any program, with re-ranking as well when it is asked for."""
    wanted = Rerank() if rerank else None
    return _result(Embeddings.load(file), cameras, queries=queries, rerank=wanted, console=console)


def evaluate_run(
    run: Path,
    *,
    on: str | None,
    data: str | None,
    cameras: Cameras | None,
    queries: Queries | None = None,
    flip: Literal["on", "off"] | None = None,
    rerank: bool,
    console: Console,
) -> Result:
    """Score a trained model on a data set: the recipe's own, one by name, or a folder.

    What is None in `cameras`, `queries` and `flip` is as the recipe says.
    """
    trained = load_trained(run)
    test = trained.recipe.test
    dataset = chosen_dataset(trained.recipe, on=on, data=data)
    for note in dataset.notes:
        console.print(note, highlight=False)
    with bar(f"embedding {dataset.name}", console) as advance:
        embeddings = embed_site(trained, dataset, flip=None if flip is None else flip == "on", progress=advance)
    wanted = (test.rerank.parameters if test.rerank else Rerank()) if rerank else None
    return _result(
        embeddings,
        cameras or test.cameras,
        queries=queries or test.queries,
        distance=test.distance,
        rerank=wanted,
        console=console,
    )


def _result(
    embeddings: Embeddings,
    cameras: Cameras,
    *,
    queries: Queries,
    distance: Metric = "cosine",
    rerank: Rerank | None,
    console: Console,
) -> Result:
    score = partial(evaluate, embeddings, cameras=cameras, queries=queries, distance=distance)
    plain = score()
    if not plain.valid.all():
        console.print(f"not counted: {explain_skipped(embeddings, cameras=cameras)}", highlight=False)
    again = None if rerank is None else score(rerank=rerank)
    return Result(embeddings.dataset or "vectors", plain, again)


def embed_places(
    run: Path, places: Sequence[Path], *, on: str | None, data: str | None, console: Console
) -> Embeddings:
    """Embed images and folders of images, or query and gallery of a data set."""
    trained = load_trained(run)
    if places and (on or data):
        raise UserError("give either images and folders, or a data set by --on or --data, not both")
    with bar("embedding", console) as advance:
        if places:
            return embed_images(trained, places, progress=advance)
        if not (on or data):
            raise UserError("name images or folders to embed, or a data set by --on or --data")
        return embed_site(trained, chosen_dataset(trained.recipe, on=on, data=data), progress=advance)


def print_scores(results: Sequence[Result], console: Console) -> None:
    """Print a table of scores, plain and re-ranked."""
    table = Table("data set", "ranking", "mAP", "rank-1", "rank-5", "rank-10", "mINP", "queries")
    for result in results:
        table.add_row(result.dataset, "plain", *_figures(result.plain))
        if result.reranked is not None:
            table.add_row("", "re-ranked", *_figures(result.reranked))
    console.print(table)


def _figures(scores: Scores) -> list[str]:
    shares = (scores.mAP, scores.rank(1), scores.rank(5), scores.rank(10), scores.mINP)
    return [*(f"{100 * share:.1f}" for share in shares), str(int(scores.valid.sum()))]
