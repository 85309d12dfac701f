"""Progress of a run on a terminal: a bar for the epoch, and a line for each epoch and each evaluation."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

from ignite.engine import Engine, Events
from rich.console import Console
from rich.progress import TaskID

from passerby.console import make_progress
from passerby.training.counters import position_text
from passerby.training.run_log import (
    EpochRecord,
    GradientRecord,
    MetricRecord,
    Record,
    ScoreRecord,
    SearchRecord,
    ThreadRecord,
)
from passerby.training.trainer import Trainer


class ProgressBar:
    """Progress bar of a run on a terminal; on anything else only the lines are printed."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.bar = make_progress(console)
        self.task: TaskID | None = None
        self.seconds: list[float] = []  # of the epochs of the present stage

    @contextmanager
    def shown(self) -> Iterator[ProgressBar]:
        """Show the bar while the block runs."""
        with self.bar:
            yield self

    def watch(self, trainer: Trainer, engine: Engine) -> None:
        """Follow one stage."""
        self.seconds.clear()
        engine.add_event_handler(Events.EPOCH_STARTED, self._begin, trainer)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._move, trainer)

    def _begin(self, engine: Engine, trainer: Trainer) -> None:
        state, at = trainer.state, trainer.state.counters
        text = f"{state.stage.name}, {position_text(epoch=at.epoch)} of {state.settings.epochs}"
        if self.task is None:
            self.task = self.bar.add_task(text, total=engine.state.epoch_length)
        self.bar.reset(self.task, description=text, total=engine.state.epoch_length, completed=at.iteration)

    def _move(self, trainer: Trainer) -> None:
        assert self.task is not None
        self.bar.update(self.task, completed=trainer.state.counters.iteration)

    def tell(self, record: Record) -> None:
        """Print one record as a line."""
        if isinstance(record, EpochRecord):
            terms = "  ".join(f"{name} {term.value:.3f}" for name, term in record.terms.items())
            self.console.print(
                f"epoch {record.epoch:>3}/{record.epochs}  {terms}  lr {record.lr:.1e}  "
                f"{record.images_per_second:.0f} images/s{self._left(record)}",
                highlight=False,
            )
        elif isinstance(record, GradientRecord):
            norms = ", ".join(
                f"{name} {gradient.norm:.3g} (weight {gradient.weight:.3g})" for name, gradient in record.terms.items()
            )
            self.console.print(f"gradient norm at the first step: {norms}", highlight=False)
        elif isinstance(record, MetricRecord):
            values = ", ".join(f"{name} {value:.4g}" for name, value in record.values.items())
            self.console.print(f"{record.method}: {values}", highlight=False)
            if record.note:
                self.console.print(record.note, style="yellow", highlight=False, markup=False)
        elif isinstance(record, ThreadRecord) and record.kind == "kept":
            self.console.print(
                f"threads: {record.count} from epoch {record.epoch}, batch {record.batch} on, at "
                f"{record.images_per_second:.0f} images/s; {record.before} gave {record.images_per_second_before:.0f} "
                "(engine.threads=N fixes the count)",
                highlight=False,
            )
        elif isinstance(record, SearchRecord):
            figures = f"mAP {100 * record.mAP:.1f}  rank-1 {100 * record.rank1:.1f}"
            self.console.print(f"  {record.dataset}, {record.kind}: {figures}", highlight=False)
        elif isinstance(record, ScoreRecord):
            self.console.print(
                f"  {record.dataset}: mAP {100 * record.mAP:.1f}  rank-1 {100 * record.rank1:.1f}  "
                f"mINP {100 * record.mINP:.1f}",
                style="bold",
                highlight=False,
            )

    def _left(self, record: EpochRecord) -> str:
        """Return the time that the rest of the stage takes, tests not counted; nothing after its last epoch."""
        self.seconds.append(record.seconds)
        seconds = (record.epochs - record.epoch) * sum(self.seconds) / len(self.seconds)
        return f"  {timedelta(seconds=round(seconds))} left".replace(" 0:", " ") if seconds else ""
