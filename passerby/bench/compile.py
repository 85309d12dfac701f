"""Speed of a training step with torch.compile, and the number of epochs from which it is worth its preparation."""

from __future__ import annotations

import statistics
import time
from dataclasses import asdict, dataclass, replace

from rich.console import Console
from rich.table import Table

from passerby.bench.measure import machine
from passerby.bench.step import SHAPES, make_batch, make_step_run
from passerby.training.memory import keep_memory
from passerby.training.trainer import Trainer
from passerby.types import Batch

IMAGES = 12_936
"""Training images of Market-1501, of which an epoch is counted."""
ROUNDS = 5


@dataclass(frozen=True)
class CompileRow:
    """A step of one precision, with and without torch.compile.

    Attributes:
        precision: float32 or bf16.
        seconds: of a step without it, the median.
        compiled: of a step with it, the median.
        preparation: seconds of the first step, which compiles.
        epochs: of `IMAGES` images after which the preparation is made up for; None = never.

    """

    precision: str
    seconds: float
    compiled: float
    preparation: float
    epochs: float | None


@dataclass(frozen=True)
class CompileTable:
    """Measured values; `to_json()` has only plain values."""

    title: str
    machine: str
    rows: tuple[CompileRow, ...]

    def to_json(self) -> dict[str, object]:
        """Return plain values."""
        return asdict(self)


def break_even(seconds: float, compiled: float, preparation: float, *, steps: float) -> float | None:
    """Return the epochs after which compiled steps have saved their preparation; None = never.

    Args:
        seconds: of a step that is not compiled.
        compiled: of a compiled step.
        preparation: seconds of the first compiled step.
        steps: of an epoch.

    >>> break_even(2.0, 1.5, 51.5, steps=100)
    1.0
    >>> break_even(2.0, 2.0, 51.5, steps=100) is None
    True
    """
    saved = seconds - compiled
    return (preparation - compiled) / (saved * steps) if saved > 0 else None


def bench_compile(*, quick: bool = False, backbone: str = "resnet50", bf16: bool = False) -> CompileTable:
    """Measure training steps with and without torch.compile, in turns.

    Args:
        quick: an eighth of the batch and two rounds.
        backbone: a key of `SHAPES`.
        bf16: whether bf16 is measured too.

    """
    keep_memory()
    full = SHAPES[backbone]
    shape = replace(full, batch=full.batch // 8) if quick else full
    batch, rows = make_batch(shape), []
    for narrow in (False, True) if bf16 else (False,):
        trainers = [make_step_run(shape, bf16=narrow, compiled=compiled) for compiled in (False, True)]
        first = [_seconds(trainer, batch) for trainer in trainers]
        turns = [[_seconds(trainer, batch) for trainer in trainers] for _ in range(2 if quick else ROUNDS)]
        seconds, compiled = (statistics.median(times) for times in zip(*turns, strict=True))
        epochs = break_even(seconds, compiled, first[1], steps=IMAGES / shape.batch)
        rows.append(CompileRow("bf16" if narrow else "float32", seconds, compiled, first[1], epochs))
    return CompileTable(f"torch.compile, training step, {shape}", machine(), tuple(rows))


def _seconds(trainer: Trainer, batch: Batch) -> float:
    began = time.perf_counter()
    trainer.step(batch, count=1)
    return time.perf_counter() - began


def print_compile(table: CompileTable, console: Console) -> None:
    """Print a table."""
    printed = Table(
        "precision", "s/step", "compiled", "ratio", "s to compile", "epochs to break even", title=table.title,
        caption=f"{table.machine}; an epoch has {IMAGES:,} images",
    )  # fmt: skip
    for row in table.rows:
        epochs = "never" if row.epochs is None else f"{row.epochs:.1f}"
        ratio = f"{row.compiled / row.seconds:.2f}"
        cells = (f"{row.seconds:.3f}", f"{row.compiled:.3f}", ratio, f"{row.preparation:.0f}", epochs)
        printed.add_row(row.precision, *cells)
    console.print(printed)
