"""Comparison of runs: mean and deviation over the seeds of one recipe, and differences between recipes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev

from passerby.errors import UserError
from passerby.recipe.changes import PLACES, Change, changes
from passerby.report.folder import DatasetResult, RunFolder, read_run

SEED = "engine.seed"
FIGURES: dict[str, Callable[[DatasetResult], float | None]] = {
    "mAP": lambda result: result.plain.mAP,
    "rank-1": lambda result: result.plain.rank[1],
    "mINP": lambda result: result.plain.mINP,
    "mAP, re-ranked": lambda result: None if result.reranked is None else result.reranked.mAP,
    "rank-1, re-ranked": lambda result: None if result.reranked is None else result.reranked.rank[1],
}
"""The figures that are compared, in percent."""


@dataclass(frozen=True)
class Spread:
    """A figure over repeats: the mean, and the sample standard deviation (None for a single run)."""

    mean: float
    deviation: float | None

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Return the spread of one or more values.

        >>> str(Spread.of([49.0, 51.0])), str(Spread.of([50.0]))
        ('50.0 ± 1.4', '50.0')
        """
        return cls(fmean(values), stdev(values) if len(values) > 1 else None)

    def __str__(self) -> str:
        """The mean with one digit, and the deviation where there is one."""
        return f"{self.mean:.1f}" if self.deviation is None else f"{self.mean:.1f} ± {self.deviation:.1f}"


@dataclass(frozen=True, eq=False)
class Repeats:
    """Runs of one recipe that differ in their seeds at most.

    Attributes:
        runs: one or more.
        changes: what differs from the recipe of the first group; empty for the first group.

    """

    runs: tuple[RunFolder, ...]
    changes: tuple[Change, ...]

    @property
    def name(self) -> str:
        """The folder of the runs, or of the only one."""
        first = self.runs[0].path
        return str(first if len(self.runs) == 1 else first.parent)

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seed of each run."""
        return tuple(run.recipe.engine.seed for run in self.runs)

    def figures(self, dataset: str) -> dict[str, Spread]:
        """Return every measure that all runs have on a data set; nothing when one of them was not tested on it."""
        results = [result for run in self.runs for result in run.results if result.name == dataset]
        if len(results) < len(self.runs):
            return {}
        columns = {name: [read(result) for result in results] for name, read in FIGURES.items()}
        present = {name: [v for v in values if v is not None] for name, values in columns.items()}
        return {name: Spread.of(values) for name, values in present.items() if len(values) == len(results)}


@dataclass(frozen=True, eq=False)
class RunComparison:
    """Groups of repeats over the data sets that any of their runs was tested on.

    Attributes:
        groups: in the order in which they were named.
        datasets: names.
        caveats: sentences on what does not compare.

    """

    groups: tuple[Repeats, ...]
    datasets: tuple[str, ...]
    caveats: tuple[str, ...]

    def to_json(self) -> list[dict[str, object]]:
        """Return plain JSON values, figures in percent."""
        return [
            {
                "runs": [str(run.path) for run in group.runs],
                "seeds": list(group.seeds),
                "changes": {change.key: change.after for change in group.changes},
                "scores": {
                    name: {measure: {"mean": v.mean, "sd": v.deviation} for measure, v in group.figures(name).items()}
                    for name in self.datasets
                },
            }
            for group in self.groups
        ]


def compare_runs(paths: Sequence[Path]) -> RunComparison:
    """Read finished runs and group those whose recipes differ in the seed at most.

    Args:
        paths: run folders, or folders of run folders such as `passerby train --seeds` writes.

    Raises:
        UserError: no run folder, or a run without scores.

    """
    runs = [read_run(path) for path_or_parent in paths for path in _run_folders(path_or_parent)]
    for run in runs:
        if not run.results:
            raise UserError(f"{run.path} has no scores.json with scores; finish the run, or leave it out")
    groups: list[list[RunFolder]] = []
    for run in runs:
        alike = (group for group in groups if not _changes(group[0], run, SEED))
        group = next(alike, None)
        if group is None:
            groups.append([run])
        else:
            group.append(run)
    first = groups[0][0]
    repeats = tuple(Repeats(tuple(group), tuple(_changes(first, group[0], SEED))) for group in groups)
    datasets = tuple(dict.fromkeys(result.name for run in runs for result in run.results))
    return RunComparison(repeats, datasets, tuple(_caveats(runs, datasets)))


def _changes(before: RunFolder, after: RunFolder, *ignore: str) -> list[Change]:
    return changes(before.recipe, after.recipe, ignore=(*PLACES, *ignore))


def _run_folders(path: Path) -> list[Path]:
    """Return the folder itself if it holds a run, else the run folders in it."""
    if (path / "recipe.yaml").is_file():
        return [path]
    inside = sorted(file.parent for file in path.glob("*/recipe.yaml")) if path.is_dir() else []
    if not inside:
        raise UserError(f"{path} is no run folder, and holds none")
    return inside


def _caveats(runs: Sequence[RunFolder], datasets: Sequence[str]) -> list[str]:
    """Return a sentence for each data set on which the runs were tested by unlike protocols."""
    sentences = []
    for name in datasets:
        protocols = [result.protocol for run in runs for result in run.results if result.name == name]
        for other in protocols[1:]:
            try:
                protocols[0].require_like(other)
            except UserError as error:
                sentences.append(f"{name}: {error}")
                break
    return sentences
