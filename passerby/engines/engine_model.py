"""A trained model whose network is run by an engine: what all such models share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from passerby.encoders import Model, Progress, Trained
from passerby.engines.candidates import Candidate
from passerby.engines.sample import Sample, sample_arrays, sample_files
from passerby.inference.arrays import ImageArrays
from passerby.inference.embed import WHOLE, View
from passerby.processes import world
from passerby.recipe import Recipe
from passerby.types import CameraTable, Floats, Ints, UnknownCamera, VectorName, Words

Say = Callable[[str], None]
Draw = Callable[[int], Sample]
"""Function that returns so many images of a job, or all where it has fewer."""


@dataclass(eq=False)
class EngineModel(ABC):
    """A model that may change its engine between jobs; a `Model` of `passerby.encoders`.

    Args:
        trained: the model on the CPU.

    """

    trained: Trained

    @property
    @abstractmethod
    def engine(self) -> Candidate:
        """Engine and precision in use."""

    @abstractmethod
    def with_flip(self, flip: bool) -> EngineModel:
        """Return the same model with or without the mirror image."""

    @abstractmethod
    def _adjust(self, count: int, draw: Draw) -> Model:
        """Return the model that runs a job of `count` images, of which `draw` returns some."""

    @property
    def recipe(self) -> Recipe | None:
        """The recipe that made it."""
        return self.trained.recipe

    @property
    def feature(self) -> VectorName:
        """Which vector the recipe tests."""
        return self.trained.feature

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences that a person must see."""
        return self.trained.notes

    @property
    def flip(self) -> bool:
        """Whether each vector is averaged with the mirror image's."""
        return self.trained.flip

    @property
    def device(self) -> str:
        """Where distances between its vectors are computed."""
        return self.trained.device

    @property
    def cameras(self) -> CameraTable:
        """The cameras that it learnt."""
        return self.trained.cameras

    @property
    def unknown_camera(self) -> UnknownCamera:
        """Treatment of an image of an unknown camera."""
        return self.trained.unknown_camera

    def vectors(
        self, paths: Words, *, cam: Ints | None = None, view: View = WHOLE, progress: Progress | None = None
    ) -> Floats:
        """Embed image files (N,); masks, and several processes, are for torch alone."""
        model: Model = self.trained
        if view.masks is None and world() == 1:
            model = self._adjust(len(paths), partial(sample_files, paths, cam, self.trained.embedder.input))
        return model.vectors(paths, cam=cam, view=view, progress=progress)

    def embed(self, images: ImageArrays, *, cam: Ints | None = None) -> Floats:
        """Embed images in memory; see `Trained.embed`."""
        model: Model = self.trained
        if len(images) and world() == 1:
            model = self._adjust(len(images), partial(sample_arrays, images, cam, self.trained.embedder.input))
        return model.embed(images, cam=cam)
