"""Functions behind `passerby train` and `passerby adapt`: train, print the scores, write the report."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from rich.console import Console

from passerby.adaptation.clusters import find_identities
from passerby.adaptation.recipe import adaptation, resumed_adaptation
from passerby.adaptation.student import student_adaptation
from passerby.commands.printing import print_reference_results, print_scores
from passerby.console import bar, with_notes
from passerby.device import InferenceSettings
from passerby.errors import UserError
from passerby.lock import locked
from passerby.methods.table import DEFAULT_CLUSTERING
from passerby.plugins import require_used
from passerby.recipe import Recipe, load_recipe, recipe_from_text
from passerby.report.page import write_report
from passerby.training.checkpoint import load_checkpoint
from passerby.training.environment import command_line
from passerby.training.memory import keep_memory
from passerby.training.progress import ProgressBar
from passerby.training.session import Interrupted, train
from passerby.training.start_messages import require_free
from passerby.training.trackers import tracked
from passerby.training.trainer import Watch


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
    method: str | None = None,
    backbone: str | None = None,
    pattern: str | None = None,
    overrides: Sequence[str] = (),
    inference: InferenceSettings,
    resume: bool,
    console: Console,
) -> Path:
    """Adapt a finished run to unlabelled images, print the predicted identities, write the report, and return its path.

    Args:
        source, folder, pattern, overrides: as in `adaptation`.
        method: as in `adaptation`, which None leaves to its default, or as in `student_adaptation`.
        backbone: network of a student that learns from the source, see `student_adaptation`; None = train the source.
        inference: how images are embedded; the run trains on the same device, in the same precision.
        out: the folder of the new run.
        resume: continue the run in `out`, which must have the same source and folder.
        console: where progress is shown.

    """
    inference = with_notes(inference, console)
    overrides = [*_engine_overrides(inference), *overrides]
    if resume:
        recipe = resumed_adaptation(source, folder, out, overrides=overrides)
    elif backbone is not None:
        require_free(out)
        recipe = student_adaptation(
            source,
            folder,
            backbone=backbone,
            method=method,
            pattern=pattern,
            overrides=overrides,
            inference=inference,
            say=partial(console.print, highlight=False, markup=False, soft_wrap=True),
        )
    else:
        require_free(out)
        with bar("embedding the images", console) as advance:
            recipe = adaptation(
                source,
                folder,
                method=method or DEFAULT_CLUSTERING,
                pattern=pattern,
                overrides=overrides,
                inference=inference,
                progress=advance,
                say=partial(console.print, highlight=False, markup=False, soft_wrap=True),
            )
    again = shlex.join(["passerby", "adapt", str(source), str(folder), "--resume", "--out", str(out)])
    _learn(recipe, out, resume=resume, again=again, console=console)
    with locked(out, command=command_line(sys.argv)), bar("clustering", console) as advance:
        identities = find_identities(out, inference=inference, progress=advance)
    for sentence in (*identities.sentences(), f"cluster of each image: {out / 'clusters.csv'}"):
        console.print(sentence, highlight=False, markup=False, soft_wrap=True)
    return write_report(out, inference=replace(inference, device=recipe.engine.device))


def _engine_overrides(inference: InferenceSettings) -> list[str]:
    """Return the recipe overrides equal to the inference settings that are set explicitly."""
    values = {"device": inference.device, "precision": inference.precision}
    return [f"engine.{name}={value}" for name, value in values.items() if value != "auto"]


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
