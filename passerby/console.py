"""The console of the commands and its progress bar, which is shown on terminals only.

What is printed holds names of people, cameras, files and data sets, so nothing in it is markup: `[/b]` and `:smile:`
are printed as they are. Colours are given as `style`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from passerby.device import InferenceSettings

Advance = Callable[[int, int], None]
"""Called with (done, of how many)."""


def make_console() -> Console:
    """Return the console of this terminal."""
    return Console(markup=False, emoji=False, highlight=False)


def make_progress(console: Console) -> Progress:
    """Return the progress bar; on anything but a terminal it shows nothing."""
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)


def with_notes(inference: InferenceSettings, console: Console) -> InferenceSettings:
    """Return the inference settings with notes printed on the console."""
    return replace(inference, notify=partial(console.print, highlight=False, markup=False, soft_wrap=True))


@contextmanager
def bar(text: str, console: Console) -> Iterator[Advance]:
    """Show a progress bar during the block, which reports by the callable that it receives."""
    with make_progress(console) as progress:
        task = progress.add_task(text, total=None)
        yield lambda count, total: progress.update(task, completed=count, total=total)


def duration(seconds: float) -> str:
    """Format a length of time.

    >>> duration(42.4), duration(252), duration(7500)
    ('42 s', '4 min 12 s', '2 h 5 min')
    """
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
