"""Colours and styles of all figures, suitable for colour-blind readers, print, and a white page.

Series differ in colour, line style and marker, so that none of them is needed alone.

Reference: Okabe and Ito, "Color Universal Design", 2008 (the palette).
"""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

BLACK, ORANGE, SKY, GREEN = "#000000", "#E69F00", "#56B4E9", "#009E73"
YELLOW, BLUE, VERMILION, PURPLE = "#F0E442", "#0072B2", "#D55E00", "#CC79A7"
INK, QUIET, RULE = "#1a1a1a", "#555555", "#d0d0d0"

RIGHT, WRONG = GREEN, VERMILION
"""Frames of ranked images; always together with a sign and a line style."""


@dataclass(frozen=True)
class Look:
    """Colour, line and marker of one series."""

    colour: str
    line: str | tuple[float, tuple[float, ...]]
    marker: str


LOOKS = (
    Look(BLUE, "-", "o"),
    Look(VERMILION, "--", "s"),
    Look(GREEN, "-.", "^"),
    Look(PURPLE, ":", "D"),
    Look(ORANGE, (0, (5, 1, 1, 1, 1, 1)), "v"),
    Look(BLACK, "-", "x"),
)


def look(number: int) -> Look:
    """Return the style of the series with this number, from 0; the styles repeat after the last one."""
    return LOOKS[number % len(LOOKS)]


def mark_of(number: int) -> tuple[str, str, bool]:
    """Return colour, marker and whether it is filled, of the group of points with this number, from 0.

    The first 12 differ in shape alone, neighbours in colour as well; only after 84 the pairs begin again.
    """
    colours, markers = (BLUE, VERMILION, GREEN, PURPLE, ORANGE, BLACK, SKY), "os^DvP"
    return colours[number % 7], markers[number % 6], number // 6 % 2 == 0


@contextmanager
def style() -> Iterator[None]:
    """Apply the report's style inside the block, and restore matplotlib's settings after it."""
    with mpl.rc_context(
        {
            "font.family": "sans-serif",
            "font.size": 10,
            "text.color": INK,
            "axes.labelcolor": INK,
            "axes.edgecolor": QUIET,
            "axes.titlesize": 10,
            "axes.titleweight": "bold",
            "axes.titlelocation": "left",
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.grid": True,
            "grid.color": RULE,
            "grid.linewidth": 0.6,
            "xtick.color": QUIET,
            "ytick.color": QUIET,
            "lines.linewidth": 1.8,
            "lines.markersize": 5,
            "legend.frameon": False,
            "legend.handlelength": 3,
            "svg.fonttype": "none",
            "svg.hashsalt": "passerby",
        }
    ):
        yield


def panels(count: int, *, width: float = 4.8, height: float = 3.2) -> tuple[Figure, list[Axes]]:
    """Return a figure of `width` x `height` inches with `count` axes above one another that share their x axis."""
    figure = Figure(figsize=(width, height), layout="constrained", facecolor="white")
    grid = figure.subplots(count, 1, sharex=True, squeeze=False)
    return figure, [grid[row, 0] for row in range(count)]


def svg_text(figure: Figure) -> str:
    """Return a figure as SVG; the same figure gives the same text."""
    buffer = io.StringIO()
    with style():
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    return buffer.getvalue()


def data_uri(content: bytes, *, kind: str) -> str:
    """Return content as a `data:` address, which needs no other file; `kind` as in `svg+xml`, `png`, `jpeg`."""
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
