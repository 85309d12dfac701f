"""Checkpoints: tensors and plain Python only, written whole or not at all, loaded without running anything."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from passerby.errors import UserError, first_line
from passerby.files import atomic_write
from passerby.inference import Precision
from passerby.train.probe import Arithmetic

State = dict[str, object]


@dataclass(frozen=True)
class Checkpoint:
    """Everything that a run needs to go on as if it had never stopped.

    Attributes:
        recipe: the resolved recipe as YAML.
        stage, epoch, iteration: what comes next: epochs and stages done, batches done in the epoch, all from 0.
        embedder, losses, parts, optimiser, scaler: their states.
        ended: whether the parts have had their last word in the stage.
        averaged: the state of the running mean of the embedder, or None.
        teacher: the state of the model of the stage before, or None.
        labels: the labels of the unfinished epoch, or None.
        classes: how many people the losses know; None in checkpoints of 0.1, where the stage says it.
        threads: that the next step runs on; None in checkpoints of earlier versions.
        precision, channels_last: how the network computes; None in checkpoints of earlier versions.
        sums: of the unfinished epoch's loss terms, see `Run`.

    """

    recipe: str
    stage: int
    epoch: int
    iteration: int
    embedder: dict[str, Tensor]
    losses: dict[str, Tensor]
    parts: dict[str, Tensor]
    optimiser: State
    scaler: State
    labels: Tensor | None
    sums: dict[str, list[float]]
    averaged: dict[str, Tensor] | None = None
    teacher: dict[str, Tensor] | None = None
    ended: bool = False
    classes: int | None = None
    threads: int | None = None
    precision: Precision | None = None
    channels_last: bool | None = None

    @property
    def arithmetic(self) -> Arithmetic | None:
        """Precision and layout, where they are known."""
        if self.precision is None or self.channels_last is None:
            return None
        return Arithmetic(self.precision, self.channels_last)


def save_checkpoint(checkpoint: Checkpoint, path: Path) -> None:
    """Write a checkpoint beside `path` and rename it.

    Raises:
        UserError: the disk is full; the earlier checkpoint is untouched.

    """
    buffer = io.BytesIO()
    torch.save(vars(checkpoint), buffer)
    with atomic_write(path) as file:
        file.write(buffer.getbuffer())


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint to the CPU.

    Raises:
        UserError: no such file, or not a checkpoint of passerby.

    """
    if not path.is_file():
        raise UserError(f"no checkpoint {path}; leave out --resume to begin a run there")
    try:
        return Checkpoint(**torch.load(path, map_location="cpu", weights_only=True))
    except Exception as error:  # torch raises many kinds for a damaged or a foreign file
        raise UserError(
            f"{path} is not a readable checkpoint ({first_line(error)}), so the run cannot go on; train anew elsewhere"
        ) from error
