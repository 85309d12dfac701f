"""The figure of a learning-rate schedule, each phase with a number and a description."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from passerby.optim import OptimSettings, learning_rate_at
from passerby.recipe import Recipe
from passerby.report.curves import epochs_below
from passerby.report.palette import QUIET, look, style

_STEPS_DRAWN = 50  # per epoch: enough to see a warm-up as the line it is
_MOST_PHASES = 12  # more would not be read
_LINE, _PANEL = 0.19, 3.0  # inches


@dataclass(frozen=True)
class Phase:
    """A phase of the schedule of a stage; epochs count from the start of the stage."""

    words: str
    begin: float
    end: float


def phases(optim: OptimSettings, *, epochs: int) -> list[Phase]:
    """Return the phases of a stage in order, from its beginning to its end without a gap.

    >>> [phase.words for phase in phases(OptimSettings(warmup_epochs=0, milestones=(2,)), epochs=3)]
    ['full rate 0.00035', '0.1 × full rate = 3.5e-05']
    """
    warm = min(optim.warmup_epochs, epochs)
    warm_up = [Phase(f"warm-up from {optim.warmup_factor * optim.lr:.3g} to the full rate", 0, warm)] if warm else []
    return [*warm_up, *(phase for phase in _after(optim, warm, epochs) if phase.end > phase.begin)]


def _after(optim: OptimSettings, warm: float, epochs: int) -> Iterator[Phase]:
    """Yield what follows the warm-up; parts of no length among it."""
    if optim.schedule == "multistep":
        edges = [0, *(step for step in optim.milestones if step < epochs), epochs]
        for number, (begin, end) in enumerate(pairwise(edges)):
            value = optim.lr * optim.gamma**number
            words = f"full rate {value:.3g}" if number == 0 else f"{optim.gamma**number:.3g} × full rate = {value:.3g}"
            yield Phase(words, max(begin, warm), end)
        return
    fall = max(math.ceil(optim.flat_epochs), math.ceil(warm)) if falls(optim, epochs=epochs) else epochs
    yield Phase(f"full rate {optim.lr:.3g}", warm, fall)
    yield Phase(f"falling along a cosine towards {optim.min_lr:.3g}", fall, epochs)


def falls(optim: OptimSettings, *, epochs: int) -> bool:
    """Return whether a stage has an epoch below the full rate of a cosine, whose first epoch is still at it.

    >>> [falls(OptimSettings(schedule="cosine", warmup_epochs=1), epochs=epochs) for epochs in (1, 2, 3)]
    [False, False, True]
    """
    if optim.schedule != "cosine" or epochs <= max(math.ceil(optim.warmup_epochs), optim.flat_epochs):
        return False
    return epochs - 1 > max(math.floor(optim.warmup_epochs), optim.flat_epochs)


def rate_curve(recipe: Recipe) -> Figure:
    """Draw the learning rate of every stage as the recipe's schedule gives it, its phases named below the figure."""
    numbered_phases = [
        (number, phase) for number, stage in enumerate(recipe.stages) for phase in _of_stage(recipe, number)
    ]
    listed = numbered_phases if len(numbered_phases) <= _MOST_PHASES else []
    lines = [f"{n}: {_description(recipe, number, phase)}" for n, (number, phase) in enumerate(listed, start=1)]
    lines += list(_still(recipe))
    height = _PANEL + _LINE * len(lines) + 0.06
    starts = _starts(recipe)
    with style():
        figure = Figure(figsize=(4.8, height), facecolor="white")
        panel = figure.add_axes((0.155, 1 - (_PANEL - 0.5) / height, 0.815, (_PANEL - 0.75) / height))
        for number in range(len(recipe.stages)):
            _draw_stage(panel, recipe, number, start=starts[number])
        _scale(panel)
        epochs_below(panel)
        panel.set_xlim(0, starts[-1])
        for n, (number, phase) in enumerate(listed, start=1):
            _number_phase(panel, n, starts[number] + phase.begin, starts[number] + phase.end)
        for n, line in enumerate(reversed(lines)):
            figure.text(0.02, (0.08 + _LINE * n) / height, line, fontsize=8.5, va="bottom")
    return figure


def _of_stage(recipe: Recipe, number: int) -> list[Phase]:
    stage = recipe.stages[number]
    return phases(stage.optim, epochs=stage.epochs)


def _starts(recipe: Recipe) -> list[int]:
    """Return the epoch before which each stage begins, counted over all stages, and the end of the last one."""
    return [0, *np.cumsum([stage.epochs for stage in recipe.stages]).tolist()]


def _description(recipe: Recipe, number: int, phase: Phase) -> str:
    start = _starts(recipe)[number]
    stage = f"stage {number + 1}, " if len(recipe.stages) > 1 else ""
    return f"{stage}epoch {start + phase.begin:.4g} to {start + phase.end:.4g}: {phase.words}"


def _still(recipe: Recipe) -> Iterator[str]:
    """Return the description of a frozen backbone, in steps, because the number per epoch is unknown here."""
    for number, stage in enumerate(recipe.stages, start=1):
        if count := stage.optim.freeze_backbone_steps:
            begins = f"stage {number}, " if len(recipe.stages) > 1 else ""
            yield f"{begins}the backbone is frozen for the first {count} steps"


def _draw_stage(panel: Axes, recipe: Recipe, number: int, *, start: int) -> None:
    stage = recipe.stages[number]
    steps = np.arange(stage.epochs * _STEPS_DRAWN)
    y = [learning_rate_at(stage.optim, int(s), steps_per_epoch=_STEPS_DRAWN, epochs=stage.epochs) for s in steps]
    panel.plot(start + steps / _STEPS_DRAWN, y, color=look(0).colour)
    if number:
        panel.axvline(start, color=QUIET, linewidth=1.2)


def _scale(panel: Axes) -> None:
    """Choose a scale on which the smallest rate can be seen."""
    rates = [np.asarray(line.get_ydata()) for line in panel.lines if len(np.atleast_1d(line.get_ydata())) > 2]
    lowest, highest = min(map(np.min, rates)), max(map(np.max, rates))
    if lowest > 0 and highest > 30 * lowest:
        panel.set_yscale("log")
        panel.set_ylabel("learning rate (logarithmic)")
    else:
        panel.set_ylim(bottom=0)
        panel.set_ylabel("learning rate")


def _number_phase(panel: Axes, number: int, begin: float, end: float) -> None:
    across = panel.get_xaxis_transform()
    if begin:
        panel.axvline(begin, color=QUIET, linewidth=0.8, linestyle=":")
    panel.text((begin + end) / 2, 1.02, str(number), transform=across, ha="center", va="bottom", fontsize=8.5)
