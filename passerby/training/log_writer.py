"""The log of a run, written by one process and followed by listeners."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from passerby.training import distributed, run_log
from passerby.training.run_log import Record


class LogWriter:
    """Appends records to a run's log and passes them on, in the writing process only.

    Args:
        folder: of the run.
        listeners: called with each record.

    """

    def __init__(self, folder: Path, listeners: Sequence[Callable[[Record], None]] = ()) -> None:
        self.path, self.listeners = folder / "log.jsonl", listeners

    def __call__(self, record: Record) -> None:
        """Write a record."""
        if distributed.rank() != 0:
            return
        run_log.append(self.path, record)
        for listener in self.listeners:
            listener(record)


def no_log(_: Record) -> None:
    """Write nothing."""
