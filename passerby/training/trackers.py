"""The log of a run in an experiment tracker: TensorBoard, Weights & Biases, MLflow or Trackio."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from passerby.errors import UserError
from passerby.training.run_log import EpochRecord, GradientRecord, MetricRecord, Record, ScoreRecord

Tracker = Literal["none", "tensorboard", "wandb", "mlflow", "trackio"]
Log = Callable[[dict[str, float], int], None]
"""Called with figures by name and the epoch within the stage, counted from 1."""


@contextmanager
def tracked(tracker: Tracker, folder: Path, recipe: dict[str, object]) -> Iterator[list[Callable[[Record], None]]]:
    """Yield the listeners that forward every record to a tracker, and close it afterwards.

    Args:
        tracker: name of the tracker; `none` yields no listener.
        folder: the run folder; TensorBoard writes below it, for the others its name is the name of the run.
        recipe: the recipe as plain data, shown by trackers that show settings.

    Raises:
        UserError: the tracker is not installed.

    """
    if tracker == "none":
        yield []
        return
    try:
        log, close = {"tensorboard": _tensorboard, "wandb": _wandb, "mlflow": _mlflow, "trackio": _trackio}[tracker](
            folder, recipe
        )
    except ImportError as error:
        raise UserError(f"engine.track: {tracker} is not installed; pip install {tracker}") from error
    try:
        yield [lambda record: _pass_on(record, log)]
    finally:
        close()


def _pass_on(record: Record, log: Log) -> None:
    if values := figures_of(record):
        log(values, record.epoch)


def figures_of(record: Record) -> dict[str, float]:
    """Return the figures of a record by name, `stageN/` first.

    >>> figures_of(ScoreRecord(stage=1, epoch=3, dataset="plaza", mAP=0.5, mINP=0.25, rank1=0.75))
    {'stage1/plaza/mAP': 0.5, 'stage1/plaza/mINP': 0.25, 'stage1/plaza/rank1': 0.75}
    """
    values: dict[str, float] = {}
    if isinstance(record, EpochRecord):
        for name, term in record.terms.items():
            values |= {f"loss/{name}": term.value, f"weighted/{name}": term.weighted}
        values |= {"lr": record.lr, "images_per_second": record.images_per_second}
    elif isinstance(record, GradientRecord):
        values = {f"gradient/{name}": gradient.norm for name, gradient in record.terms.items()}
    elif isinstance(record, MetricRecord):
        values = {f"{record.method}/{name}": value for name, value in record.values.items()}
    elif isinstance(record, ScoreRecord):
        names = {"mAP": record.mAP, "mINP": record.mINP, "rank1": record.rank1}
        values = {f"{record.dataset}/{name}": value for name, value in names.items()}
    return {f"stage{record.stage}/{name}": value for name, value in values.items()}


def _tensorboard(folder: Path, recipe: dict[str, object]) -> tuple[Log, Callable[[], None]]:
    from torch.utils.tensorboard import SummaryWriter

    writer = SummaryWriter(str(folder / "tensorboard"))

    def log(values: dict[str, float], epoch: int) -> None:
        for name, value in values.items():
            writer.add_scalar(name, value, epoch)
        writer.flush()

    return log, writer.close


def _wandb(folder: Path, recipe: dict[str, object]) -> tuple[Log, Callable[[], None]]:
    import wandb

    run = wandb.init(project="passerby", name=folder.resolve().name, dir=str(folder), config=recipe)
    return lambda values, epoch: run.log({**values, "epoch": epoch}), run.finish


def _mlflow(folder: Path, recipe: dict[str, object]) -> tuple[Log, Callable[[], None]]:
    import mlflow

    mlflow.start_run(run_name=folder.resolve().name)
    mlflow.log_dict(recipe, "recipe.json")

    def log(values: dict[str, float], epoch: int) -> None:
        metrics = {
            re.sub(r"[^\w./ -]", "_", name): value for name, value in values.items()
        }  # characters that MLflow accepts
        mlflow.log_metrics(metrics, step=epoch)

    return log, mlflow.end_run


def _trackio(folder: Path, recipe: dict[str, object]) -> tuple[Log, Callable[[], None]]:
    import trackio

    trackio.init(project="passerby", name=folder.resolve().name, config=recipe)
    return lambda values, epoch: trackio.log({**values, "epoch": epoch}), trackio.finish
