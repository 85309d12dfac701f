"""Figures of lifelong results: the matrix of scores, and the scores of each data set over the stages."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import PercentFormatter

from passerby.report.palette import INK, look, panels, style
from passerby.training.lifelong_results import LifelongResults, Measure


def heat_map(results: LifelongResults, measure: Measure) -> Figure:
    """Draw the scores after each stage (rows) on each data set (columns), numbers in the cells, the start on top.

    The lightness of the colours rises with the score, for colour-blind readers and grey print.
    """
    matrix, names = results.matrix[measure], [f"after {name}" for name in results.stages]
    if results.start is not None:
        matrix, names = np.vstack([results.start[measure], matrix]), ["at the start", *names]
    first = len(names) - len(results.stages)
    with style():
        figure, (panel,) = panels(1, width=1.6 + 0.95 * len(results.datasets), height=1.0 + 0.5 * len(names))
        high = max(float(matrix.max()), 1.0)
        panel.pcolormesh(matrix, cmap="cividis", vmin=0, vmax=high, edgecolors="white", linewidth=1.5)
        _numbers(panel, matrix, high)
        for stage, trained in enumerate(results.trained):
            for dataset in set(trained) & set(results.datasets):
                corner = results.datasets.index(dataset) + 0.04, stage + first + 0.05
                panel.add_patch(Rectangle(corner, 0.92, 0.9, fill=False, edgecolor="white", linewidth=3.6))
                panel.add_patch(Rectangle(corner, 0.92, 0.9, fill=False, edgecolor=INK, linewidth=1.6))
        _name_cells(panel, [_plain(n) for n in names], [_column(results, n) for n in results.datasets])
    return figure


def _numbers(panel: Axes, matrix: np.ndarray, high: float) -> None:
    for (row, column), value in np.ndenumerate(matrix):
        red, green, blue, _ = mpl.colormaps["cividis"](value / high)
        dark = 0.299 * red + 0.587 * green + 0.114 * blue < 0.5
        panel.text(column + 0.5, row + 0.5, f"{value:.1f}", ha="center", va="center", color="white" if dark else INK)


def _name_cells(panel: Axes, rows: Sequence[str], columns: Sequence[str]) -> None:
    panel.set_xticks(np.arange(len(columns)) + 0.5, columns, rotation=25 if len(columns) > 4 else 0)
    panel.set_yticks(np.arange(len(rows)) + 0.5, rows)
    panel.invert_yaxis()
    panel.xaxis.tick_top()
    panel.tick_params(length=0)
    panel.grid(visible=False)
    panel.spines[:].set_visible(False)


def _column(results: LifelongResults, name: str) -> str:
    return _plain(f"{name}\n(unseen)" if name in results.unseen else name)


def _plain(text: str) -> str:
    return text.replace("$", r"\$")  # or matplotlib would take what is between two of them for a formula


def dataset_curves(results: LifelongResults, measure: Measure) -> Figure:
    """Draw the score of each data set over the stages, from the start where it was tested."""
    first = 1 if results.start is None else 0
    ticks = [*(["start"] if first == 0 else []), *results.stages]
    with style():
        figure, (panel,) = panels(1)
        for number, name in enumerate(results.datasets):
            values = results.matrix[measure][:, number]
            if results.start is not None:
                values = np.concatenate([results.start[measure][[number]], values])
            x, series_look = np.arange(first, len(results.stages) + 1), look(number)
            label = _plain(f"{name} (unseen)" if name in results.unseen else name)
            panel.plot(
                x, values, color=series_look.colour, linestyle=series_look.line, marker=series_look.marker, label=label
            )
            trained_stages = [stage for stage, trained in enumerate(results.trained, start=1) if name in trained]
            panel.plot(
                trained_stages,
                values[np.array(trained_stages, int) - first],
                series_look.marker,
                color=series_look.colour,
                markersize=11,
            )
        panel.set_xticks(range(first, len(results.stages) + 1), [_plain(tick) for tick in ticks])
        panel.set_xlabel("after stage")
        panel.set_ylim(bottom=0)
        panel.yaxis.set_major_formatter(PercentFormatter(100, decimals=0))
        figure.legend(loc="outside lower center", ncols=3)
    return figure
