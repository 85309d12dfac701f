"""Threads that fit the processor time there really is: a bounded spin, a count, and its change between steps.

Threads of OpenMP share a loop in equal pieces and wait for the slowest. Where another process keeps one core busy, one
piece takes twice as long and all others wait for it, spinning on the cores that the piece needs. So waiting threads
sleep after a short spin, and where the calling thread is denied processor time, fewer threads are tried.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Literal

SPIN = {"GOMP_SPINCOUNT": "30000", "KMP_BLOCKTIME": "1"}
"""Turns of the waiting loop before a thread sleeps (GNU, by default 300,000), and milliseconds (LLVM, Intel)."""

COUNT_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")

COUNT_STEPS, SECONDS = 3, 1.0
"""Least steps and seconds of a measurement; the first step after a change is left out, as it prepares kernels."""
DENIED = 0.25
"""Share of a step in which the calling thread does not run, from which fewer threads are tried."""
GAIN, SLOWER = 1.05, 0.8
"""Speed against the present one that is worth a change, and that counts as a change of the load."""
FIRST_PAUSE, LONGEST_PAUSE, PAUSE_OF_WINDOW = 30.0, 480.0, 20.0
"""Seconds between trials, doubled after each that changes nothing; at least so many times as long as a measurement."""


def bound_spin() -> None:
    """Limit the busy waiting of OpenMP's threads, which sleep afterwards; to be called before torch is imported.

    Nothing is done where the environment already sets how threads wait.
    """
    if not any(name in os.environ for name in (*SPIN, "OMP_WAIT_POLICY")):
        os.environ.update(SPIN)


def onnx_entries() -> dict[str, str]:
    """Return the session entries of onnxruntime, whose threads have a spin of their own, by name.

    Its waiting threads sleep at once, unless the environment asks OpenMP's threads to spin longer than `bound_spin`.
    """
    longer = any(os.environ.get(name, value) != value for name, value in SPIN.items())
    if longer or os.environ.get("OMP_WAIT_POLICY", "").upper() == "ACTIVE":
        return {}
    return {"session.intra_op.allow_spinning": "0"}


def count_available(*, root: Path = Path("/")) -> int:
    """Return how many cores this process may use: by its affinity and by the quota of its control groups.

    Args:
        root: of the file system in which control groups are looked up.

    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min([cores, *(math.ceil(quota) for quota in _quotas(root))]))


def count_at_present() -> int:
    """Return `count_available()`, which is looked up once a second: it reads some ten files."""
    return _count_in_second(int(time.monotonic()))


@lru_cache(maxsize=1)
def _count_in_second(_: int) -> int:
    return count_available()


def _quotas(root: Path) -> Iterator[float]:
    """Yield the limits in cores of the control groups (version 1 and 2) of this process and of all groups above."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, group = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        mount = root / "sys/fs/cgroup"
        bases = [mount / controllers, mount / "cpu"] if controllers else [mount, mount / "unified"]
        parts = [part for part in group.split("/") if part]
        for base in bases:
            for depth in range(len(parts) + 1):
                quota = _quota(base.joinpath(*parts[:depth]))
                if quota is not None:
                    yield quota


def _quota(group: Path) -> float | None:
    try:
        if (file := group / "cpu.max").is_file():
            quota, period = file.read_text().split()
        else:
            quota = (group / "cpu.cfs_quota_us").read_text()
            period = (group / "cpu.cfs_period_us").read_text()
        return int(quota) / int(period) if int(quota) > 0 else None
    except (OSError, ValueError, ZeroDivisionError):  # no such group, or `max`
        return None


def rungs(most: int) -> list[int]:
    """Return the counts that are tried, from the largest: one less, three quarters, then halves.

    >>> rungs(16), rungs(2)
    ([16, 15, 12, 8, 4, 2, 1], [2, 1])
    """
    halves = [most >> shift for shift in range(most.bit_length())]
    return sorted({most, max(1, most - 1), max(1, 3 * most // 4), *halves}, reverse=True)


@dataclass(frozen=True)
class ThreadChange:
    """Another count of threads.

    Attributes:
        count: from the next step on; what is `kept` has been tried already.
        kind: `start` of the steps; `trial` and `back` from one that is not faster; `kept` instead of `before`.
        before: the count that was settled on.
        speed, speed_before: images per second of both; None where it is not yet known.

    """

    count: int
    kind: Literal["start", "trial", "back", "kept"]
    before: int
    speed: float | None = None
    speed_before: float | None = None


@dataclass
class _Window:
    """Sums over steps: images, seconds, and seconds in which the calling thread ran."""

    steps: int = 0
    images: int = 0
    seconds: float = 0.0
    ran: float = 0.0


@dataclass
class Threads:
    """The count of threads of a sequence of equal steps, and its adjustment between them.

    Attributes:
        count: at present.
        counts: that may be tried, from the largest; one = the count is fixed.
        apply: sets a count.
        clock, thread_clock: wall time, and processor time of the calling thread, in seconds.

    """

    count: int
    counts: list[int]
    apply: Callable[[int], None]
    clock: Callable[[], float] = time.perf_counter
    thread_clock: Callable[[], float] = time.thread_time
    _follow: Callable[[ThreadChange], None] | None = None
    _window: _Window = field(default_factory=_Window)
    _skip: int = 1
    _speed: float = 0.0  # of the count that is settled on
    _settled: int | None = None  # the count to go back to while another one is tried
    _first: tuple[int, float] = (0, 0.0)  # count and speed before the trial
    _direction: int = 1
    _failed: int = 0  # the direction of the last trial if it changed nothing
    _pause: float = FIRST_PAUSE
    _ended: float = -math.inf  # when the last trial ended
    _next: float = -math.inf

    @property
    def settled(self) -> int:
        """The count that is kept unless the one that is tried now is faster."""
        return self.count if self._settled is None else self._settled

    def go_on_with(self, count: int) -> None:
        """Begin with a count that an earlier process settled on, where it may be had."""
        if count in self.counts:
            self.count = count
            self.apply(count)

    def listen(self, follow: Callable[[ThreadChange], None]) -> None:
        """Have each change passed on."""
        self._follow = follow

    def begin(self) -> None:
        """Report the initial count."""
        self._tell(ThreadChange(self.count, "start", self.count))

    @contextmanager
    def step(self, images: int) -> Iterator[None]:
        """Time a step over so many images; the count may be another one afterwards."""
        if len(self.counts) == 1:
            yield
            return
        began, ran = self.clock(), self.thread_clock()
        yield
        self.observe(images, self.clock() - began, self.thread_clock() - ran)

    def observe(self, images: int, seconds: float, ran: float) -> None:
        """Take a step into account.

        Args:
            images: in the step.
            seconds: that it took.
            ran: seconds of processor time of the calling thread in it.

        """
        if self._skip:
            self._skip -= 1
            return
        window = self._window
        window.steps, window.images = window.steps + 1, window.images + images
        window.seconds, window.ran = window.seconds + seconds, window.ran + ran
        if window.steps < COUNT_STEPS or window.seconds < SECONDS:
            return
        self._window = _Window()
        if self._settled is None:
            self._watch(window)
        else:
            self._compare(self._settled, window)

    def _watch(self, window: _Window) -> None:
        """Begin a trial where time is denied, or, with fewer threads than there could be, after a pause."""
        speed, denied = window.images / window.seconds, 1 - window.ran / window.seconds > DENIED
        if speed < SLOWER * self._speed:
            self._pause, self._next = FIRST_PAUSE, min(self._next, self._ended + FIRST_PAUSE)
            self._speed = speed
        self._speed = max(self._speed, speed)
        place, last = self.counts.index(self.count), len(self.counts) - 1
        directions = [*([1] if denied and place < last else []), *([-1] if place > 0 else [])]
        if not directions or self.clock() < self._next:
            return
        self._direction = directions[-1] if directions[0] == self._failed else directions[0]
        self._settled, self._speed, self._first = self.count, speed, (self.count, speed)
        self._set(self.counts[place + self._direction], "trial")

    def _compare(self, settled: int, window: _Window) -> None:
        """Settle on the count that was tried where it is faster, and go on to the next.

        Downwards all are tried: while threads are more than free cores, one fewer changes nothing.
        """
        speed = window.images / window.seconds
        faster = speed > GAIN * self._speed
        if faster:
            self._settled = settled = self.count
            self._speed = speed
        place = self.counts.index(self.count) + self._direction
        if 0 <= place < len(self.counts) and (faster or self._direction > 0):
            self._set(self.counts[place], "trial")
            return
        if self.count != settled:
            self._set(settled, "back")
        self._settle(window.seconds)

    def _settle(self, seconds: float) -> None:
        self._settled = None
        before, speed_before = self._first
        changed = self.count != before
        self._failed = 0 if changed else self._direction
        self._pause = FIRST_PAUSE if changed else min(2 * self._pause, LONGEST_PAUSE)
        self._ended = self.clock()
        self._next = self._ended + max(self._pause, PAUSE_OF_WINDOW * seconds)
        if changed:
            self._tell(ThreadChange(self.count, "kept", before, self._speed, speed_before))

    def _set(self, count: int, kind: Literal["trial", "back"]) -> None:
        self.count, self._skip = count, 1
        self.apply(count)
        self._tell(ThreadChange(count, kind, self._first[0]))

    def _tell(self, change: ThreadChange) -> None:
        if self._follow is not None:
            self._follow(change)


def fixed_threads(count: int) -> Threads:
    """Return a count that nothing changes."""
    return Threads(count, [count], apply=lambda _: None)


def make_threads(wanted: int | Literal["auto"] = "auto", *, device: str = "cpu", processes: int = 1) -> Threads:
    """Return the threads of a run; the count changes only where one process computes on the processor.

    Args:
        wanted: a count, or `auto`: as many as there are cores for, or what OMP_NUM_THREADS fixes.
        device: `cpu` or the type of a GPU.
        processes: of the run on this machine; they divide the cores.

    """
    import torch

    if wanted != "auto":
        return fixed_threads(wanted)
    if any(name in os.environ for name in COUNT_VARIABLES):
        return fixed_threads(torch.get_num_threads())
    most = max(1, min(torch.get_num_threads(), count_at_present()) // processes)
    if device != "cpu" or processes > 1:
        return fixed_threads(most)
    return Threads(most, rungs(most), apply=torch.set_num_threads)


_in_use: list[Threads] = []


@contextmanager
def in_use(threads: Threads) -> Iterator[Threads]:
    """Compute with such threads in the block, and with as many as before after it."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(threads.count)
    _in_use.append(threads)
    try:
        yield threads
    finally:
        _in_use.pop()
        torch.set_num_threads(before)


@contextmanager
def inference_threads(device: str) -> Iterator[Threads]:
    """Compute with threads that follow the load; inside a run with as many as the run has at that time."""
    if _in_use:
        yield fixed_threads(_in_use[-1].count)
        return
    with in_use(make_threads(device=device)) as threads:
        yield threads
