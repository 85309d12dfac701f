"""Reference results of a recipe, and reservations about their comparison with the measured ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from passerby.data.readers.layout import UNLIKE_PUBLISHED
from passerby.methods.table import METHODS
from passerby.recipe import Recipe, load_recipe
from passerby.recipe import changes as recipe_changes
from passerby.reference_results import Figures, Reference, shipped_rows
from passerby.training.run_log import MetricRecord, ScoreRecord
from passerby.types import Dataset, Scores

_FREE = (
    "root", "datasets", "description", "reference", "reference_results", "evaluate", "test.every", "test.keep_best",
    "data.cache", "data.workers", "engine.device", "engine.track", "test.start", "engine.keep_stages",
    "engine.threads",
)  # fmt: skip
"""Settings that may differ from a reference row without a caveat: paths, and logging during training."""


def reference_of(recipe: Recipe, datasets: Mapping[str, Dataset], name: str) -> Reference | None:
    """Return the reference results of a recipe on one of its data sets, or None without any.

    Args:
        recipe: what runs.
        datasets: all that it reads, by name.
        name: the data set that is tested.

    """
    dataset = datasets[name]
    result = recipe.reference_results.get(name) or recipe.reference_results.get(dataset.name)
    if result is None and dataset.layout is not None and dataset.layout.published:
        result = recipe.reference_results.get(dataset.layout.kind)
    if result is None:
        return None
    learnt = dict.fromkeys((*(n for stage in recipe.stages for n in stage.train), name))
    unlike = [f"{n}: {note}" for n in learnt for note in datasets[n].notes if UNLIKE_PUBLISHED in note]
    return Reference(row=recipe.reference, result=result, caveats=(*_caveats(recipe), *unlike))


def figures(scores: Scores) -> Figures:
    """Return the scores of an evaluation in the form of reference results."""
    return Figures(mAP=100 * scores.mAP, rank1=100 * scores.rank(1))


def change_since(recipe: Recipe, records: Sequence[ScoreRecord], name: str, *, after: Scores) -> float | None:
    """Return the change of the mAP on a data set since its last stage, in points; negative = forgotten.

    Args:
        recipe: what ran.
        records: the evaluations of the run.
        name: the data set, as the recipe calls it.
        after: its scores after the last stage.

    Returns:
        None when no stage learnt it, or none came after that.

    """
    learnt = [number for number, stage in enumerate(recipe.stages, start=1) if name in stage.train]
    if not learnt or learnt[-1] == len(recipe.stages):
        return None
    key = (learnt[-1], after.protocol.dataset)
    before = {record.epoch: record.mAP for record in records if (record.stage, record.dataset) == key}
    return 100 * (after.mAP - before[max(before)]) if before else None


def losses_of_code(recipe: Recipe, metrics: Sequence[MetricRecord], name: str) -> dict[str, float] | None:
    """Return the losses of the autoencoder that the last stage on a data set left, by name; None when none did.

    Args:
        recipe: what ran.
        metrics: those logged by its methods.
        name: the data set, as the recipe calls it.

    """
    learnt = {number for number, stage in enumerate(recipe.stages, start=1) if name in stage.train}
    reported = {name: kind.reported for name, kind in METHODS.items() if kind.reported}
    logged = [record for record in metrics if record.method in reported and record.stage in learnt]
    if not logged:
        return None
    return {loss: logged[-1].values[loss] for loss in reported[logged[-1].method] if loss in logged[-1].values}


def changes_from_reference(recipe: Recipe) -> list[str]:
    """Return the settings that differ from the reference row of the recipe, as key=value, without those in `_FREE`."""
    if recipe.reference is None or recipe.reference not in shipped_rows():
        return []
    row = load_recipe(recipe.reference)
    differences = recipe_changes.changes(row, recipe, ignore=_FREE)
    sources = [f"datasets.{name}" for name in recipe.reference_results if _source(row, name) != _source(recipe, name)]
    return [*map(str, differences), *sources]


def _caveats(recipe: Recipe) -> list[str]:
    if recipe.reference is not None and recipe.reference not in shipped_rows():
        return [f"This version has no reference row {recipe.reference!r}, so changes from it cannot be listed."]
    differences = changes_from_reference(recipe)
    return [f"Run with changes: {', '.join(differences)}."] if differences else []


def _source(recipe: Recipe, name: str) -> dict[str, object]:
    """Return the reader settings of a data set, without paths."""
    return recipe.dataset(name).model_dump(exclude={"root", "path"})
