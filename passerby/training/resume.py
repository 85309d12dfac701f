"""What of a run may change when it is gone on with, and what would make another run of it.

Where its data lie, what machine learns and how the model is tested may change. Images are known by their names below
the data set, their sizes, identities and cameras, so that moved data are the same data.
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
    "model": "the weights are those of another network",
    "input": "the model was shown other images so far",
    "data": "the epochs that are done drew other batches",
    "datasets": "the model learnt from other images so far",
    "engine": "the steps that are done were computed in another way",
}
_OTHERWISE = "the epochs that are done were learnt in another way"


# ---- places


def absolute(recipe: Recipe) -> Recipe:
    """Return a recipe whose files and folders are found from any working directory."""
    data = cast("dict[str, Plain]", recipe.model_dump(mode="json"))
    for name in ("root", "masks", "init_from"):
        data[name] = _absolute(data[name])
    datasets, model = cast("dict[str, dict[str, Plain]]", data["datasets"]), cast("dict[str, Plain]", data["model"])
    for described in datasets.values():
        described |= {name: _absolute(described[name]) for name in _PLACES if name in described}
    if model["weights"] not in ("none", "pretrained"):
        model["weights"] = _absolute(model["weights"])
    return make_recipe(data, source="the recipe")


def _absolute(place: Plain) -> Plain:
    return str(Path(place).expanduser().absolute()) if isinstance(place, str) else place


# ---- settings


def changed(begun: Recipe, given: Recipe) -> list[Change]:
    """Return what a recipe says otherwise than the one that a run was begun with, apart from what may be free."""
    shown = {name for stage in (*begun.stages, *given.stages) for name in stage.shown}
    return [change for change in changes(begun, given, ignore=_FREE) if not _is_place(change.key, shown)]


def _is_place(key: str, shown: set[str]) -> bool:
    """Whether a key says where a data set lies, or is about one that is only tested."""
    top, _, rest = key.partition(".")
    if top != "datasets":
        return False
    name, _, last = rest.rpartition(".")
    return last in _PLACES or not any(rest == each or rest.startswith(f"{each}.") or name == each for each in shown)


def allow(begun: Recipe, given: Recipe, checkpoint: Checkpoint) -> list[str]:
    """Return sentences on what changes when a run is gone on with by another recipe.

    The epochs of the present stage and of those to come may change.

    Raises:
        UserError: a change that would make another run of it.

    """
    said = []
    for change in changed(begun, given):
        stage = _stage_of_epochs(change.key)
        if stage is None or stage < checkpoint.stage:
            raise UserError(_refusal(change, stage is not None))
        said.append(_other_epochs(change, stage, checkpoint))
    return said


def _stage_of_epochs(key: str) -> int | None:
    """Return which stage, from 0, a key gives its epochs, or None where it does something else."""
    found = re.fullmatch(r"stages\.(\d+)\.epochs", key)
    return None if found is None else int(found[1])


def _refusal(change: Change, over: bool) -> str:
    why = "the stage is over" if over else _REASONS.get(change.key.split(".")[0], _OTHERWISE)
    return (
        f"{change.key} was {change.before} and is {change.after} now, which belongs to another recipe: {why}; leave it "
        "out to go on with the run, or begin another with --out"
    )


def _other_epochs(change: Change, stage: int, checkpoint: Checkpoint) -> str:
    number, epochs = stage + 1, int(change.after)
    if stage > checkpoint.stage:
        return f"stage {number}: {epochs} epochs instead of {change.before}"
    if checkpoint.ended:
        raise UserError(
            f"stages.{stage}.epochs: stage {number} has ended and its method has kept what it needs of it; go on in a "
            "new run that starts from this one (init_from: FOLDER)"
        )
    if epochs < checkpoint.epoch or (epochs == checkpoint.epoch and checkpoint.iteration):
        done = f"{checkpoint.epoch} epochs" + (" and a part of the next" if checkpoint.iteration else "")
        raise UserError(f"stages.{stage}.epochs is {epochs}, and {done} of stage {number} are done")
    return (
        f"stage {number}: {epochs} epochs instead of {change.before}; from here on the learning rate follows the "
        f"schedule of {epochs} epochs, so this is not the run that {epochs} epochs from the beginning would be"
    )


# ---- images


def fingerprints(datasets: Mapping[str, Dataset], names: Iterable[str]) -> dict[str, str]:
    """Return what the training images of the named data sets are known by: their number and a hash."""
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


def require_same_images(begun: Mapping[str, str] | None, now: Mapping[str, str]) -> None:
    """Raise `UserError` when the training images are not those that a run was begun with; None = nothing is known."""
    for name, found in now.items() if begun is not None else ():
        before = (begun or {}).get(name, "none")
        if before != found:
            raise UserError(
                f"the training images of {name!r} are not those that the run was begun with (then {before}; now "
                f"{found}; of their names, sizes, identities and cameras); put them back, or begin another run"
            )


def other_machine(begun: Mapping[str, str] | None, now: Mapping[str, str]) -> list[str]:
    """Say what of the machine is another than before, since the last digits of all figures may be too."""
    found = [f"{name} {now[name]} instead of {was}" for name, was in (begun or {}).items() if now.get(name, was) != was]
    return [f"goes on with {', '.join(found)}: not bit for bit what it would have been"] if found else []
