"""Lifelong results of a run of several stages: score matrix, curves, forgetting, storage."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from passerby.console import duration
from passerby.errors import UserError
from passerby.files import read_json, write_json
from passerby.report.figure_files import PageFigure, page_figure
from passerby.report.folder import RunFolder, read_run
from passerby.report.lifelong_figures import dataset_curves, heat_map
from passerby.training.lifelong_results import MEASURES, LifelongResults, Measure, lifelong_results_from_json

_NAMES: dict[Measure, str] = {"mAP": "mAP", "rank1": "rank-1"}
_SMALL = 1.0  # points: less is not worth extracting all vectors again


@dataclass(frozen=True)
class LifelongSection:
    """The section of the report on lifelong results.

    Attributes:
        sentences: the change of scores by each stage, and a summary.
        galleries: gallery compatibility, one sentence for each data set of earlier stages.
        figures: the matrices and the curves.
        measures: rows of (measure, mAP, rank-1) as text.
        costs: rows of (stage, time, memories, bytes, images) as text.

    """

    sentences: list[str]
    galleries: list[str]
    figures: list[PageFigure]
    measures: list[tuple[str, str, str]]
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
    results = lifelong_results(run)
    if results is None:
        if experts:
            raise UserError(
                f"{run.path} has no continual_metrics.json, so there are no stages to compare with --expert runs"
            )
        return None
    other = None if against is None else _comparable(run, results, against)
    name = "" if against is None else against.resolve().name
    return LifelongSection(
        sentences=[*losses(results, other=other, name=name), *_summary(results)],
        galleries=list(stored_vectors(results)),
        figures=_figures_of(results),
        measures=_measures(results, _expert_scores(run, results, experts) if experts else None),
        costs=_costs(results),
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
    results, path = lifelong_results(run), run.path / "continual_metrics.json"
    if results is None or results.trained_order is None:
        return
    expert_scores, entries = (
        _expert_scores(run, results, experts),
        cast("dict[str, dict[str, object]]", read_json(path)),
    )
    for measure in MEASURES:
        figures = results.figures(measure, expert_scores=expert_scores[measure])
        assert figures is not None
        assert figures.intransigence is not None
        entries[measure]["intransigence"] = dict(
            zip(results.trained_order, figures.intransigence.tolist(), strict=True)
        )
    write_json(path, entries)


# ---- words


def losses(results: LifelongResults, *, other: LifelongResults | None = None, name: str = "") -> Iterator[str]:
    """Yield the change of mAP by each stage on the data sets of earlier stages, in points.

    Args:
        results: the run.
        other: another run over the same stages, for comparison.
        name: name of the other run.

    """
    for stage in range(2, len(results.stages) + 1):
        earlier = [dataset for dataset in results.learnt_before(stage) if dataset not in results.trained[stage - 1]]
        changes = [_change(results, stage, dataset, other, name) for dataset in earlier]
        if changes:
            yield f"Training on {results.stages[stage - 1]} {', and '.join(changes)}."


def _change(results: LifelongResults, stage: int, dataset: str, other: LifelongResults | None, name: str) -> str:
    lost = _lost(results, stage, dataset)
    text = f"cost {dataset} {lost:.1f} mAP points" if lost >= 0 else f"gave {dataset} {-lost:.1f} mAP points"
    if other is None:
        return text
    other_loss = _lost(other, stage, dataset)
    comparison = f"{other_loss:.1f} lost" if other_loss >= 0 else f"{-other_loss:.1f} won"
    return f"{text} ({comparison} in {name}: {_compare_losses(lost, other_loss)})"


def _compare_losses(lost: float, other_loss: float) -> str:
    """Return the comparison of two losses in points; negative = gained.

    >>> _compare_losses(1.0, 3.0), _compare_losses(3.0, 1.0), _compare_losses(-3.0, -1.0), _compare_losses(-1.0, -3.0)
    ('2.0 saved', '2.0 more lost', '2.0 more won', '2.0 fewer won')
    >>> _compare_losses(-1.0, 2.0), _compare_losses(2.0, -1.0), _compare_losses(1.0, 1.0)
    ('3.0 better', '3.0 worse', 'the same')
    """
    points = abs(other_loss - lost)
    if f"{points:.1f}" == "0.0":
        return "the same"
    better, worse = "better", "worse"
    if lost >= 0 and other_loss >= 0:
        better, worse = "saved", "more lost"
    elif lost < 0 and other_loss < 0:
        better, worse = "more won", "fewer won"
    return f"{points:.1f} {better if lost < other_loss else worse}"


def _lost(results: LifelongResults, stage: int, dataset: str) -> float:
    before, after = results.matrix["mAP"][stage - 2 : stage, results.datasets.index(dataset)]
    return float(before - after)


def _summary(results: LifelongResults) -> Iterator[str]:
    figures = results.figures("mAP")
    if figures is None:
        yield (
            "Forgetting and transfer are not defined, because not every stage has exactly one evaluated data set, or "
            "one is trained on again after another."
        )
    elif figures.forgetting is not None:
        change = "have lost" if figures.forgetting >= 0 else "have won"
        yield (
            f"At the end, earlier data sets {change} {abs(figures.forgetting):.1f} mAP points on average against their "
            f"best value, and the average over all data sets is {figures.average:.1f} %."
        )


def stored_vectors(results: LifelongResults) -> Iterator[str]:
    """Yield a sentence on gallery compatibility with stored vectors, for each earlier data set."""
    last = len(results.stages)
    for gallery in results.galleries:
        if gallery.stage != last:
            continue
        old, mixed, new = (figures["mAP"] for figures in (gallery.old, gallery.mixed, gallery.new))
        gain = new - mixed
        advice = f"embed the gallery again (+{gain:.1f})" if gain > _SMALL else "keep the stored vectors"
        yield (
            f"{gallery.dataset}: the new model reaches mAP {mixed:.1f} % on vectors stored before "
            f"{results.stages[last - 1]}, {new:.1f} % on its own vectors; "
            f"the previous model reached {old:.1f} %. Advice: {advice}."
        )


# ---- tables


def _measures(
    results: LifelongResults, expert_scores: dict[Measure, dict[str, float]] | None
) -> list[tuple[str, str, str]]:
    metrics = [
        results.figures(measure, expert_scores=None if expert_scores is None else expert_scores[measure])
        for measure in MEASURES
    ]
    rows: list[tuple[str, list[float | None]]] = []
    if None not in metrics:
        defined = [each for each in metrics if each is not None]
        rows += [
            ("average over the data sets trained on", [each.average for each in defined]),
            ("forgetting: loss against the best earlier value", [each.forgetting for each in defined]),
            ("backward transfer: change since the data set was trained on", [each.backward for each in defined]),
            ("forward transfer: gain over the initial model before training on it", [each.forward for each in defined]),
        ]
        for number, dataset in enumerate(results.trained_order or ()):
            experts = [None if each.intransigence is None else float(each.intransigence[number]) for each in defined]
            rows.append((f"intransigence on {dataset}: gap to a model trained on it alone", experts))
    unseen = [results.unseen_average(measure) for measure in MEASURES]
    rows.append(("unseen data sets, mean", [None if row is None else float(row[-1]) for row in unseen]))
    merged = [None if results.merged is None else float(results.merged[measure][-1]) for measure in MEASURES]
    rows.append(("unseen data sets, merged gallery", merged))
    return [
        (name, *("–" if value is None else f"{value:.1f}" for value in row))  # type: ignore[misc]
        for name, row in rows
        if any(value is not None for value in row)
    ]


def _costs(results: LifelongResults) -> list[tuple[str, str, str, str, str]]:
    rows = []
    for name, cost in zip(results.stages, results.costs, strict=True):
        memories = [f"{method} {inner}" for method, sizes in cost.memory_footprint.items() for inner in sizes]
        size = megabytes(cost.bytes)
        rows.append((name, duration(cost.seconds), ", ".join(memories) or "nothing", size, f"{cost.images:,}"))
    return rows


def megabytes(count: int) -> str:
    """Return a number of bytes with its unit.

    >>> megabytes(0), megabytes(2_500), megabytes(94_000_000)
    ('0 kB', '2.5 kB', '94.0 MB')
    """
    if not count:
        return "0 kB"
    return f"{count / 1e3:,.1f} kB" if count < 1_000_000 else f"{count / 1e6:,.1f} MB"


def _comparable(run: RunFolder, results: LifelongResults, against: Path) -> LifelongResults:
    """Return the results of another run over the same stages and test sets."""
    other = read_run(against)
    if against.resolve() == run.path.resolve():
        raise UserError(f"--against {against}: it is the same run; give another run over the same stages")
    other_results = lifelong_results(other)
    if other_results is None:
        raise UserError(f"--against {against}: it has no continual_metrics.json; it must be a run of several stages")
    for word, expected, actual in (
        ("stages", results.trained, other_results.trained),
        ("tested data sets", results.datasets, other_results.datasets),
    ):
        if expected != actual:
            raise UserError(f"--against {against}: its {word} differ ({actual} instead of {expected})")
    _require_alike(run, other)
    return other_results


def _expert_scores(
    run: RunFolder, lifelong: LifelongResults, experts: Sequence[Path]
) -> dict[Measure, dict[str, float]]:
    """Return the scores of single-data-set models on their data set."""
    scores: dict[Measure, dict[str, float]] = {"mAP": {}, "rank1": {}}
    for folder in experts:
        expert = read_run(folder)
        trained = {name for stage in expert.recipe.stages for name in stage.train}
        results = [result for result in expert.results if result.name in trained]
        if len(trained) != 1 or not results:
            raise UserError(
                f"--expert {folder}: it must be a finished run that is trained and evaluated on exactly one data set"
            )
        _require_alike(run, expert)
        scores["mAP"][results[0].name], scores["rank1"][results[0].name] = (
            results[0].plain.mAP,
            results[0].plain.rank[1],
        )
    if missing := [name for name in lifelong.trained_order or () if name not in scores["mAP"]]:
        raise UserError(f"--expert: no run is trained on {', '.join(missing)} alone; give one for each data set")
    return scores


def _require_alike(run: RunFolder, other: RunFolder) -> None:
    protocols = {result.name: result.protocol for result in run.results}
    for result in other.results:
        if result.name in protocols:
            protocols[result.name].require_like(result.protocol)


# ---- figures


def _figures_of(results: LifelongResults) -> list[PageFigure]:
    figures = []
    for measure in MEASURES:
        rows = [f"after {n}: {', '.join(_cells(results, measure, t))}" for t, n in enumerate(results.stages)]
        alt = f"{_NAMES[measure]} in percent, {'; '.join(rows)}."
        caption = f"{_NAMES[measure]} on every data set after every stage; the frame marks the data set of the stage"
        figures.append(page_figure(heat_map(results, measure), alt, caption))
    if len(results.stages) > 1:
        alt = "The mAP of each data set over the stages; the values are in the matrix."
        caption = "The mAP of each data set over the stages; the largest mark is at its own stage"
        figures.append(page_figure(dataset_curves(results, "mAP"), alt, caption))
    return figures


def _cells(results: LifelongResults, measure: Measure, stage: int) -> list[str]:
    row = results.matrix[measure][stage]
    return [f"{name} {value:.1f}" for name, value in zip(results.datasets, row, strict=True)]
