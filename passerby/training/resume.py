"""Changes of a recipe that are allowed when a run is resumed.

Paths, machine and test protocol may change. Images are identified by their names below the data set, their sizes,
identities and cameras, so that moved data are recognised.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import cast

from passerby.errors import UserError
from passerby.recipe import Recipe, make_recipe
from passerby.recipe.changes import Change, changes
from passerby.recipe.places import is_method_file, method_files
from passerby.settings import Plain
from passerby.training.checkpoint import Checkpoint
from passerby.types import Dataset, Split

_FREE = (
    "root", "masks", "description", "reference", "reference_results", "evaluate", "test", "data.cache",
    "data.workers", "engine.device", "engine.track", "engine.keep_stages", "engine.threads", "init_from",
    "model.weights",
)  # fmt: skip
_PLACES = ("root", "path", "masks")
_REASONS = {
    "model": "the weights belong to a different network",
    "input": "the finished epochs used a different input",
    "data": "the finished epochs drew different batches",
    "datasets": "the finished epochs used different images",
    "engine": "the finished steps were computed differently",
}
_OTHERWISE = "the finished epochs were trained differently"


# ---- places


def absolute(recipe: Recipe) -> Recipe:
    """Return a recipe with absolute paths of files and folders."""
    data = cast("dict[str, Plain]", recipe.model_dump(mode="json"))
    for name in ("root", "masks", "init_from"):
        data[name] = _absolute(data[name])
    datasets, model = cast("dict[str, dict[str, Plain]]", data["datasets"]), cast("dict[str, Plain]", data["model"])
    for settings in datasets.values():
        settings |= {name: _absolute(settings[name]) for name in _PLACES if name in settings}
    for each in (data, *cast("list[dict[str, Plain]]", data["stages"])):
        for settings, name in method_files(each):
            settings[name] = _absolute(settings[name])
    if model["weights"] not in ("none", "pretrained"):
        model["weights"] = _absolute(model["weights"])
    return make_recipe(data, source="the recipe")


def _absolute(path: Plain) -> Plain:
    return str(Path(path).expanduser().absolute()) if isinstance(path, str) else path


# ---- settings


def recipe_differences(before: Recipe, after: Recipe) -> list[Change]:
    """Return the settings that differ between two recipes, without those that may always change."""
    shown = {name for stage in (*before.stages, *after.stages) for name in stage.shown}
    return [change for change in changes(before, after, ignore=_FREE) if not _is_place(change.key, shown)]


def _is_place(key: str, shown: set[str]) -> bool:
    """Whether a key is the path of a data set or of a method's file, or a setting of a set that is only tested."""
    top, _, below = key.partition(".")
    if top != "datasets":
        return is_method_file(key)
    name, _, last = below.rpartition(".")
    return last in _PLACES or not any(below == each or below.startswith(f"{each}.") or name == each for each in shown)


def allow_changes(before: Recipe, after: Recipe, checkpoint: Checkpoint) -> list[str]:
    """Return one sentence for each changed number of epochs of a resumed run.

    The epochs of the present stage and of later stages may change.

    Raises:
        UserError: any other change.

    """
    sentences = []
    for change in recipe_differences(before, after):
        stage = _stage_of_epochs(change.key)
        if stage is None or stage < checkpoint.stage:
            raise UserError(_refusal(change, stage is not None))
        sentences.append(_other_epochs(change, stage, checkpoint))
    return sentences


def _stage_of_epochs(key: str) -> int | None:
    """Return the stage, from 0, whose number of epochs a key sets; None for any other key."""
    match = re.fullmatch(r"stages\.(\d+)\.epochs", key)
    return None if match is None else int(match[1])


def _refusal(change: Change, over: bool) -> str:
    why = "the stage is over" if over else _REASONS.get(change.key.split(".")[0], _OTHERWISE)
    return (
        f"{change.key} was {change.before} and is now {change.after}, which a resumed run cannot change: {why}; leave "
        "it out, or start a new run with --out"
    )


def _other_epochs(change: Change, stage: int, checkpoint: Checkpoint) -> str:
    number, epochs = stage + 1, int(change.after)
    if stage > checkpoint.stage:
        return f"stage {number}: {epochs} epochs instead of {change.before}"
    if checkpoint.ended:
        raise UserError(
            f"stages.{stage}.epochs: stage {number} has ended, and its methods have finished; start a new run from "
            "this one (init_from: FOLDER)"
        )
    if epochs < checkpoint.epoch or (epochs == checkpoint.epoch and checkpoint.iteration):
        done = f"{checkpoint.epoch} epochs" + (" and part of the next one" if checkpoint.iteration else "")
        raise UserError(f"stages.{stage}.epochs is {epochs}, but {done} of stage {number} are finished")
    return (
        f"stage {number}: {epochs} epochs instead of {change.before}; from now on the learning rate follows the "
        f"schedule of {epochs} epochs, so the result differs from a run of {epochs} epochs from the start"
    )


# ---- images


def fingerprints(datasets: Mapping[str, Dataset], names: Iterable[str]) -> dict[str, str]:
    """Return for each named data set the number of training images and a hash of them."""
    return {name: _fingerprint(datasets[name].train) for name in names}


def _fingerprint(train: Split) -> str:
    folders = {os.path.dirname(path) for path in train.path.tolist()}  # noqa: PTH120 - a hundred thousand of them
    above = os.path.commonpath(folders) if folders else ""
    digest = hashlib.sha256()
    for path, pid, cam in zip(train.path.tolist(), train.pid.tolist(), train.cam.tolist(), strict=True):
        digest.update(f"{path[len(above) :]}|{pid}|{cam}|{_size(path)}\n".encode(errors="surrogateescape"))
    return f"{len(train):,} images, {digest.hexdigest()[:16]}"


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size  # noqa: PTH116
    except OSError:
        return -1


def require_same_images(before: Mapping[str, str] | None, after: Mapping[str, str]) -> None:
    """Raise `UserError` unless the training images are those of the interrupted run; None = unknown, not checked."""
    for name, present in after.items() if before is not None else ():
        saved = (before or {}).get(name, "none")
        if saved != present:
            raise UserError(
                f"the training images of {name!r} are not those that the run was started with (then {saved}; now "
                f"{present}; of their names, sizes, identities and cameras); restore them, or start a new run"
            )


def other_machine(before: Mapping[str, str] | None, after: Mapping[str, str]) -> list[str]:
    """Return a sentence on the changes of the machine, which may change the last digits of all figures."""
    differences = [
        f"{name} {after[name]} instead of {was}" for name, was in (before or {}).items() if after.get(name, was) != was
    ]
    return [f"resumed with {', '.join(differences)}: the results are not bit-equal"] if differences else []
