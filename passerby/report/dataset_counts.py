"""The data sets of a run in the report: counts, folders and notes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from passerby.errors import UserError
from passerby.recipe import Recipe
from passerby.types import Dataset, Split


@dataclass(frozen=True)
class SplitCount:
    """Counts of images, identities and cameras of a split."""

    split: str
    images: int
    identities: int
    cameras: int


@dataclass(frozen=True)
class Source:
    """A data set in its present state on disk.

    Attributes:
        name: as in the recipe or after its folder, with its layout.
        use: training, test, or both.
        counts: per split; empty when it cannot be read any more.
        notes: notes of the reader.

    """

    name: str
    use: str
    counts: tuple[SplitCount, ...]
    notes: tuple[str, ...]


def sources(recipe: Recipe) -> list[Source]:
    """Read every data set of a recipe again; a missing one has a note instead of counts."""
    trained = dict.fromkeys(name for stage in recipe.stages for name in stage.train)
    return [_source(recipe, name, list(trained)) for name in dict.fromkeys((*trained, *recipe.tested))]


def _source(recipe: Recipe, name: str, trained: Sequence[str]) -> Source:
    learnt, tested = name in trained, name in recipe.tested
    use = "training and test" if learnt and tested else "training" if learnt else "test"
    try:
        dataset = recipe.open_dataset(name)
    except UserError as error:
        return Source(name, use, (), (f"It cannot be read any more: {error}.",))
    return Source(dataset.title, use, _counts(dataset), dataset.notes)


def _counts(dataset: Dataset) -> tuple[SplitCount, ...]:
    splits: dict[str, Split] = {"train": dataset.train, "query": dataset.query, "gallery": dataset.gallery}
    return tuple(
        SplitCount(name, len(split), split.count_identities, split.count_cameras) for name, split in splits.items()
    )
