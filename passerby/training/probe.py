"""Measured speed of training steps in each precision and memory layout, cached between runs.

Instructions for bf16 do not say whether a network gains from them: on processors without matrix units depthwise
convolutions are slower in it, ResNets more than twice as fast. So a few forward and backward passes of a copy decide.
"""

from __future__ import annotations

import contextlib
import copy
import hashlib
import json
import os
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from passerby.device import Precision
from passerby.errors import UserError
from passerby.files import read_json, write_json
from passerby.models.embedder import Embedder
from passerby.training.environment import processor

BUDGET = 3.0
"""Seconds that a probe may take, about."""
MOST_KEPT = 500
MOST_WAITING, LEAST_WAITING = 0.2, 0.5
"""Share of a probe, and seconds, that its thread may wait for a processor; beyond both the machine is busy."""
NARROW_GAIN, PLAIN_GAIN = 1.1, 1.05
"""Speed against float32 from which bf16 is taken, and against channels last from which the plain layout is."""


@dataclass(frozen=True)
class Arithmetic:
    """The precision of a network and the layout of its maps in memory."""

    precision: Precision
    channels_last: bool

    def __str__(self) -> str:
        return f"{self.precision}, {'channels last' if self.channels_last else 'channels first'}"


def fastest(candidates: Sequence[Arithmetic], seconds: Sequence[float]) -> Arithmetic:
    """Return the fastest candidate; less exact or less usual ones must be clearly faster.

    >>> fastest([Arithmetic("float32", True), Arithmetic("bf16", True)], [1.0, 0.95])
    Arithmetic(precision='float32', channels_last=True)
    """

    def penalised(index: int) -> float:
        candidate = candidates[index]
        return (
            seconds[index]
            * (NARROW_GAIN if candidate.precision != "float32" else 1)
            * (1 if candidate.channels_last else PLAIN_GAIN)
        )

    return candidates[min(range(len(candidates)), key=penalised)]


def probe(
    embedder: Embedder, candidates: Sequence[Arithmetic], *, batch: int, unit: int = 2, file: Path | None = None
) -> list[float]:
    """Return the seconds per image of a training step of each candidate, from `file` where they are known.

    Seconds are processor time of the calling thread, which what else runs on the machine changes little. What was
    measured on a busy machine is still not kept, so that the next run measures again.

    Args:
        embedder: the network on the CPU; a copy is trained, and random numbers of torch are as before afterwards.
        candidates: to compare.
        batch: images in a step of the run.
        unit: the number of images in a step is a multiple of it (except that of the run, where it is smaller).
        file: where measurements are kept; None = in the cache of the user.

    """
    file = cache_file() if file is None else file
    key = _key(embedder, candidates, batch)
    cached = read_measurements(file)
    if len(cached.get(key, [])) == len(candidates):
        return cached[key]
    with torch.random.fork_rng(devices=[]):
        steps = [_Step(embedder, candidate) for candidate in candidates]
        began, worked = time.perf_counter(), time.thread_time()
        seconds = measure(steps, batch=batch, unit=unit, clock=time.thread_time)
        passed, worked = time.perf_counter() - began, time.thread_time() - worked
    if passed - worked <= max(MOST_WAITING * passed, LEAST_WAITING):
        keep_measurements(file, {key: seconds})
    return seconds


def measure(
    steps: Sequence[Callable[[int], object]],
    *,
    batch: int,
    unit: int = 2,
    clock: Callable[[], float] = time.perf_counter,
) -> list[float]:
    """Return the seconds per image of each step: the best of alternating rounds.

    As many images are used as `BUDGET` has time for, and the first call at each size does not count.

    Args:
        steps: called with a number of images.
        batch: the largest number.
        unit: smaller ones are multiples of it.
        clock: in seconds.

    """

    def timed(step: Callable[[int], object], images: int) -> float:
        began = clock()
        step(images)
        return (clock() - began) / images

    began, few = clock(), min(unit, batch)
    for step in steps:
        step(few)
    best = [timed(step, few) for step in steps]
    room = int((BUDGET - (clock() - began)) / (3 * sum(best))) if sum(best) > 0 else batch
    images = batch if room >= batch else max(few, room // unit * unit)
    for step in steps:
        step(images)
    best = [timed(step, images) for step in steps]
    while clock() - began < BUDGET / 2:
        best = [min(before, timed(step, images)) for before, step in zip(best, steps, strict=True)]
    return best


class _Step:
    """Forward and backward passes of a copy of a network; called with the number of images."""

    def __init__(self, embedder: Embedder, arithmetic: Arithmetic) -> None:
        self.chosen = arithmetic
        self.format = torch.channels_last if arithmetic.channels_last else torch.contiguous_format
        self.embedder = copy.deepcopy(embedder).train().to(memory_format=self.format)

    def __call__(self, images: int) -> None:
        size = (images, 3, *self.embedder.input.size)
        pixels = torch.randint(0, 256, size, dtype=torch.uint8).contiguous(memory_format=self.format)
        with torch.autocast("cpu", torch.bfloat16, enabled=self.chosen.precision == "bf16"):
            out = self.embedder(self.embedder.backbone.inputs_of(pixels))
        vectors = [out.before_neck, out.after_neck, *([] if out.stripes is None else [out.stripes])]
        torch.stack([rows.float().square().mean() for rows in vectors]).sum().backward()
        self.embedder.zero_grad(set_to_none=True)


def cache_file(name: str = "steps.json") -> Path:
    """Return a file of measurements in the user's cache directory."""
    if os.environ.get("XDG_CACHE_HOME"):
        folder = Path(os.environ["XDG_CACHE_HOME"])
    elif platform.system() == "Darwin":
        folder = Path("~/Library/Caches").expanduser()
    else:
        folder = Path("~/.cache").expanduser()
    return folder / "passerby" / name


def keep_measurements(file: Path, measured: dict[str, list[float]]) -> None:
    """Add measurements by key to a file, which keeps the latest; nothing happens where it cannot be written."""
    merged = {**{name: value for name, value in read_measurements(file).items() if name not in measured}, **measured}
    with contextlib.suppress(UserError):
        write_json(file, dict(list(merged.items())[-MOST_KEPT:]))


def read_measurements(file: Path) -> dict[str, list[float]]:
    """Return the cached measurements; empty without a valid file."""
    with contextlib.suppress(UserError):
        entries = read_json(file)
        if isinstance(entries, dict):
            return {
                str(key): [float(value) for value in values]
                for key, values in entries.items()
                if isinstance(values, list) and all(isinstance(v, float) and v > 0 for v in values)
            }
    return {}


def _key(embedder: Embedder, candidates: Sequence[Arithmetic], batch: int) -> str:
    """Return a hash of everything that a measurement depends on."""
    inputs = [
        embedder.settings.model_dump(mode="json", exclude={"weights"}),
        list(embedder.input.size),
        batch,
        "thread time",  # earlier versions measured the time that went by
        [str(arithmetic) for arithmetic in candidates],
        *(processor(), torch.get_num_threads(), torch.__version__),
    ]
    return hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()
