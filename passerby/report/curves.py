"""The curves of a run as matplotlib figures: losses and scores over the epochs, and the CMC.

Each function takes the tables of a run and returns a `Figure` of its own, which can be saved, shown or put on a page.
"""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from passerby.report.palette import QUIET, look, panels, style
from passerby.training import run_log
from passerby.training.run_log import EpochRecord, Record
from passerby.types import Scores

_MANY = 30  # points beyond which markers would touch


def loss_curves(records: Sequence[Record]) -> Figure:
    """Draw every loss term over the epochs, each in a panel with a scale of its own, all stages in a row.

    Values are as computed, before the weight; a weight other than 1 stands in the panel's title.
    """
    epochs = run_log.epochs(records)
    names = list(dict.fromkeys(name for record in epochs for name in record.terms))
    with style():
        figure, axes = panels(max(len(names), 1), height=0.8 + 1.2 * max(len(names), 1))
        for number, (name, panel) in enumerate(zip(names, axes, strict=False)):
            of_loss = [record for record in epochs if name in record.terms]
            for stage in sorted(
                {record.stage for record in of_loss}
            ):  # separate lines: each stage has its own classifier
                points = [
                    (epoch_position(epochs, r.stage, r.epoch), r.terms[name].value) for r in of_loss if r.stage == stage
                ]
                _line(panel, *zip(*points, strict=True), number=number, label=name)
            panel.set_title(_loss_title(epochs, name))
            panel.set_ylim(bottom=min(0.0, *(record.terms[name].value for record in of_loss)))
            _mark_stages(panel, epochs)
        epochs_below(axes[-1])
    return figure


def _loss_title(epochs: Sequence[EpochRecord], name: str) -> str:
    weight = [record.terms[name] for record in epochs if name in record.terms][-1].weight
    return name if abs(weight - 1) < 1e-6 else f"{name} (weight {weight:.3g})"


def score_curves(records: Sequence[Record]) -> Figure:
    """Draw mAP and rank-1 of each data set at every evaluation, in percent, without re-ranking."""
    scores, epochs = run_log.scores(records), run_log.epochs(records)
    names = list(dict.fromkeys(record.dataset for record in scores))
    with style():
        figure, (panel,) = panels(1, height=3.2 + 0.22 * max(len(names) - 1, 0))  # a line of the legend for each
        for number, name in enumerate(names):
            of_dataset = [record for record in scores if record.dataset == name]
            x = [epoch_position(epochs, record.stage, record.epoch) for record in of_dataset]
            dollars = name.replace("$", r"\$")  # or matplotlib would take what is between two of them for a formula
            of = f", {dollars}" if len(names) > 1 else ""
            _line(panel, x, [100 * r.rank1 for r in of_dataset], number=2 * number, label=f"rank-1{of}")
            _line(panel, x, [100 * r.mAP for r in of_dataset], number=2 * number + 1, label=f"mAP{of}")
        _percent_axis(panel, from_zero=True)
        _mark_stages(panel, epochs)
        epochs_below(panel)
        if names:
            _legend_below(figure)
    return figure


def cmc_curve(plain: Scores, reranked: Scores | None = None, *, ranks: int = 20) -> Figure:
    """Draw the cumulative matching characteristic for k = 1..`ranks`, in percent."""
    with style():
        figure, (panel,) = panels(1)
        for number, (scores, label) in enumerate(((plain, "plain ranking"), (reranked, "with re-ranking"))):
            if scores is None:
                continue
            y = 100 * scores.cmc[:ranks]
            _line(panel, list(range(1, len(y) + 1)), list(y), number=number, label=label)
        _percent_axis(panel)
        panel.set_xlabel("the first k images of the list")
        panel.set_xticks([1, *range(5, ranks + 1, 5)])
        _legend_below(figure)
    return figure


def epoch_position(epochs: Sequence[EpochRecord], stage: int, epoch: int) -> int:
    """Return the epoch counted over all stages; one before the present may have ended before its last epoch."""
    lengths = {record.stage: record.epoch for record in epochs}
    return epoch + sum(length for number, length in lengths.items() if number < stage)


def _line(panel: Axes, x: Sequence[float], y: Sequence[float], *, number: int, label: str) -> None:
    series_look = look(number)
    every = max(1, len(x) // _MANY)
    (line,) = panel.plot(
        x, y, color=series_look.colour, linestyle=series_look.line, marker=series_look.marker, label=label
    )
    line.set_markevery(every)
    line.set_clip_on(False)  # a mark on the edge is drawn whole


def _legend_below(figure: Figure) -> None:
    """Name the lines below the figure, where nothing can be covered."""
    figure.legend(loc="outside lower center", ncols=2)


def _percent_axis(panel: Axes, *, from_zero: bool = False) -> None:
    low, high = panel.get_ylim()
    panel.set_ylim(0.0 if from_zero else max(0.0, low), min(101.0, high))
    panel.yaxis.set_major_formatter(PercentFormatter(100, decimals=0))
    panel.yaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))


def epochs_below(panel: Axes) -> None:
    """Name the x axis and keep it to whole epochs."""
    panel.set_xlabel("epoch")
    panel.set_xlim(left=0)
    panel.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))


def _mark_stages(panel: Axes, epochs: Sequence[EpochRecord]) -> None:
    for stage in sorted({record.stage for record in epochs})[1:]:
        panel.axvline(epoch_position(epochs, stage, 0) + 0.5, color=QUIET, linewidth=0.8, linestyle=":")
