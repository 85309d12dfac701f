"""Select the data set that a model is tested on or embeds."""

from __future__ import annotations

from passerby.data.datasets import dataset_settings, open_dataset
from passerby.errors import UserError, did_you_mean
from passerby.recipe import Recipe
from passerby.types import Dataset


def select_dataset(
    recipe: Recipe | None, *, on: str | None, data: str | None, masks: str | None = None, pattern: str | None = None
) -> Dataset:
    """Open the data set that is to be tested: by name, by folder, or the first one the recipe tests.

    Args:
        recipe: knows names and where they are; None when the model has none.
        on: a name from the recipe or a kind of data set.
        data: the folder to look in instead of the recipe's.
        masks: the folder of its foreground masks.
        pattern: template of its file names.

    """
    if pattern is not None and data is None:
        raise UserError(
            "--pattern belongs to --data DIR; the file names of the run's own data sets are set in its recipe"
        )
    if masks is not None and data is None:
        raise UserError("--masks belongs to --data DIR; the masks of the run's own data sets are set in its recipe")
    if data is not None:
        return open_dataset(dataset_settings(on or "auto", data, masks=masks, pattern=pattern))
    if recipe is None:
        raise UserError("a model of another program has no data sets; give the images with --data DIR")
    if on is not None and on not in recipe.datasets and on not in recipe.tested:
        known = sorted({*recipe.datasets, *recipe.tested})
        raise UserError(
            f"--on {on}: the run has {', '.join(known)}{did_you_mean(on, known)}; for another set give --data DIR too"
        )
    name = on or recipe.tested[0]
    return recipe.open_dataset(name)
