"""Using a trained model: find it in a run folder or a file, and embed with it."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Protocol

import numpy as np
import torch

from passerby.data.datasets import dataset_settings, open_dataset
from passerby.data.decoding import ImageError, decode
from passerby.data.image_files import images_below, why_none
from passerby.data.joining import number_cameras
from passerby.data.names import existing_form, require_text
from passerby.data.readers.cameras import read_cameras
from passerby.data.readers.named_images import number_names
from passerby.device import AUTOMATIC, InferenceSettings, Precision
from passerby.errors import UserError, did_you_mean
from passerby.inference.arrays import ImageArrays, image_list, prepared_batches
from passerby.inference.embed import (
    WHOLE,
    View,
    embed,
    label_vectors,
    run_network,
    tested_split,
    tested_vectors,
    tested_view,
)
from passerby.inference.onnx import OnnxModel, load_onnx
from passerby.metadata import safetensors_text
from passerby.models.embedder import Embedder, load_embedder
from passerby.plugins import require_used
from passerby.recipe import Recipe, recipe_from_text, recipe_of_run
from passerby.recipe.places import public_text
from passerby.types import UNKNOWN, CameraTable, Dataset, Embeddings, Floats, Inputs, Ints, Split, VectorName, Words

Progress = Callable[[int, int], None]

CHUNK = 1024
"""Images between two looks for damaged files."""
FEW = 100
"""How many file names of a table are tried."""


class Model(Protocol):
    """Protocol of everything that turns image files into vectors."""

    @property
    def recipe(self) -> Recipe | None:
        """The recipe that made it; None when another program did."""

    @property
    def feature(self) -> str:
        """Which vector it gives, `""` when unknown."""

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences that a person must see when it is used."""

    @property
    def flip(self) -> bool:
        """Whether each vector is averaged with the mirror image's."""

    @property
    def device(self) -> str:
        """Where distances between its vectors are computed, as torch names it."""

    @property
    def cameras(self) -> CameraTable:
        """The cameras that it learnt; empty where it uses none."""

    def vectors(
        self, paths: Words, *, cam: Ints | None = None, view: View = WHOLE, progress: Progress | None = None
    ) -> Floats:
        """Embed image files (N,), of rows (N,) of its cameras, in order: (N, D) float32, not normalised."""

    def embed(self, images: ImageArrays, *, cam: Ints | None = None) -> Floats:
        """Embed uint8 RGB arrays of any size, of rows (N,) of its cameras: (N, D) float32; see `image_list`."""

    def with_flip(self, flip: bool) -> Model:
        """Return the same model with or without the mirror image."""


@dataclass(frozen=True, eq=False)
class Trained:
    """A model of torch, on its device, with the recipe that made it and how it is run."""

    embedder: Embedder
    recipe: Recipe
    source: Path
    flip: bool
    notes: tuple[str, ...] = ()
    inference: InferenceSettings = AUTOMATIC

    @property
    def feature(self) -> VectorName:
        """Which vector the recipe tests."""
        return self.recipe.test.feature

    @property
    def device(self) -> str:
        """Where the network is."""
        return str(self.embedder.mean.device)

    @property
    def cameras(self) -> CameraTable:
        """The cameras that the network learnt."""
        return self.embedder.cameras

    def vectors(
        self, paths: Words, *, cam: Ints | None = None, view: View = WHOLE, progress: Progress | None = None
    ) -> Floats:
        """Embed image files (N,) as the recipe tests them."""
        return embed(
            self.embedder,
            Split.of_paths(paths) if cam is None else replace(Split.of_paths(paths), cam_row=cam),
            vector=self.feature,
            flip=self.flip,
            batch=self.inference.batch,
            workers=self.inference.workers,
            precision=self.precision,
            progress=progress,
            notify=self.inference.notify,
            view=view,
        )

    def embed(self, images: ImageArrays, *, cam: Ints | None = None) -> Floats:
        """Embed images that are arrays already, as the recipe tests them.

        Args:
            images: uint8 RGB of any size, of numpy or torch: (N, H, W, 3), (N, 3, H, W), or a list of single images.
            cam: (N,) rows of its cameras, -1 = unknown; None = all unknown.

        Returns:
            (N, D) float32, not normalised.

        Raises:
            UserError: something else, a model that needs masks, or an unknown camera where the model refuses those.

        """
        require_whole(self)
        listed = image_list(images)
        rows = torch.full((len(listed),), UNKNOWN) if cam is None else torch.from_numpy(cam)
        batches = prepared_batches(listed, self.embedder.input, size=self.inference.batch)
        return run_network(
            partial(tested_vectors, self.embedder, feature=self.feature, flip=self.flip),
            self.embedder,
            map(Inputs, batches, rows.split(self.inference.batch)),
            count=len(listed),
            precision=self.precision,
            notify=self.inference.notify,
        )

    @property
    def precision(self) -> Precision:
        """Precision of the network on its device."""
        return self.inference.network_precision(self.recipe.engine.precision)

    def with_flip(self, flip: bool) -> Trained:
        """Return the same model with or without the mirror image."""
        return replace(self, flip=flip)


@dataclass(frozen=True, eq=False)
class TrainedOnnx:
    """A model in an ONNX file, with the recipe when passerby wrote it."""

    network: OnnxModel
    recipe: Recipe | None
    inference: InferenceSettings = AUTOMATIC

    @property
    def feature(self) -> str:
        """Which vector the file gives."""
        return self.network.feature

    @property
    def device(self) -> str:
        """The GPU that was asked for where torch sees it too, else the CPU."""
        return str(self.inference.torch_device()) if torch.cuda.is_available() else "cpu"

    @property
    def flip(self) -> bool:
        """Whether the graph averages it with the mirror image's."""
        return self.network.flip

    @property
    def notes(self) -> tuple[str, ...]:
        """Assumptions about a file of another program."""
        return self.network.notes

    @property
    def cameras(self) -> CameraTable:
        """The cameras that the network learnt."""
        return self.network.cameras

    def vectors(
        self, paths: Words, *, cam: Ints | None = None, view: View = WHOLE, progress: Progress | None = None
    ) -> Floats:
        """Embed image files (N,) by onnxruntime; there is no way for a mask into a graph."""
        if view.masks is not None:
            raise UserError(f"an ONNX file takes no masks, but its recipe has test.input_mask={view.input_mask}")
        return self.network.vectors(
            paths, cam, batch=self.inference.batch, workers=self.inference.workers, progress=progress
        )

    def embed(self, images: ImageArrays, *, cam: Ints | None = None) -> Floats:
        """Embed images that are arrays already; see `Trained.embed`."""
        require_whole(self)
        listed = image_list(images)
        batches = prepared_batches(listed, self.network.settings, size=self.inference.batch)
        rows = np.full(len(listed), UNKNOWN) if cam is None else cam
        starts = range(0, len(listed), self.inference.batch)
        found = [
            self.network.run(batch.numpy(), rows[start : start + len(batch)])
            for start, batch in zip(starts, batches, strict=True)
        ]
        return np.concatenate([np.empty((0, self.network.dimension), np.float32), *found])

    def with_flip(self, flip: bool) -> TrainedOnnx:
        """Return the same model; raise where its graph does otherwise."""
        if flip != self.flip:
            does = "averages" if self.flip else "does not average"
            raise UserError(f"this ONNX file {does} mirror images, which cannot be changed; export it again")
        return self


def load_model(path: str | Path, given: Sequence[str] = (), *, inference: InferenceSettings = AUTOMATIC) -> Model:
    """Load whatever makes vectors: a run folder, an `embedder.safetensors`, or an ONNX file of any program.

    Args:
        path: where it is; a file that ends in .onnx is ONNX.
        given: `key=value` of `OnnxSettings`, for an ONNX file of another program.
        inference: on which device it runs, and how many images at a time.

    Raises:
        UserError: there is no finished model, or one that cannot be used; a device that is not there.

    """
    path = Path(path)
    if path.suffix.lower() != ".onnx":
        if given:
            raise UserError(f"--input {given[0]} is for ONNX files of other programs; {path} knows its own input")
        return load_trained(path, inference=inference)
    network = load_onnx(path, given, device=inference.device)
    if network.recipe is None:
        return TrainedOnnx(network, None, inference)
    return TrainedOnnx(network, recipe_from_text(network.recipe, source=f"the recipe in {path}"), inference)


def load_trained(path: str | Path, *, inference: InferenceSettings = AUTOMATIC) -> Trained:
    """Load the model of a run folder, or an `embedder.safetensors` by itself, onto a device.

    Raises:
        UserError: there is no finished model, or no such device.

    """
    path, device = Path(path), inference.torch_device()
    file = path / "embedder.safetensors" if path.is_dir() else path
    if not file.is_file():
        unfinished = path.is_dir() and (path / "last.pt").exists()
        hint = f"; the run is not finished, go on with: passerby train --resume --out {path}" if unfinished else ""
        raise UserError(f"no trained model at {file}{hint}")
    require_used(file.parent)
    embedder = load_embedder(file).to(device)
    recipe = _recipe_of(file)
    inference.network_precision(recipe.engine.precision)  # refuses what the device cannot do before images are read
    return Trained(embedder, recipe, file, recipe.test.flip, inference=inference)


def _recipe_of(file: Path) -> Recipe:
    """Return the recipe of a model; where that of the folder around it is the same, that one, which has all paths."""
    inside = recipe_from_text(safetensors_text(file, "recipe"), source=f"the recipe in {file}")
    beside = file.with_name("recipe.yaml")
    if beside.is_file() and public_text(whole := recipe_of_run(beside)) == public_text(inside):
        return whole
    return inside


def chosen_dataset(
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
        raise UserError("--pattern belongs to --data DIR; how files of the run's own data sets are named, it knows")
    if masks is not None and data is None:
        raise UserError("--masks belongs to --data DIR; the masks of the run's own data sets stand in its recipe")
    if data is not None:
        return open_dataset(dataset_settings(on or "auto", data, masks=masks, pattern=pattern))
    if recipe is None:
        raise UserError("a model of another program knows no data sets; say where the images are with --data DIR")
    if on is not None and on not in recipe.datasets and on not in recipe.tested:
        known = sorted({*recipe.datasets, *recipe.tested})
        raise UserError(
            f"--on {on}: the run knows {', '.join(known)}{did_you_mean(on, known)}; for another set give --data DIR too"
        )
    name = on or recipe.tested[0]
    return recipe.open_dataset(name)


def embed_site(
    model: Model, dataset: Dataset, *, view: View | None = None, progress: Progress | None = None
) -> Embeddings:
    """Embed query and gallery of a data set, in the view of the recipe unless another is given."""
    if view is None:
        view = WHOLE if model.recipe is None else tested_view(dataset, model.recipe.input_mask)
    split = tested_split(number_cameras(dataset, model.cameras))
    vectors = model.vectors(split.path, cam=split.cam_row, view=view, progress=progress)
    return label_vectors(vectors, dataset, feature=model.feature, flip=model.flip, input_mask=view.input_mask)


def require_whole(model: Model) -> None:
    """Refuse loose images, which have no masks, for a model that needs masks."""
    if model.recipe is not None and model.recipe.input_mask != "none":
        raise UserError(
            f"this model is tested with test.input_mask={model.recipe.input_mask} and needs the "
            "masks of a data set (--on or --data); a "
            "model trained with foreground.use=swap takes images as they are"
        )


def embed_images(
    model: Model,
    places: Sequence[Path],
    *,
    progress: Progress | None = None,
    leave_out: Callable[[str], None] | None = None,
) -> Embeddings:
    """Embed image files and all images below folders, without identities, with cameras where most paths hold one.

    Hidden files and folders of masks are left out, and links are followed, as in every listing of images.

    Args:
        model: makes the vectors.
        places: files and folders.
        progress: called with (images done, of how many).
        leave_out: called with a sentence for each image that cannot be read, which is then left out; None = such an
            image is refused.

    Raises:
        UserError: a place that is not there, no image in all of them, or none that can be read.

    """
    require_whole(model)
    found = [image for place in places for image in images_of(place)]
    if not found:
        raise UserError(f"no image in {', '.join(map(str, places))}{why_none()}")
    names = np.array([str(path) for path, _ in found])
    vectors, rows = _readable_vectors(model, names, progress=progress, leave_out=leave_out)
    below = [name for _, name in found]
    words = read_cameras(below, below).names
    numbers = number_names(words)
    cam = np.array([numbers[word] for word in words])[rows]
    unknown, blank = np.full(len(rows), UNKNOWN), np.full(len(rows), "")
    return Embeddings(vectors, unknown, cam, blank, names[rows], feature=model.feature, flip=model.flip)


def embed_all(
    model: Model,
    dataset: Dataset,
    *,
    progress: Progress | None = None,
    leave_out: Callable[[str], None] | None = None,
) -> Embeddings:
    """Embed every image of a data set, with its identity and camera; those of the test have their role.

    Args:
        model: makes the vectors.
        dataset: as read.
        progress: as in `embed_images`.
        leave_out: as in `embed_images`.

    """
    require_whole(model)
    parts = {"": dataset.train, "query": dataset.query, "gallery": dataset.gallery}
    role = np.repeat(list(parts), [len(split) for split in parts.values()])
    names, pid, cam = (
        np.concatenate([getattr(split, column) for split in parts.values()]) for column in ("path", "pid", "cam")
    )
    vectors, rows = _readable_vectors(model, names, progress=progress, leave_out=leave_out)
    return Embeddings(
        vectors, pid[rows], cam[rows], role[rows], names[rows], dataset.name, feature=model.feature, flip=model.flip
    )


def images_of(place: Path) -> list[tuple[Path, str]]:
    """Return the images of a file or folder, each with its name below the folder."""
    require_text(str(place))
    place = existing_form(place)
    if os.path.isdir(place):  # noqa: PTH112 - unlike Path.is_dir, it raises nothing
        return [(place / name, name) for name in images_below(place)]
    if not os.path.exists(place):  # noqa: PTH110
        raise UserError(f"no file or folder {place}")
    return [(place, place.name)]


def _readable_vectors(
    model: Model, names: Words, *, progress: Progress | None, leave_out: Callable[[str], None] | None
) -> tuple[Floats, Ints]:
    """Return the vectors of the images that can be read, and their rows.

    Only a chunk of files in which the model meets a damaged one is looked through, so sound files are read once.
    """
    if leave_out is None:
        return model.vectors(names, progress=progress), np.arange(len(names))
    vectors: list[Floats] = []
    rows: list[Ints] = []
    for start in range(0, len(names), CHUNK):
        chunk = np.arange(start, min(start + CHUNK, len(names)))
        tell = None if progress is None else partial(_advance, progress, start, len(names))
        try:
            found = model.vectors(names[chunk], progress=tell)
        except ImageError:
            chunk = chunk[[_is_readable(names[row], leave_out) for row in chunk]]
            if not len(chunk):
                continue
            found = model.vectors(names[chunk], progress=tell)
        vectors.append(found)
        rows.append(chunk)
    if not rows:
        raise UserError(f"none of {len(names):,} images can be read; see them with `passerby data check`")
    return np.concatenate(vectors), np.concatenate(rows)


def _advance(progress: Progress, start: int, count: int, done: int, _: int) -> None:
    progress(start + done, count)


def _is_readable(path: str, leave_out: Callable[[str], None]) -> bool:
    try:
        decode(path)
    except ImageError as error:
        leave_out(str(error))
        return False
    return True
