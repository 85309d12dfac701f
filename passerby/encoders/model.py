"""Trained models by one protocol: a network of torch, or an ONNX file."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Protocol

import numpy as np
import torch

from passerby.device import AUTOMATIC, InferenceSettings, Precision
from passerby.errors import UserError
from passerby.inference.arrays import ImageArrays, image_list, prepared_batches
from passerby.inference.embed import WHOLE, View, embed, map_batches, tested_vectors
from passerby.inference.onnx_model import OnnxModel
from passerby.models.embedder import Embedder
from passerby.recipe import Recipe
from passerby.types import (
    UNKNOWN,
    CameraTable,
    Floats,
    Inputs,
    Ints,
    Split,
    UnknownCamera,
    VectorName,
    Words,
)

Progress = Callable[[int, int], None]


class Model(Protocol):
    """Protocol of everything that turns image files into vectors."""

    @property
    def recipe(self) -> Recipe | None:
        """The recipe that made it; None when another program did."""

    @property
    def feature(self) -> str:
        """Name of the vector that it returns, `""` when unknown."""

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences that a person must see when it is used."""

    @property
    def flip(self) -> bool:
        """Whether each vector is averaged with the mirror image's."""

    @property
    def device(self) -> str:
        """Device on which distances between its vectors are computed, as torch names it."""

    @property
    def cameras(self) -> CameraTable:
        """The cameras that it learnt; empty where it uses none."""

    @property
    def unknown_camera(self) -> UnknownCamera:
        """Treatment of an image of an unknown camera."""

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
        """Name of the vector that the recipe tests."""
        return self.recipe.test.feature

    @property
    def device(self) -> str:
        """Device of the network."""
        return str(self.embedder.mean.device)

    @property
    def cameras(self) -> CameraTable:
        """The cameras that the network learnt."""
        return self.embedder.cameras

    @property
    def unknown_camera(self) -> UnknownCamera:
        """Treatment of an image of an unknown camera."""
        return self.embedder.backbone.unknown_camera

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
        require_maskless(self)
        listed = image_list(images)
        rows = torch.full((len(listed),), UNKNOWN) if cam is None else torch.from_numpy(cam)
        batches = prepared_batches(listed, self.embedder.input, size=self.inference.batch)
        return map_batches(
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
        """Name of the vector that the graph returns."""
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

    @property
    def unknown_camera(self) -> UnknownCamera:
        """Treatment of an image of an unknown camera."""
        return self.network.unknown_camera

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
        require_maskless(self)
        listed = image_list(images)
        batches = prepared_batches(listed, self.network.settings, size=self.inference.batch)
        rows = np.full(len(listed), UNKNOWN) if cam is None else cam
        starts = range(0, len(listed), self.inference.batch)
        vectors = [
            self.network.run(batch.numpy(), rows[start : start + len(batch)])
            for start, batch in zip(starts, batches, strict=True)
        ]
        return np.concatenate([np.empty((0, self.network.dimension), np.float32), *vectors])

    def with_flip(self, flip: bool) -> TrainedOnnx:
        """Return the same model; raise where its graph does otherwise."""
        if flip != self.flip:
            does = "averages" if self.flip else "does not average"
            raise UserError(f"this ONNX file {does} mirror images, which cannot be changed; export it again")
        return self


def require_maskless(model: Model) -> None:
    """Refuse loose images, which have no masks, for a model that needs masks."""
    if model.recipe is not None and model.recipe.input_mask != "none":
        raise UserError(
            f"this model is tested with test.input_mask={model.recipe.input_mask} and needs the "
            "masks of a data set (--on or --data); a "
            "model trained with foreground.use=swap takes images as they are"
        )
