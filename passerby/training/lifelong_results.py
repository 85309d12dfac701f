"""Results of a lifelong run: scores on each data set after each stage, forgetting, transfer, and cost.

`continual_metrics.json` holds them: the measured scores, and the figures that are computed from them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from typing import Literal, cast

import numpy as np

from passerby.errors import UserError
from passerby.metrics.continual import Continual, continual_metrics
from passerby.training import run_log
from passerby.training.run_log import Record, ScoreRecord, SearchRecord, StageRecord
from passerby.types import Doubles, Stage

Measure = Literal["mAP", "rank1"]
MEASURES: tuple[Measure, ...] = ("mAP", "rank1")


@dataclass(frozen=True)
class EarlierGallery:
    """A search with a new model in the vectors of the model before it, in percent.

    Attributes:
        stage: the stage after which the queries were embedded, from 2; the gallery is of the stage before.
        dataset: a data set that an earlier stage trained on.
        old: scores with query and gallery vectors of the earlier model.
        mixed: scores with query vectors of the new and gallery vectors of the earlier model.
        new: scores with query and gallery vectors of the new model.

    """

    stage: int
    dataset: str
    old: dict[Measure, float]
    mixed: dict[Measure, float]
    new: dict[Measure, float]


@dataclass(frozen=True)
class StageCost:
    """Duration of a stage, and what methods keep after it: bytes by method and name, and images of earlier stages."""

    seconds: float
    memory_footprint: dict[str, dict[str, int]]
    images: int

    @property
    def bytes(self) -> int:
        """Sum over all methods."""
        return sum(sum(sizes.values()) for sizes in self.memory_footprint.values())


@dataclass(frozen=True, eq=False)
class LifelongResults:
    """Results of a run of several stages so far; rates in percent (0..100).

    Attributes:
        stages: the titles of the T finished stages.
        trained: the data sets that each trained on, without those of `source`.
        datasets: the S tested data sets.
        unseen: the tested data sets that no stage of the recipe shows.
        matrix: (T, S) scores after each stage on each data set, for each measure.
        start: (S,) scores of the model before the first stage, or None when it was not tested.
        merged: (T,) scores of the search in all unseen sets at once, or None when there are not several.
        galleries: the tests of gallery compatibility.
        costs: duration and memory of each stage.

    """

    stages: tuple[str, ...]
    trained: tuple[tuple[str, ...], ...]
    datasets: tuple[str, ...]
    unseen: tuple[str, ...]
    matrix: dict[Measure, Doubles]
    start: dict[Measure, Doubles] | None
    merged: dict[Measure, Doubles] | None
    galleries: tuple[EarlierGallery, ...]
    costs: tuple[StageCost, ...]

    @property
    def last_stages(self) -> dict[str, int] | None:
        """The data sets in the order of training, each with the last of its stages, from 0.

        Stages that follow one another on one data set count as one. None unless each stage has a single data set, no
        data set is trained on again after another one, and all are tested.
        """
        order = [names[0] for names in self.trained if len(names) == 1]
        without_repeats = [name for name, _ in groupby(order)]
        once = len(order) == len(self.trained) and len(set(without_repeats)) == len(without_repeats)
        if not order or not once or not set(order) <= set(self.datasets):
            return None
        return {name: stage for stage, name in enumerate(order)}

    @property
    def trained_order(self) -> tuple[str, ...] | None:
        """The data sets in the order of training; None where `last_stages` is."""
        return None if self.last_stages is None else tuple(self.last_stages)

    def figures(self, measure: Measure, *, expert_scores: Mapping[str, float] | None = None) -> Continual | None:
        """Return the measures of forgetting and transfer, from the last stage on each data set.

        None where `last_stages` is.

        Args:
            measure: mAP or rank-1.
            expert_scores: score of a model trained on each data set alone, in percent, for the intransigence.

        """
        if self.last_stages is None:
            return None
        columns = [self.datasets.index(name) for name in self.last_stages]
        experts = None if expert_scores is None else np.array([expert_scores[name] for name in self.last_stages])
        start = None if self.start is None else self.start[measure][columns]
        matrix = self.matrix[measure][np.ix_(list(self.last_stages.values()), columns)]
        return continual_metrics(matrix, start=start, alone=experts)

    def seen_average(self, measure: Measure) -> Doubles | None:
        """Return the mean over the data sets trained on so far after each stage (T,); None where `last_stages` is."""
        if self.last_stages is None:
            return None
        columns = [[self.datasets.index(name) for name in self.learnt_before(t + 2)] for t in range(len(self.stages))]
        return np.array([row[learnt].mean() for row, learnt in zip(self.matrix[measure], columns, strict=True)])

    def unseen_average(self, measure: Measure) -> Doubles | None:
        """Return the mean over the unseen data sets after each stage (T,), each searched by itself."""
        columns = [self.datasets.index(name) for name in self.unseen]
        return self.matrix[measure][:, columns].mean(axis=1) if columns else None

    def learnt_before(self, stage: int) -> list[str]:
        """Return the tested data sets that stages before the given one (from 1) trained on, in order."""
        return _learnt(self.trained[: stage - 1], self.datasets)


def _learnt(trained: Sequence[Sequence[str]], tested: Sequence[str]) -> list[str]:
    return [name for name in dict.fromkeys(n for names in trained for n in names) if name in tested]


# ---- from the log


def read_lifelong_results(
    stages: Sequence[Stage], tested: Sequence[str], records: Sequence[Record]
) -> LifelongResults | None:
    """Return the results so far from the log of a run; None before the first stage has been tested.

    Args:
        stages: all stages of the run.
        tested: names of the tested data sets.
        records: the log.

    """
    at_end = {(record.stage, record.dataset): record for record in _at_end(stages, records)}
    count = next((t for t in range(len(stages)) if any((t + 1, name) not in at_end for name in tested)), len(stages))
    if not count or not tested:
        return None
    start = {record.dataset: record for record in run_log.scores(records) if record.stage == 0}
    searches = [record for record in records if isinstance(record, SearchRecord) and record.stage <= count]
    merged = [record for record in searches if record.kind == "merged"]
    shown = {name for stage in stages for name in stage.sources}
    return LifelongResults(
        stages=tuple(stage.name for stage in stages[:count]),
        trained=tuple(stage.learnt for stage in stages[:count]),
        datasets=tuple(tested),
        unseen=tuple(name for name in tested if name not in shown),
        matrix={m: np.array([[_percent(at_end[t + 1, n], m) for n in tested] for t in range(count)]) for m in MEASURES},
        start={m: np.array([_percent(start[n], m) for n in tested]) for m in MEASURES}
        if {*start} >= {*tested}
        else None,
        merged={m: np.array([_percent(r, m) for r in merged]) for m in MEASURES} if len(merged) == count else None,
        galleries=tuple(_gallery(record, at_end) for record in searches if record.kind == "earlier gallery"),
        costs=tuple(_cost(records, stage) for stage in range(1, count + 1)),
    )


def _at_end(stages: Sequence[Stage], records: Sequence[Record]) -> list[ScoreRecord]:
    last = {number: stage.epochs for number, stage in enumerate(stages, start=1)}
    last |= {record.stage: record.epoch for record in records if isinstance(record, StageRecord)}
    return [record for record in run_log.scores(records) if record.epoch == last.get(record.stage)]


def _percent(record: ScoreRecord | SearchRecord, measure: Measure) -> float:
    return 100 * (record.mAP if measure == "mAP" else record.rank1)


def _gallery(record: SearchRecord, at_end: Mapping[tuple[int, str], ScoreRecord]) -> EarlierGallery:
    before, after = (at_end[number, record.dataset] for number in (record.stage - 1, record.stage))
    old, mixed, new = ({m: _percent(measured, m) for m in MEASURES} for measured in (before, record, after))
    return EarlierGallery(record.stage, record.dataset, old, mixed, new)


def _cost(records: Sequence[Record], stage: int) -> StageCost:
    learning = sum(record.seconds for record in run_log.epochs(records) if record.stage == stage)
    ends = [record for record in records if isinstance(record, StageRecord) and record.stage == stage]
    if not ends:
        return StageCost(learning, {}, 0)
    return StageCost(learning + ends[-1].seconds, ends[-1].memory_footprint, ends[-1].images)


# ---- to and from JSON


def lifelong_results_json(results: LifelongResults) -> dict[str, object]:
    """Return lifelong results as plain JSON values; None where a figure is not defined."""
    return {
        "stages": [{"name": n, "trained_on": list(s)} for n, s in zip(results.stages, results.trained, strict=True)],
        "datasets": list(results.datasets),
        "unseen": list(results.unseen),
        **{measure: _measure_json(results, measure) for measure in MEASURES},
        "earlier_gallery": [asdict(gallery) for gallery in results.galleries],
        "cost": [asdict(cost) for cost in results.costs],
    }


def _measure_json(results: LifelongResults, measure: Measure) -> dict[str, object]:
    figures = results.figures(measure)
    return {
        "matrix": results.matrix[measure].tolist(),
        "start": _list(None if results.start is None else results.start[measure]),
        "unseen_merged": _list(None if results.merged is None else results.merged[measure]),
        "unseen_avg": _list(results.unseen_average(measure)),
        "seen_avg": _list(results.seen_average(measure)),
        "average": None if figures is None else figures.average,
        "forgetting": None if figures is None else figures.forgetting,
        "backward_transfer": None if figures is None else figures.backward,
        "forward_transfer": None if figures is None else figures.forward,
    }


def _list(values: Doubles | None) -> list[float] | None:
    return None if values is None else [float(value) for value in values]


def lifelong_results_from_json(entry: object, *, source: str) -> LifelongResults:
    """Return the results that `lifelong_results_json` wrote; computed figures are not read but computed again.

    Args:
        entry: the parsed JSON.
        source: name of the file, for messages.

    Raises:
        UserError: fields are missing or of another type.

    """
    try:
        return _parse_results(cast("dict[str, object]", entry))
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"{source} does not hold lifelong results as `passerby train` writes it ({error!r})") from error


def _parse_results(entry: dict[str, object]) -> LifelongResults:
    stages = cast("list[dict[str, object]]", entry["stages"])
    measures = {measure: cast("dict[str, object]", entry[measure]) for measure in MEASURES}
    shape = len(stages), len(cast("list[str]", entry["datasets"]))

    def optional(name: str, shape: tuple[int, ...]) -> dict[Measure, Doubles] | None:
        if any(values[name] is None for values in measures.values()):
            return None
        return {measure: _numbers(values[name], shape) for measure, values in measures.items()}

    matrix = optional("matrix", shape)
    if matrix is None:
        raise ValueError("there is no matrix")
    return LifelongResults(
        stages=tuple(str(stage["name"]) for stage in stages),
        trained=tuple(tuple(map(str, cast("list[str]", stage["trained_on"]))) for stage in stages),
        datasets=tuple(map(str, cast("list[str]", entry["datasets"]))),
        unseen=tuple(map(str, cast("list[str]", entry["unseen"]))),
        matrix=matrix,
        start=optional("start", shape[1:]),
        merged=optional("unseen_merged", shape[:1]),
        galleries=tuple(EarlierGallery(**g) for g in cast("list[dict[str, object]]", entry["earlier_gallery"])),  # type: ignore[arg-type]
        costs=tuple(_parse_cost(cost) for cost in cast("list[dict[str, object]]", entry["cost"])),
    )


def _parse_cost(entry: dict[str, object]) -> StageCost:
    footprint = entry["memory_footprint"] if "memory_footprint" in entry else entry["held"]  # the name in version 0.1
    return StageCost(
        cast("float", entry["seconds"]), cast("dict[str, dict[str, int]]", footprint), cast("int", entry["images"])
    )


def _numbers(values: object, shape: tuple[int, ...]) -> Doubles:
    array = np.array(values, dtype=np.float64)
    if array.shape != shape or not np.isfinite(array).all():
        raise ValueError(f"expected finite numbers of shape {shape}, got {array.shape}")
    return array
