"""What a recipe aims at, beside what a run measured, and what speaks against comparing the two."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from passerby.data.readers.layout import UNLIKE_PUBLISHED
from passerby.recipe import Recipe, load_recipe
from passerby.recipe import changes as recipe_changes
from passerby.targets import Expected, Figures, shipped_targets
from passerby.train.journal import FindingRecord, ScoreRecord
from passerby.types import Dataset, Scores

_FREE = (
    "root", "datasets", "description", "target", "expected", "evaluate", "test.every", "test.keep_best", "data.cache",
    "data.workers", "engine.device", "engine.track", "test.start", "engine.keep_stages",
    "engine.threads",
)  # fmt: skip
"""What may differ from a target without making another run of it: where things are, and what is told on the way."""


def expected_of(recipe: Recipe, datasets: Mapping[str, Dataset], name: str) -> Expected | None:
    """Return the goal of a recipe on one of its data sets, or None when it has none.

    Args:
        recipe: what runs.
        datasets: all that it reads, by name.
        name: the data set that is tested.

    """
    dataset = datasets[name]
    goal = recipe.expected.get(name) or recipe.expected.get(dataset.name)
    if goal is None and dataset.layout is not None and dataset.layout.published:
        goal = recipe.expected.get(dataset.layout.kind)
    if goal is None:
        return None
    learnt = dict.fromkeys((*(n for stage in recipe.stages for n in stage.train), name))
    unlike = [f"{n}: {note}" for n in learnt for note in datasets[n].notes if UNLIKE_PUBLISHED in note]
    return Expected(target=recipe.target, goal=goal, caveats=(*_caveats(recipe), *unlike))


def figures(scores: Scores) -> Figures:
    """Return the figures of an evaluation that goals are about."""
    return Figures(mAP=100 * scores.mAP, rank1=100 * scores.rank(1))


def change_since(recipe: Recipe, records: Sequence[ScoreRecord], name: str, *, after: Scores) -> float | None:
    """Return how the mAP on a data set changed since the stage that learnt it last, in points; negative = forgotten.

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
    wanted = (learnt[-1], after.protocol.dataset)
    before = {record.epoch: record.mAP for record in records if (record.stage, record.dataset) == wanted}
    return 100 * (after.mAP - before[max(before)]) if before else None


def losses_of_code(recipe: Recipe, findings: Sequence[FindingRecord], name: str) -> dict[str, float] | None:
    """Return the losses of the autoencoder that the last stage on a data set left, by name; None when none did.

    Args:
        recipe: what ran.
        findings: what its parts found.
        name: the data set, as the recipe calls it.

    """
    learnt = {number for number, stage in enumerate(recipe.stages, start=1) if name in stage.train}
    left = [found for found in findings if found.part == "ebll" and found.stage in learnt]
    if not left:
        return None
    return {loss: left[-1].values[loss] for loss in ("ae", "ae_l1", "ae_l2") if loss in left[-1].values}


def changes(recipe: Recipe) -> list[str]:
    """Return what a recipe does not do as the target it was made from, as key=value; what cannot matter is left out."""
    if recipe.target is None or recipe.target not in shipped_targets():
        return []
    target = load_recipe(recipe.target)
    found = recipe_changes.changes(target, recipe, ignore=_FREE)
    sources = [f"datasets.{name}" for name in recipe.expected if _source(target, name) != _source(recipe, name)]
    return [*map(str, found), *sources]


def _caveats(recipe: Recipe) -> list[str]:
    if recipe.target is not None and recipe.target not in shipped_targets():
        return [f"This version knows no target {recipe.target!r}, so it cannot tell what was changed."]
    found = changes(recipe)
    return [f"Run with changes: {', '.join(found)}."] if found else []


def _source(recipe: Recipe, name: str) -> dict[str, object]:
    """Return how a data set is read, wherever it lies."""
    return recipe.dataset(name).model_dump(exclude={"root", "path"})
