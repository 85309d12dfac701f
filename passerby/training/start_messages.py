"""Messages before the first step of a run: its data, stages, notes, device, and position."""

from __future__ import annotations

from pathlib import Path

from passerby.errors import UserError
from passerby.inference.tested import tested_split
from passerby.models.embedder import Embedder
from passerby.optim import OptimSettings, never_falls
from passerby.plugins import describe_used
from passerby.recipe import Recipe
from passerby.scorable import camera_note
from passerby.training import distributed
from passerby.training.counters import position_text
from passerby.training.plan import stage_sentences
from passerby.training.setup import Setup
from passerby.training.stages import identity_sentences
from passerby.training.trainer import Trainer
from passerby.types import unknown_cameras_note


def start_messages(trainer: Trainer) -> list[str]:
    """Return sentences on data, stages, weights, methods, schedule and device of a run."""
    setup, loaded = trainer.setup, trainer.state.embedder.loaded
    recipe, datasets = setup.recipe, setup.datasets
    sentences = [*describe_used()]
    sentences += [f"{dataset.name}: {note}" for dataset in datasets.values() for note in dataset.notes]
    for settings, stage in zip(recipe.stages, setup.stages, strict=True):
        sentences += stage_sentences(stage, settings.data.sampler)
        sentences += identity_sentences(settings, datasets)
    if loaded is not None:
        sentences.append(f"{recipe.model.weights}: {loaded}")
    notes = [camera_note(datasets[name], recipe.test.cameras) for name in recipe.tested]
    sentences += [note for note in notes if note]
    sentences += _unknown_cameras(setup, trainer.state.embedder)
    sentences += _method_notes(recipe)
    schedules = [schedule_note(settings.title, settings.optim, settings.epochs) for settings in recipe.stages]
    sentences += [note for note in schedules if note]
    sentences.append(
        f"{recipe.model.backbone} in {setup.precision} on {setup.device}, {distributed.world()} process(es)"
    )
    sentences += [setup.probe_note] if setup.probe_note else []
    return sentences


def schedule_note(title: str, optim: OptimSettings, epochs: int) -> str | None:
    """Return a sentence where a stage ends before its schedule has lowered the learning rate, else None.

    Args:
        title: of the stage, as the terminal calls it.
        optim: its schedule.
        epochs: its number of epochs.

    """
    if not never_falls(optim, epochs):
        return None
    lengths = "optim.milestones" if optim.schedule == "multistep" else "optim.flat_epochs and optim.warmup_epochs"
    length = f"{epochs} {'epoch' if epochs == 1 else 'epochs'}"
    return (
        f"{title}: the schedule does not lower the learning rate within {length}; train longer, or set {lengths} lower"
    )


def _unknown_cameras(setup: Setup, embedder: Embedder) -> list[str]:
    """Return sentences on images of cameras that the model does not learn."""
    shown = [(stage.name, stage.train.cam_row) for stage in setup.stages]
    shown += [(name, tested_split(setup.datasets[name]).cam_row) for name in setup.recipe.tested]
    notes = [
        (name, unknown_cameras_note(rows, embedder.cameras, unknown=embedder.backbone.unknown_camera))
        for name, rows in shown
    ]
    return [f"{name}: {note}" for name, note in notes if note]


def _method_notes(recipe: Recipe) -> list[str]:
    methods = {name: settings for stage in recipe.stages for name, settings in stage.method.chosen.items()}
    return [f"method.{name}: {note}" for name, settings in methods.items() if (note := settings.note)]


def position_of(trainer: Trainer) -> str:
    """Return the position of a resumed run, as a sentence."""
    state, stages = trainer.state, len(trainer.setup.stages)
    at = state.counters
    if state.over and at.stage + 1 == stages:
        return "all epochs are finished already: the model is only tested"
    position = "at its end" if state.over else position_text(epoch=at.epoch, batch=at.iteration)
    return f"resuming at {position_text(stage=at.stage)} of {stages}, {position}"


def missing_folders_hint(recipe: Recipe) -> str:
    """Return a hint on the option that sets new paths for missing data folders; empty when none is missing."""
    names = dict.fromkeys(name for stage in recipe.stages for name in stage.shown)
    keys = {name: f"datasets.{name}" if name in recipe.datasets else "" for name in names}
    places = {name: recipe.dataset(name).model_dump() for name in names}
    missing = [
        f"{keys[name]}.{key}".lstrip(".")
        for name, place in places.items()
        for key in ("root", "path")
        if key in place and not Path(str(place[key])).exists()
    ]
    return f"; if the images have moved, give their new path: --resume {missing[0]}=FOLDER" if missing else ""


def require_free(folder: Path) -> None:
    """Raise `UserError` unless a new run can be started in a folder."""
    if (folder / "recipe.yaml").exists():
        raise UserError(f"{folder} already holds a run; continue it with --resume, or choose another --out")
    if folder.exists() and not folder.is_dir():
        raise UserError(f"--out {folder} is a file, not a folder")
