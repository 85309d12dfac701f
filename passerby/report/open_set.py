"""The identification with unknown people in a report: its figures as scores.json has them, and their curve."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast

from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, PercentFormatter

from passerby.report.palette import look, panels, style

_SHORT = 0.2  # percent; an axis that begins above has room for the names of 2 and 5 in each decade


@dataclass(frozen=True)
class OpenSetEntry:
    """What scores.json holds of it; all rates in percent.

    Attributes:
        non_mated: which probes are the non-mated, in words.
        count_mated, count_non_mated, count_enrolled: numbers of probes and of identities in the gallery.
        rows: for each target: FPIR that is allowed, threshold, DIR at rank 1, and the bounds of its interval.
        unresolved: targets that the number of probes does not support.
        fpir, fnir: the curve.

    """

    non_mated: str
    count_mated: int
    count_non_mated: int
    count_enrolled: int
    rows: tuple[tuple[float, float, float, float, float], ...]
    unresolved: tuple[float, ...]
    fpir: tuple[float, ...]
    fnir: tuple[float, ...]

    @property
    def sentence(self) -> str:
        """The numbers of probes and identities."""
        return (
            f"{self.count_mated:,} queries have their identity among the {self.count_enrolled:,} in the gallery; "
            f"{self.count_non_mated:,} others have not: {self.non_mated}."
        )


_NON_MATED = {
    "absent": "queries whose identity the gallery does not hold",
    "left_out": "the same queries, each with its identity left out of the gallery",
}


def read_open_set(entry: Mapping[str, object]) -> OpenSetEntry:
    """Return an entry of scores.json; a `KeyError`, `TypeError` or `ValueError` where it is damaged."""
    rates = cast("Sequence[Mapping[str, object]]", entry["rates"])
    curve = cast("Mapping[str, Sequence[object]]", entry["curve"])
    return OpenSetEntry(
        non_mated=_NON_MATED[str(entry["non_mated_probes"])],
        count_mated=int(str(entry["count_mated"])),
        count_non_mated=int(str(entry["count_non_mated"])),
        count_enrolled=int(str(entry["count_enrolled"])),
        rows=tuple(_row(rate) for rate in rates),
        unresolved=_numbers(cast("Sequence[object]", entry["unresolved_targets"])),
        fpir=_numbers(curve["fpir"]),
        fnir=_numbers(curve["fnir_rank1"]),
    )


def _row(rate: Mapping[str, object]) -> tuple[float, float, float, float, float]:
    low, high = _numbers(cast("Sequence[object]", rate["interval"]))
    target, threshold, found = _numbers([rate["fpir_target"], rate["threshold"], rate["dir_rank1"]])
    return target, threshold, found, low, high


def _numbers(values: Sequence[object]) -> tuple[float, ...]:
    return tuple(float(str(value)) for value in values)


def open_set_curve(entry: OpenSetEntry) -> Figure:
    """Draw the misses (FNIR at rank 1) over the false alarms (FPIR), in percent; false alarms on a logarithmic axis.

    The rates of the table are marked on the curve. Between two false alarms the threshold may grow up to the second,
    so the curve has the misses of the second there.
    """
    with style():
        figure, (panel,) = panels(1)
        appearance = look(0)
        pairs = [(x, y) for x, y in zip(entry.fpir, entry.fnir, strict=True) if x > 0]
        panel.plot([x for x, _ in pairs], [y for _, y in pairs], color=appearance.colour, drawstyle="steps-pre")
        marks = [(target, 100 - found) for target, _, found, *_ in entry.rows]
        panel.plot([x for x, _ in marks], [y for _, y in marks], appearance.marker, color=appearance.colour)
        panel.set_xscale("log")
        panel.set_xlim(right=100)
        steps = (1, 2, 5) if panel.get_xlim()[0] > _SHORT else (1,)
        panel.xaxis.set_major_locator(LogLocator(subs=steps))
        panel.xaxis.set_major_formatter(FuncFormatter(lambda rate, _: f"{rate:g}%"))
        panel.xaxis.set_minor_formatter(NullFormatter())
        panel.set_ylim(0, 100)
        panel.yaxis.set_major_formatter(PercentFormatter(100, decimals=0))
        panel.set_xlabel("false alarms (FPIR)")
        panel.set_ylabel("missed (FNIR)")
    return figure
