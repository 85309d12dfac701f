"""Using a trained model: find it in a run folder, embed with it, score it, search with it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from passerby.data.datasets import dataset_settings, open_dataset
from passerby.data.readers.listing import IMAGE_ENDINGS
from passerby.distances.nearest import smallest
from passerby.distances.pairwise import pairwise
from passerby.errors import UserError, did_you_mean
from passerby.extract import Feature, View, embed_dataset, extract, tested_view
from passerby.models.embedder import Embedder, load_embedder
from passerby.recipe import Recipe, recipe_from_text
from passerby.types import UNKNOWN, Dataset, Embeddings

Progress = Callable[[int, int], None]


@dataclass(frozen=True, eq=False)
class Trained:
    """A model with the recipe that made it."""

    embedder: Embedder
    recipe: Recipe
    source: Path

    @property
    def feature(self) -> Feature:
        """Which vector the recipe tests."""
        return self.recipe.test.feature


def load_trained(path: Path) -> Trained:
    """Load the model of a run folder, or an `embedder.safetensors` by itself.

    Raises:
        UserError: there is no finished model.

    """
    from safetensors import safe_open

    file = path / "embedder.safetensors" if path.is_dir() else path
    if not file.is_file():
        unfinished = path.is_dir() and (path / "last.pt").exists()
        hint = "; the run is not finished, go on with --resume" if unfinished else ""
        raise UserError(f"no trained model at {file}{hint}")
    embedder = load_embedder(file)
    with safe_open(file, "pt") as opened:
        text = opened.metadata()["recipe"]
    return Trained(embedder, recipe_from_text(text, source=f"the recipe in {file}"), file)


def chosen_dataset(recipe: Recipe, *, on: str | None, data: str | None, masks: str | None = None) -> Dataset:
    """Open the data set that is to be tested: by name, by folder, or the first one the recipe tests.

    Args:
        recipe: knows names and where they are.
        on: a name from the recipe or a kind of data set.
        data: the folder to look in instead of the recipe's.
        masks: the folder of its foreground masks.

    """
    if masks is not None and data is None:
        raise UserError("--masks belongs to --data DIR; the masks of the run's own data sets stand in its recipe")
    if data is not None:
        kind = on or "auto"
        return open_dataset(dataset_settings(kind, data, masks=masks), kind)
    if on is not None and on not in recipe.datasets and on not in recipe.tested:
        known = sorted({*recipe.datasets, *recipe.tested})
        raise UserError(
            f"--on {on}: the run knows {', '.join(known)}{did_you_mean(on, known)}; for another set give --data DIR too"
        )
    name = on or recipe.tested[0]
    return open_dataset(recipe.dataset(name), name)


def embed_site(
    trained: Trained, dataset: Dataset, *, progress: Progress | None = None, view: View | None = None
) -> Embeddings:
    """Embed query and gallery of a data set, shown as the recipe says unless another view is given."""
    view = view or tested_view(dataset, trained.recipe.pixels)
    return embed_dataset(trained.embedder, dataset, feature=trained.feature, progress=progress, view=view)


def require_whole(trained: Trained) -> None:
    """Refuse loose images, which have no masks, for a model that needs masks."""
    if trained.recipe.pixels != "whole":
        raise UserError(
            f"the model in {trained.source} is tested on '{trained.recipe.pixels}' and so needs the masks of a data "
            "set (--on or --data); a model trained with foreground.use=swap takes images as they are"
        )


def embed_images(trained: Trained, places: Sequence[Path], *, progress: Progress | None = None) -> Embeddings:
    """Embed image files and every image below folders; identities and cameras stay unknown (-1).

    Raises:
        UserError: a place that is not there, or no image in all of them.

    """
    require_whole(trained)
    paths = [file for place in places for file in _images(place)]
    if not paths:
        raise UserError(f"no image ({', '.join(sorted(IMAGE_ENDINGS))}) in {', '.join(map(str, places))}")
    names = np.array([str(path) for path in paths])
    vectors = extract(trained.embedder, names, feature=trained.feature, progress=progress)
    unknown = np.full(len(paths), UNKNOWN)
    return Embeddings(vectors, unknown, unknown, np.full(len(paths), ""), names, feature=trained.feature)


def _images(place: Path) -> list[Path]:
    if place.is_file():
        return [place]
    if not place.is_dir():
        raise UserError(f"no file or folder {place}")
    return sorted(path for path in place.rglob("*") if path.suffix.lower() in IMAGE_ENDINGS and path.is_file())


@dataclass(frozen=True)
class Found:
    """One answer of a search: the row, how far it is (cosine distance in [0, 2]) and what is known of it."""

    row: int
    distance: float
    path: str
    pid: int
    cam: int


def search(trained: Trained, table: Embeddings, image: Path, *, count: int) -> list[Found]:
    """Find the rows of a table that are most like one image, nearest first.

    Raises:
        UserError: no such image, or vectors of another model.

    """
    require_whole(trained)
    vector = extract(trained.embedder, np.array([str(image)]), feature=trained.feature)
    if vector.shape[1] != table.vectors.shape[1]:
        raise UserError(
            f"the table holds vectors of {table.vectors.shape[1]} numbers, this model makes {vector.shape[1]}; "
            "embed the images with this model"
        )
    source = pairwise(vector, table.vectors, metric="cosine")
    _, block = next(iter(source.blocks()))
    rows, distances = smallest(block, min(count, len(table)))
    paths = table.path if table.path is not None else np.full(len(table), "")
    return [
        Found(int(row), float(value + source.offset), str(paths[row]), int(table.pid[row]), int(table.cam[row]))
        for row, value in zip(rows[0], distances[0], strict=True)
    ]
