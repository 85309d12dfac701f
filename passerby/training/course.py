"""The course of a run of several stages: what it scored where after each, what that says, and what it cost.

`continual_metrics.json` is a course written down: what was measured, and beside it what follows from it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
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
        stage: after which the queries were embedded, from 2; the gallery is of the stage before.
        dataset: the site, which was learnt before the stage.
        old, mixed, new: both by the earlier model; queries by the new and gallery by the earlier one; both by the new.

    """

    stage: int
    dataset: str
    old: dict[Measure, float]
    mixed: dict[Measure, float]
    new: dict[Measure, float]


@dataclass(frozen=True)
class Cost:
    """What one stage took and what it leaves in memory: bytes by method and name, and images of earlier stages."""

    seconds: float
    held: dict[str, dict[str, int]]
    images: int

    @property
    def bytes(self) -> int:
        """All that is held."""
        return sum(sum(found.values()) for found in self.held.values())


@dataclass(frozen=True, eq=False)
class Course:
    """A run of several stages so far; rates in percent (0..100).

    Attributes:
        stages: the titles of the T stages that are done.
        trained: the data sets of each, without labelled ones that it only showed beside.
        datasets: the S data sets that are tested.
        unseen: those of them that no stage of the recipe shows.
        matrix: (T, S) scores after each stage on each data set, for each measure.
        start: (S,) scores of the model before the first stage, or None when it was not tested.
        merged: (T,) scores of the search in all unseen sets at once, or None when there are not several.
        galleries: the searches in the vectors of the stage before.
        costs: of each stage.

    """

    stages: tuple[str, ...]
    trained: tuple[tuple[str, ...], ...]
    datasets: tuple[str, ...]
    unseen: tuple[str, ...]
    matrix: dict[Measure, Doubles]
    start: dict[Measure, Doubles] | None
    merged: dict[Measure, Doubles] | None
    galleries: tuple[EarlierGallery, ...]
    costs: tuple[Cost, ...]

    @property
    def sites(self) -> tuple[str, ...] | None:
        """The one data set of each stage, all different and tested; None where it is not so."""
        alone = tuple(names[0] for names in self.trained if len(names) == 1)
        fit = len(alone) == len(self.trained) == len(set(alone)) and set(alone) <= set(self.datasets)
        return alone if fit and alone else None

    def figures(self, measure: Measure, *, alone: Mapping[str, float] | None = None) -> Continual | None:
        """Return the measures of forgetting and transfer, or None where stages and data sets do not go together.

        Args:
            measure: what they are read off.
            alone: what a model of each site alone scored, in percent, for the intransigence.

        """
        if self.sites is None:
            return None
        columns = [self.datasets.index(name) for name in self.sites]
        experts = None if alone is None else np.array([alone[name] for name in self.sites])
        start = None if self.start is None else self.start[measure][columns]
        return continual_metrics(self.matrix[measure][:, columns], start=start, alone=experts)

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


def course_of(stages: Sequence[Stage], tested: Sequence[str], records: Sequence[Record]) -> Course | None:
    """Read the course so far off a log; None before the first stage has been tested.

    Args:
        stages: all that are planned.
        tested: the names of the data sets that are tested.
        records: the log.

    """
    at_end = {(record.stage, record.dataset): record for record in _at_end(stages, records)}
    done = next((t for t in range(len(stages)) if any((t + 1, name) not in at_end for name in tested)), len(stages))
    if not done or not tested:
        return None
    start = {record.dataset: record for record in run_log.scores(records) if record.stage == 0}
    searches = [record for record in records if isinstance(record, SearchRecord) and record.stage <= done]
    merged = [record for record in searches if record.kind == "merged"]
    everywhere = {name for stage in stages for name in stage.sources}
    return Course(
        stages=tuple(stage.name for stage in stages[:done]),
        trained=tuple(stage.learnt for stage in stages[:done]),
        datasets=tuple(tested),
        unseen=tuple(name for name in tested if name not in everywhere),
        matrix={m: np.array([[_percent(at_end[t + 1, n], m) for n in tested] for t in range(done)]) for m in MEASURES},
        start={m: np.array([_percent(start[n], m) for n in tested]) for m in MEASURES}
        if {*start} >= {*tested}
        else None,
        merged={m: np.array([_percent(r, m) for r in merged]) for m in MEASURES} if len(merged) == done else None,
        galleries=tuple(_gallery(record, at_end) for record in searches if record.kind == "earlier gallery"),
        costs=tuple(_cost(records, stage) for stage in range(1, done + 1)),
    )


def _at_end(stages: Sequence[Stage], records: Sequence[Record]) -> list[ScoreRecord]:
    last = {number: stage.epochs for number, stage in enumerate(stages, start=1)}
    last |= {record.stage: record.epoch for record in records if isinstance(record, StageRecord)}
    return [record for record in run_log.scores(records) if record.epoch == last.get(record.stage)]


def _percent(record: ScoreRecord | SearchRecord, measure: Measure) -> float:
    return 100 * (record.mAP if measure == "mAP" else record.rank1)


def _gallery(record: SearchRecord, at_end: Mapping[tuple[int, str], ScoreRecord]) -> EarlierGallery:
    before, after = (at_end[number, record.dataset] for number in (record.stage - 1, record.stage))
    old, mixed, new = ({m: _percent(found, m) for m in MEASURES} for found in (before, record, after))
    return EarlierGallery(record.stage, record.dataset, old, mixed, new)


def _cost(records: Sequence[Record], stage: int) -> Cost:
    learning = sum(record.seconds for record in run_log.epochs(records) if record.stage == stage)
    ends = [record for record in records if isinstance(record, StageRecord) and record.stage == stage]
    if not ends:
        return Cost(learning, {}, 0)
    return Cost(learning + ends[-1].seconds, ends[-1].held, ends[-1].images)


# ---- to and from JSON


def course_json(course: Course) -> dict[str, object]:
    """Return a course as plain JSON values, what was measured first; None where a figure is not defined."""
    return {
        "stages": [{"name": n, "trained_on": list(s)} for n, s in zip(course.stages, course.trained, strict=True)],
        "datasets": list(course.datasets),
        "unseen": list(course.unseen),
        **{measure: _measure_json(course, measure) for measure in MEASURES},
        "earlier_gallery": [asdict(found) for found in course.galleries],
        "cost": [asdict(cost) for cost in course.costs],
    }


def _measure_json(course: Course, measure: Measure) -> dict[str, object]:
    found = course.figures(measure)
    return {
        "matrix": course.matrix[measure].tolist(),
        "start": _list(None if course.start is None else course.start[measure]),
        "unseen_merged": _list(None if course.merged is None else course.merged[measure]),
        "unseen_avg": _list(course.unseen_average(measure)),
        "seen_avg": None if found is None else found.seen.tolist(),
        "average": None if found is None else found.average,
        "forgetting": None if found is None else found.forgetting,
        "backward_transfer": None if found is None else found.backward,
        "forward_transfer": None if found is None else found.forward,
    }


def _list(values: Doubles | None) -> list[float] | None:
    return None if values is None else [float(value) for value in values]


def course_from_json(entry: object, *, source: str) -> Course:
    """Read a course back; what follows from the measurements is not read but worked out again.

    Args:
        entry: what `course_json` gave.
        source: where it comes from, for messages.

    Raises:
        UserError: it is something else.

    """
    try:
        return _course(cast("dict[str, object]", entry))
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"{source} does not hold a course as `passerby train` writes it ({error!r})") from error


def _course(entry: dict[str, object]) -> Course:
    stages = cast("list[dict[str, object]]", entry["stages"])
    measures = {measure: cast("dict[str, object]", entry[measure]) for measure in MEASURES}
    shape = len(stages), len(cast("list[str]", entry["datasets"]))

    def optional(name: str, shape: tuple[int, ...]) -> dict[Measure, Doubles] | None:
        if any(found[name] is None for found in measures.values()):
            return None
        return {measure: _numbers(found[name], shape) for measure, found in measures.items()}

    matrix = optional("matrix", shape)
    if matrix is None:
        raise ValueError("there is no matrix")
    return Course(
        stages=tuple(str(stage["name"]) for stage in stages),
        trained=tuple(tuple(map(str, cast("list[str]", stage["trained_on"]))) for stage in stages),
        datasets=tuple(map(str, cast("list[str]", entry["datasets"]))),
        unseen=tuple(map(str, cast("list[str]", entry["unseen"]))),
        matrix=matrix,
        start=optional("start", shape[1:]),
        merged=optional("unseen_merged", shape[:1]),
        galleries=tuple(EarlierGallery(**g) for g in cast("list[dict[str, object]]", entry["earlier_gallery"])),  # type: ignore[arg-type]
        costs=tuple(Cost(**cost) for cost in cast("list[dict[str, object]]", entry["cost"])),  # type: ignore[arg-type]
    )


def _numbers(values: object, shape: tuple[int, ...]) -> Doubles:
    found = np.array(values, dtype=np.float64)
    if found.shape != shape or not np.isfinite(found).all():
        raise ValueError(f"expected finite numbers of shape {shape}, got {found.shape}")
    return found
