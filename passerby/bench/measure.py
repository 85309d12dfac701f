"""Time and memory of several implementations of one task, on one machine, in one run.

Times are the best of a few rounds in which the contenders alternate, so that other load disturbs all alike; read their
ratios. Memory is measured in a fresh process per contender, above that of its input.
"""

from __future__ import annotations

import os
import platform
import resource
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Generic, TypeVar

import torch
from rich.console import Console
from rich.table import Table

Problem = TypeVar("Problem")


@dataclass(frozen=True)
class BenchRow:
    """One contender.

    Attributes:
        name: name of the implementation.
        seconds: best time.
        against: the contender it is compared to, `""` = none.
        ratio: seconds / seconds of `against`, or None.
        peak_mb: memory above the input, MB of 2^20 bytes, None = not measured.

    """

    name: str
    seconds: float
    against: str = ""
    ratio: float | None = None
    peak_mb: float | None = None


@dataclass(frozen=True)
class BenchTable:
    """Measured values; `to_json()` has only plain values.

    Attributes:
        title: task and size.
        machine: processor, threads and versions.
        rows: one per contender.

    """

    title: str
    machine: str
    rows: tuple[BenchRow, ...]

    def row(self, name: str) -> BenchRow:
        """Return the row of that name."""
        return next(row for row in self.rows if row.name == name)

    def to_json(self) -> dict[str, object]:
        """Return plain values."""
        return asdict(self)


@dataclass(frozen=True)
class Contender(Generic[Problem]):
    """One implementation.

    Attributes:
        name: shown in the table.
        run: a function at the top of a module, so that a fresh process can find it.
        rounds: how often it is timed; 1 for slow peers.
        against: name of the contender to compare its time to, `""` = none.
        measure_peak: whether to run it once more in a fresh process for its memory.

    """

    name: str
    run: Callable[[Problem], object]
    rounds: int = 3
    against: str = ""
    measure_peak: bool = False


def contest(
    title: str, contenders: tuple[Contender[Problem], ...], *, make: Callable[[], Problem], warm: Callable[[], object]
) -> BenchTable:
    """Time the contenders on `make()` alternately, and measure the memory of each in a separate process.

    Args:
        title: of the table.
        contenders: in the order of the table.
        make: builds the input, the same each time; must be picklable.
        warm: loads the compiled kernels on a tiny input; must be picklable.

    """
    peaks = {c.name: _peak_in_fresh_process(c.run, make, warm) for c in contenders if c.measure_peak}
    warm()
    problem = make()
    best: dict[str, float] = {}
    for turn in range(max(contender.rounds for contender in contenders)):
        for contender in contenders:
            if turn < contender.rounds:
                seconds = _seconds(contender.run, problem)
                best[contender.name] = min(seconds, best.get(contender.name, seconds))
    rows = tuple(
        BenchRow(
            c.name, best[c.name], c.against, best[c.name] / best[c.against] if c.against else None, peaks.get(c.name)
        )
        for c in contenders
    )
    return BenchTable(title, machine(), rows)


def _seconds(run: Callable[[Problem], object], problem: Problem) -> float:
    start = time.perf_counter()
    run(problem)
    return time.perf_counter() - start


def _peak_in_fresh_process(
    run: Callable[[Problem], object], make: Callable[[], Problem], warm: Callable[[], object]
) -> float:
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(_peak, run, make, warm).result()


def _peak(run: Callable[[Problem], object], make: Callable[[], Problem], warm: Callable[[], object]) -> float:
    """Return the growth of the resident memory above that of the input, in MB."""
    warm()
    problem = make()
    before = resident_mb(forget_peak=True)
    run(problem)
    return resident_mb() - before


def resident_mb(*, forget_peak: bool = False) -> float:
    """Return the largest resident memory of this process so far, in MB; `forget_peak` starts anew (Linux only)."""
    if forget_peak and Path("/proc/self/clear_refs").exists():
        Path("/proc/self/clear_refs").write_text("5")
    if not Path("/proc/self/status").exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) / 1024


def print_bench(results: BenchTable, console: Console) -> None:
    """Print a table: seconds, the ratio to the contender it is compared to, and memory above the input."""
    table = Table("", "seconds", "ratio", "of", "MB above the input", title=results.title, caption=results.machine)
    for row in results.rows:
        ratio = "" if row.ratio is None else f"{row.ratio:.2f}"
        peak = "" if row.peak_mb is None else f"{row.peak_mb:.0f}"
        table.add_row(row.name, f"{row.seconds:.3f}", ratio, row.against, peak)
    console.print(table)


def machine() -> str:
    """Return processor, threads and versions in one line."""
    names = [line for line in _processor_lines() if line.startswith("model name")]
    processor = names[0].split(":")[1].strip() if names else platform.processor()
    threads = f"{torch.get_num_threads()} of {os.cpu_count()} threads"
    return f"{processor}, {threads}, Python {platform.python_version()}, torch {torch.__version__}"


def _processor_lines() -> list[str]:
    path = Path("/proc/cpuinfo")
    return path.read_text().splitlines() if path.exists() else []
