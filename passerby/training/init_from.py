"""The initial state of a run that starts from another run or from a model file (`init_from`): model and methods."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from passerby.errors import UserError
from passerby.inputs import InputSettings
from passerby.models.embedder import ModelSettings, load_embedder
from passerby.plugins import require_used
from passerby.recipe import Recipe, recipe_from_text
from passerby.settings import first_difference
from passerby.training.checkpoint import Checkpoint, load_checkpoint
from passerby.training.compatibility import require_stage
from passerby.training.counters import position_text
from passerby.types import CameraTable


@dataclass(frozen=True, eq=False)
class InitialState:
    """States of the tested model and of all methods of the earlier run, and its cameras; a file has no methods."""

    embedder: dict[str, Tensor]
    methods: dict[str, Tensor]
    cameras: CameraTable


def read_initial_state(folder: Path, recipe: Recipe) -> InitialState:
    """Read the state of an earlier run at the end of a stage, or of a model file.

    Args:
        folder: of the earlier run, or a model file (.safetensors).
        recipe: of the new run.

    Raises:
        UserError: no such run, one in the middle of a stage, or one of another network.

    """
    if folder.is_file():
        embedder = load_embedder(folder)
        _require_same_network(folder, embedder.settings, embedder.input, recipe)
        return InitialState(embedder.state_dict(), {}, embedder.cameras)
    path = folder / "last.pt"
    if not path.is_file():
        raise UserError(f"init_from: no run in {folder}, which has no last.pt; give a run folder or a .safetensors")
    require_used(folder)
    checkpoint = load_checkpoint(path)
    earlier = recipe_from_text(checkpoint.recipe, source=f"init_from: the recipe in {path}")
    require_stage(checkpoint, [stage.epochs for stage in earlier.stages])
    stage = earlier.stages[checkpoint.stage]
    if checkpoint.epoch < stage.epochs and not checkpoint.ended:  # a stage may end before its last epoch
        raise UserError(
            f"init_from: {folder} is in the middle of {position_text(stage=checkpoint.stage)} ({checkpoint.epoch} of "
            f"{stage.epochs} epochs are finished); finish it with --resume first"
        )
    _require_same_network(folder, earlier.model, earlier.input, recipe)
    cameras = CameraTable.from_plain(checkpoint.cameras or {}, source=f"init_from: {path}")
    return InitialState(_scored(checkpoint), checkpoint.methods, cameras)


def _require_same_network(folder: Path, model: ModelSettings, inputs: InputSettings, recipe: Recipe) -> None:
    """Raise `UserError` unless an earlier model has the network and the input settings of a recipe."""
    if difference := first_difference(model, recipe.model, without=frozenset({"weights", "stripes"})):
        name, value, present = difference
        raise UserError(
            f"init_from: the model in {folder} has model.{name} {value!r}, this recipe has {present!r}; its "
            "weights and autoencoders fit only the network that they were trained with"
        )
    if difference := first_difference(inputs, recipe.input):
        name, value, present = difference
        raise UserError(
            f"init_from: the model in {folder} was trained with input.{name} {value!r}, this recipe has "
            f"{present!r}; use the same input settings"
        )


def _scored(checkpoint: Checkpoint) -> dict[str, Tensor]:
    if checkpoint.ema is None:
        return checkpoint.embedder
    prefix = "module."
    return {key.removeprefix(prefix): v for key, v in checkpoint.ema.items() if key.startswith(prefix)}
