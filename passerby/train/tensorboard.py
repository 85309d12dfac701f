"""The journal as TensorBoard events, for people who watch many runs there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from passerby.errors import UserError
from passerby.train.journal import EpochRecord, FindingRecord, GradientRecord, Record, ScoreRecord


def tensorboard_listener(folder: Path) -> Callable[[Record], None]:
    """Return a listener that writes every record below `folder/tensorboard`.

    Raises:
        UserError: TensorBoard is not installed.

    """
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise UserError("engine.tensorboard needs the extra `track`: pip install 'passerby[track]'") from error
    writer = SummaryWriter(str(folder / "tensorboard"))

    def listen(record: Record) -> None:
        at = f"stage{record.stage}"
        if isinstance(record, EpochRecord):
            for name, term in record.terms.items():
                writer.add_scalar(f"{at}/loss/{name}", term.value, record.epoch)
                writer.add_scalar(f"{at}/weighted/{name}", term.weighted, record.epoch)
            writer.add_scalar(f"{at}/lr", record.lr, record.epoch)
            writer.add_scalar(f"{at}/images_per_second", record.images_per_second, record.epoch)
        elif isinstance(record, GradientRecord):
            for name, pull in record.terms.items():
                writer.add_scalar(f"{at}/gradient/{name}", pull.norm, record.epoch)
        elif isinstance(record, FindingRecord):
            for name, value in record.values.items():
                writer.add_scalar(f"{at}/{record.part}/{name}", value, record.epoch)
        elif isinstance(record, ScoreRecord):
            for name, value in (("mAP", record.mAP), ("mINP", record.mINP), ("rank1", record.rank1)):
                writer.add_scalar(f"{at}/{record.dataset}/{name}", value, record.epoch)
        writer.flush()

    return listen
