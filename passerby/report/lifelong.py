"""Lifelong results of a run of several stages: score matrix, curves, forgetting, storage."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import PercentFormatter

from passerby.console import duration
from passerby.errors import UserError
from passerby.files import read_json, write_json
from passerby.report.figure_files import Picture, picture_of
from passerby.report.folder import RunFolder, read_run
from passerby.report.palette import INK, look, panels, style
from passerby.training.lifelong_results import MEASURES, LifelongResults, Measure, lifelong_results_from_json

_NAMES: dict[Measure, str] = {"mAP": "mAP", "rank1": "rank-1"}
_SMALL = 1.0  # points: less is not worth extracting all vectors again


@dataclass(frozen=True)
class LifelongSection:
    """The section of the report on lifelong results.

    Attributes:
        sentences: the change of scores by each stage, and a summary.
        galleries: gallery compatibility, one sentence for each data set of earlier stages.
        pictures: the matrices and the curves.
        figures: rows of (measure, mAP, rank-1) as text.
        costs: rows of (stage, time, memories, bytes, images) as text.

    """

    sentences: list[str]
    galleries: list[str]
    pictures: list[Picture]
    figures: list[tuple[str, str, str]]
    costs: list[tuple[str, str, str, str, str]]


def lifelong_results(run: RunFolder) -> LifelongResults | None:
    """Read the lifelong results of a run; None without any."""
    path = run.path / "continual_metrics.json"
    return lifelong_results_from_json(read_json(path), source=str(path)) if path.is_file() else None


def lifelong_section(
    run: RunFolder, *, against: Path | None = None, experts: Sequence[Path] = ()
) -> LifelongSection | None:
    """Return the section of a run of several stages, None for any other.

    Args:
        run: the run.
        against: the folder of another run over the same stages, for comparison of the losses; ignored for
            a run of one stage.
        experts: run folders of models trained on one data set each, for the intransigence.

    Raises:
        UserError: runs that cannot be compared.

    """
    course = lifelong_results(run)
    if course is None:
        if experts:
            raise UserError(
                f"{run.path} has no continual_metrics.json, so there are no stages to compare with --expert runs"
            )
        return None
    other = None if against is None else _comparable(run, course, against)
    name = "" if against is None else against.resolve().name
    return LifelongSection(
        sentences=[*losses(course, other=other, name=name), *_summary(course)],
        galleries=list(stored_vectors(course)),
        pictures=_pictures(course),
        figures=_figures(course, _alone(run, course, experts) if experts else None),
        costs=_costs(course),
    )


def keep_intransigence(run: RunFolder, experts: Sequence[Path]) -> None:
    """Add the intransigence against single-data-set models, in points, to the run's `continual_metrics.json`.

    The rest of the file stays; without one tested data set per stage there is nothing to add.

    Args:
        run: a run of several stages.
        experts: run folders of models trained on one data set each.

    Raises:
        UserError: runs that cannot be compared.

    """
    course, path = lifelong_results(run), run.path / "continual_metrics.json"
    if course is None or course.sites is None:
        return
    alone, written = _alone(run, course, experts), cast("dict[str, dict[str, object]]", read_json(path))
    for measure in MEASURES:
        found = course.figures(measure, expert_scores=alone[measure])
        assert found is not None
        assert found.intransigence is not None
        written[measure]["intransigence"] = dict(zip(course.sites, found.intransigence.tolist(), strict=True))
    write_json(path, written)


# ---- words


def losses(course: LifelongResults, *, other: LifelongResults | None = None, name: str = "") -> Iterator[str]:
    """Yield the change of mAP by each stage on the data sets of earlier stages, in points.

    Args:
        course: the run.
        other: another run over the same stages, for comparison.
        name: name of the other run.

    """
    for stage in range(2, len(course.stages) + 1):
        earlier = [site for site in course.learnt_before(stage) if site not in course.trained[stage - 1]]
        found = [_change(course, stage, site, other, name) for site in earlier]
        if found:
            yield f"Training on {course.stages[stage - 1]} {', and '.join(found)}."


def _change(course: LifelongResults, stage: int, site: str, other: LifelongResults | None, name: str) -> str:
    lost = _lost(course, stage, site)
    text = f"cost {site} {lost:.1f} mAP points" if lost >= 0 else f"gave {site} {-lost:.1f} mAP points"
    if other is None:
        return text
    theirs = _lost(other, stage, site)
    beside = f"{theirs:.1f} lost" if theirs >= 0 else f"{-theirs:.1f} won"
    return f"{text} ({beside} in {name}: {_beside(lost, theirs)})"


def _beside(lost: float, theirs: float) -> str:
    """Return the comparison of two losses in points; negative = gained.

    >>> _beside(1.0, 3.0), _beside(3.0, 1.0), _beside(-3.0, -1.0), _beside(-1.0, -3.0)
    ('2.0 saved', '2.0 more lost', '2.0 more won', '2.0 fewer won')
    >>> _beside(-1.0, 2.0), _beside(2.0, -1.0), _beside(1.0, 1.0)
    ('3.0 better', '3.0 worse', 'the same')
    """
    points = abs(theirs - lost)
    if f"{points:.1f}" == "0.0":
        return "the same"
    better, worse = "better", "worse"
    if lost >= 0 and theirs >= 0:
        better, worse = "saved", "more lost"
    elif lost < 0 and theirs < 0:
        better, worse = "more won", "fewer won"
    return f"{points:.1f} {better if lost < theirs else worse}"


def _lost(course: LifelongResults, stage: int, site: str) -> float:
    before, after = course.matrix["mAP"][stage - 2 : stage, course.datasets.index(site)]
    return float(before - after)


def _summary(course: LifelongResults) -> Iterator[str]:
    found = course.figures("mAP")
    if found is None:
        yield (
            "Forgetting and transfer are not defined, because not every stage has exactly one evaluated data set, or "
            "one is trained on again after another."
        )
    elif found.forgetting is not None:
        kept = "have lost" if found.forgetting >= 0 else "have won"
        yield (
            f"At the end, earlier data sets {kept} {abs(found.forgetting):.1f} mAP points on average against their "
            f"best value, and the average over all data sets is {found.average:.1f} %."
        )


def stored_vectors(course: LifelongResults) -> Iterator[str]:
    """Yield a sentence on gallery compatibility with stored vectors, for each earlier data set."""
    last = len(course.stages)
    for found in course.galleries:
        if found.stage != last:
            continue
        old, mixed, new = (figures["mAP"] for figures in (found.old, found.mixed, found.new))
        gain = new - mixed
        advice = f"embed the gallery again (+{gain:.1f})" if gain > _SMALL else "keep the stored vectors"
        yield (
            f"{found.dataset}: the new model reaches mAP {mixed:.1f} % on vectors stored before "
            f"{course.stages[last - 1]}, {new:.1f} % on its own vectors; "
            f"the previous model reached {old:.1f} %. Advice: {advice}."
        )


# ---- tables


def _figures(
    course: LifelongResults, expert_scores: dict[Measure, dict[str, float]] | None
) -> list[tuple[str, str, str]]:
    found = [
        course.figures(measure, expert_scores=None if expert_scores is None else expert_scores[measure])
        for measure in MEASURES
    ]
    rows: list[tuple[str, list[float | None]]] = []
    if None not in found:
        defined = [each for each in found if each is not None]
        rows += [
            ("average over the data sets trained on", [each.average for each in defined]),
            ("forgetting: loss against the best earlier value", [each.forgetting for each in defined]),
            ("backward transfer: change since the data set was trained on", [each.backward for each in defined]),
            ("forward transfer: gain over the initial model before training on it", [each.forward for each in defined]),
        ]
        for number, site in enumerate(course.sites or ()):
            experts = [None if each.intransigence is None else float(each.intransigence[number]) for each in defined]
            rows.append((f"intransigence on {site}: gap to a model trained on it alone", experts))
    unseen = [course.unseen_average(measure) for measure in MEASURES]
    rows.append(("unseen data sets, mean", [None if row is None else float(row[-1]) for row in unseen]))
    merged = [None if course.merged is None else float(course.merged[measure][-1]) for measure in MEASURES]
    rows.append(("unseen data sets, merged gallery", merged))
    return [
        (name, *("–" if value is None else f"{value:.1f}" for value in row))  # type: ignore[misc]
        for name, row in rows
        if any(value is not None for value in row)
    ]


def _costs(course: LifelongResults) -> list[tuple[str, str, str, str, str]]:
    rows = []
    for name, cost in zip(course.stages, course.costs, strict=True):
        held = [f"{part} {inner}" for part, found in cost.memory_footprint.items() for inner in found]
        size = megabytes(cost.bytes)
        rows.append((name, duration(cost.seconds), ", ".join(held) or "nothing", size, f"{cost.images:,}"))
    return rows


def megabytes(count: int) -> str:
    """Return a number of bytes with its unit.

    >>> megabytes(0), megabytes(2_500), megabytes(94_000_000)
    ('0 kB', '2.5 kB', '94.0 MB')
    """
    if not count:
        return "0 kB"
    return f"{count / 1e3:,.1f} kB" if count < 1_000_000 else f"{count / 1e6:,.1f} MB"


def _comparable(run: RunFolder, course: LifelongResults, against: Path) -> LifelongResults:
    """Return the course of another run that went through the same stages, tested in the same way."""
    other = read_run(against)
    if against.resolve() == run.path.resolve():
        raise UserError(f"--against {against}: it is the same run; give another run over the same stages")
    found = lifelong_results(other)
    if found is None:
        raise UserError(f"--against {against}: it has no continual_metrics.json; it must be a run of several stages")
    for word, mine, theirs in (
        ("stages", course.trained, found.trained),
        ("tested data sets", course.datasets, found.datasets),
    ):
        if mine != theirs:
            raise UserError(f"--against {against}: its {word} differ ({theirs} instead of {mine})")
    _require_alike(run, other)
    return found


def _alone(run: RunFolder, course: LifelongResults, experts: Sequence[Path]) -> dict[Measure, dict[str, float]]:
    """Return the scores of single-data-set models on their data set."""
    alone: dict[Measure, dict[str, float]] = {"mAP": {}, "rank1": {}}
    for folder in experts:
        expert = read_run(folder)
        learnt = {name for stage in expert.recipe.stages for name in stage.train}
        found = [site for site in expert.sites if site.name in learnt]
        if len(learnt) != 1 or not found:
            raise UserError(
                f"--expert {folder}: it must be a finished run that is trained and evaluated on exactly one data set"
            )
        _require_alike(run, expert)
        alone["mAP"][found[0].name], alone["rank1"][found[0].name] = found[0].plain.mAP, found[0].plain.rank[1]
    if missing := [site for site in course.sites or () if site not in alone["mAP"]]:
        raise UserError(f"--expert: no run is trained on {', '.join(missing)} alone; give one for each data set")
    return alone


def _require_alike(run: RunFolder, other: RunFolder) -> None:
    mine = {site.name: site.protocol for site in run.sites}
    for site in other.sites:
        if site.name in mine:
            mine[site.name].require_like(site.protocol)


# ---- pictures


def _pictures(course: LifelongResults) -> list[Picture]:
    pictures = []
    for measure in MEASURES:
        rows = [f"after {n}: {', '.join(_cells(course, measure, t))}" for t, n in enumerate(course.stages)]
        alt = f"{_NAMES[measure]} in percent, {'; '.join(rows)}."
        caption = f"{_NAMES[measure]} on every data set after every stage; the frame marks the data set of the stage"
        pictures.append(picture_of(heat_map(course, measure), alt, caption))
    if len(course.stages) > 1:
        alt = "The mAP of each data set over the stages; the values are in the matrix."
        caption = "The mAP of each data set over the stages; the largest mark is at its own stage"
        pictures.append(picture_of(site_curves(course, "mAP"), alt, caption))
    return pictures


def _cells(course: LifelongResults, measure: Measure, stage: int) -> list[str]:
    row = course.matrix[measure][stage]
    return [f"{name} {value:.1f}" for name, value in zip(course.datasets, row, strict=True)]


def heat_map(course: LifelongResults, measure: Measure) -> Figure:
    """Draw the scores after each stage (rows) on each site (columns), numbers in the cells, the start on top.

    The colours grow lighter with the score in one direction, so they can be told apart by any eye and in grey print.
    """
    matrix, names = course.matrix[measure], [f"after {name}" for name in course.stages]
    if course.start is not None:
        matrix, names = np.vstack([course.start[measure], matrix]), ["at the start", *names]
    first = len(names) - len(course.stages)
    with style():
        figure, (panel,) = panels(1, width=1.6 + 0.95 * len(course.datasets), height=1.0 + 0.5 * len(names))
        high = max(float(matrix.max()), 1.0)
        panel.pcolormesh(matrix, cmap="cividis", vmin=0, vmax=high, edgecolors="white", linewidth=1.5)
        _numbers(panel, matrix, high)
        for stage, trained in enumerate(course.trained):
            for site in set(trained) & set(course.datasets):
                corner = course.datasets.index(site) + 0.04, stage + first + 0.05
                panel.add_patch(Rectangle(corner, 0.92, 0.9, fill=False, edgecolor="white", linewidth=3.6))
                panel.add_patch(Rectangle(corner, 0.92, 0.9, fill=False, edgecolor=INK, linewidth=1.6))
        _name_cells(panel, [_plain(n) for n in names], [_column(course, n) for n in course.datasets])
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


def _column(course: LifelongResults, name: str) -> str:
    return _plain(f"{name}\n(unseen)" if name in course.unseen else name)


def _plain(text: str) -> str:
    return text.replace("$", r"\$")  # or matplotlib would take what is between two of them for a formula


def site_curves(course: LifelongResults, measure: Measure) -> Figure:
    """Draw the score of each site over the stages, from the start where it was tested."""
    first = 1 if course.start is None else 0
    ticks = [*(["start"] if first == 0 else []), *course.stages]
    with style():
        figure, (panel,) = panels(1)
        for number, name in enumerate(course.datasets):
            values = course.matrix[measure][:, number]
            if course.start is not None:
                values = np.concatenate([course.start[measure][[number]], values])
            x, chosen = np.arange(first, len(course.stages) + 1), look(number)
            label = _plain(f"{name} (unseen)" if name in course.unseen else name)
            panel.plot(x, values, color=chosen.colour, linestyle=chosen.line, marker=chosen.marker, label=label)
            learnt = [stage for stage, trained in enumerate(course.trained, start=1) if name in trained]
            panel.plot(learnt, values[np.array(learnt, int) - first], chosen.marker, color=chosen.colour, markersize=11)
        panel.set_xticks(range(first, len(course.stages) + 1), [_plain(tick) for tick in ticks])
        panel.set_xlabel("after stage")
        panel.set_ylim(bottom=0)
        panel.yaxis.set_major_formatter(PercentFormatter(100, decimals=0))
        figure.legend(loc="outside lower center", ncols=3)
    return figure
