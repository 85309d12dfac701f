"""Speed of training while other processes keep cores busy, compared with training alone.

Medians of five measurements each. The spin of waiting threads is fixed when torch is loaded, and the command line
bounds it unless the environment sets it. `GOMP_SPINCOUNT=300000 passerby bench busy --threads 2` measures torch's own
default on two cores.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Literal

from rich.console import Console
from rich.table import Table

from passerby.bench.measure import machine
from passerby.bench.step import Shape, make_batch, make_step_run
from passerby.threads import Threads, in_use, make_threads
from passerby.training.memory import keep_memory

SHAPES = {"resnet18": Shape("resnet18", (128, 64), 32), "small": Shape("resnet18", (64, 32), 32)}
LOADS = (0, 1, 2)
ROUNDS = 5


@dataclass(frozen=True)
class BusyRow:
    """Training speed beside a number of busy processes.

    Attributes:
        busy: processes that keep a core busy each.
        speed, slowest, fastest: images per second: the median, and the range of the measurements.
        of_alone: speed / speed of the row without busy processes.
        threads: at the end.

    """

    busy: int
    speed: float
    slowest: float
    fastest: float
    of_alone: float
    threads: int


@dataclass(frozen=True)
class BusyTable:
    """Measured values; `to_json()` has only plain values."""

    title: str
    machine: str
    rows: tuple[BusyRow, ...]

    def to_json(self) -> dict[str, object]:
        """Return plain values."""
        return asdict(self)


@contextmanager
def busy_processes(count: int) -> Iterator[None]:
    """Keep `count` cores busy during the block."""
    processes = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


def bench_busy(
    *, quick: bool = False, threads: int | Literal["auto"] = "auto", shape: Literal["resnet18", "small"] = "resnet18"
) -> BusyTable:
    """Measure training steps beside 0, 1 and 2 busy processes.

    Args:
        quick: for seconds instead of minutes.
        threads: as in `engine.threads`.
        shape: `resnet18` at 128x64, or `small` at 64x32, both in batches of 32.

    """
    keep_memory()
    settings = SHAPES[shape]
    trainer, batch = make_step_run(settings, bf16=False), make_batch(settings)
    settle, seconds = (1.0, 0.2) if quick else (20.0, 5.0)
    measured = []
    for busy in LOADS:
        pool = make_threads(threads)
        with busy_processes(busy), in_use(pool):
            speeds = measure(lambda: trainer.step(batch, count=1), pool, len(batch), settle, seconds)
        measured.append((busy, speeds, pool.count))
    unloaded = statistics.median(measured[0][1])
    rows = tuple(
        BusyRow(busy, (speed := statistics.median(speeds)), min(speeds), max(speeds), speed / unloaded, count)
        for busy, speeds, count in measured
    )
    return BusyTable(f"training beside busy processes, {settings}, threads {threads}", machine(), rows)


def measure(
    step: Callable[[], None],
    threads: Threads,
    images: int,
    settle: float,
    seconds: float,
    *,
    clock: Callable[[], float] = time.perf_counter,
) -> list[float]:
    """Return the images per second of each round of steps, after a while in which the count of threads settles.

    Args:
        step: does one.
        threads: of the steps.
        images: in a step.
        settle, seconds: before the first round, and of each round.
        clock: in seconds.

    """
    speeds = []
    for length in (settle, *(seconds,) * ROUNDS):
        began, count = clock(), 0
        while clock() - began < length:
            with threads.step(images):
                step()
            count += images
        speeds.append(count / (clock() - began))
    return speeds[1:]


def print_busy(results: BusyTable, console: Console) -> None:
    """Print a table."""
    table = Table(
        *("busy processes", "images/s", "range", "of alone", "threads"), title=results.title, caption=results.machine
    )
    for row in results.rows:
        spread = f"{row.slowest:.1f} to {row.fastest:.1f}"
        table.add_row(str(row.busy), f"{row.speed:.1f}", spread, f"{row.of_alone:.2f}", str(row.threads))
    console.print(table)
