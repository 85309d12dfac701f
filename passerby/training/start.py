"""Where a run starts that goes on from another one: from its model, and from what its methods remember."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from passerby.errors import UserError
from passerby.plugins import require_used
from passerby.recipe import Recipe, recipe_from_text
from passerby.training.checkpoint import Checkpoint, load_checkpoint
from passerby.training.counters import numbered
from passerby.training.fit import require_stage
from passerby.types import CameraTable


@dataclass(frozen=True, eq=False)
class Start:
    """What is taken over: states of the model that was scored there and of all methods, and the cameras it learnt."""

    embedder: dict[str, Tensor]
    methods: dict[str, Tensor]
    cameras: CameraTable


def read_start(folder: Path, recipe: Recipe) -> Start:
    """Read where another run stands at the end of a stage.

    Args:
        folder: of that run.
        recipe: of the run that goes on from it.

    Raises:
        UserError: no such run, one in the middle of a stage, or one of another network.

    """
    path = folder / "last.pt"
    if not path.is_file():
        raise UserError(f"init_from: no run in {folder}, which has no last.pt")
    require_used(folder)
    checkpoint = load_checkpoint(path)
    earlier = recipe_from_text(checkpoint.recipe, source=f"init_from: the recipe in {path}")
    require_stage(checkpoint, [stage.epochs for stage in earlier.stages])
    stage = earlier.stages[checkpoint.stage]
    if checkpoint.epoch < stage.epochs and not checkpoint.ended:  # a stage may end before its last epoch
        raise UserError(
            f"init_from: {folder} stands in the middle of {numbered(stage=checkpoint.stage)} ({checkpoint.epoch} of "
            f"{stage.epochs} epochs are done); finish it with --resume first"
        )
    _require_same_network(folder, earlier, recipe)
    cameras = CameraTable.from_plain(checkpoint.cameras or {}, source=f"init_from: {path}")
    return Start(_scored(checkpoint), checkpoint.methods, cameras)


def _require_same_network(folder: Path, earlier: Recipe, recipe: Recipe) -> None:
    theirs, mine = (r.model.model_dump(mode="json", exclude={"weights", "stripes"}) for r in (earlier, recipe))
    for key, value in theirs.items():
        if value != mine[key]:
            raise UserError(
                f"init_from: the model in {folder} has model.{key} {value!r}, this recipe has {mine[key]!r}; its "
                "weights and autoencoders serve only the network that they were made with"
            )
    theirs, mine = (r.input.model_dump(mode="json") for r in (earlier, recipe))
    for key, value in theirs.items():
        if value != mine[key]:
            raise UserError(
                f"init_from: the model in {folder} was shown images with input.{key} {value!r}, this recipe has "
                f"{mine[key]!r}; what it has learnt holds for its own images"
            )


def _scored(checkpoint: Checkpoint) -> dict[str, Tensor]:
    if checkpoint.ema is None:
        return checkpoint.embedder
    prefix = "module."
    return {key.removeprefix(prefix): v for key, v in checkpoint.ema.items() if key.startswith(prefix)}
