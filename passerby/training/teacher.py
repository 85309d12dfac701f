"""Vectors of a teacher, a model in any file that can be run, for the training images of a stage."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from passerby.device import InferenceSettings
from passerby.encoders import Model, Trained, load_model
from passerby.errors import UserError
from passerby.processes import gather_rows, rank, world
from passerby.types import Floats, Split


def load_teacher(file: str | Path, *, given: Sequence[str] = (), device: str = "cpu") -> Model:
    """Load a model that can teach: one that embeds any image by its file alone.

    Args:
        file: as in `load_model`.
        given: `key=value` of the input settings of a graph of another program.
        device: where it runs.

    Raises:
        UserError: no such model, or one that needs masks or cameras.

    """
    with torch.random.fork_rng(devices=[]):  # building a network draws numbers
        model = load_model(file, given, inference=InferenceSettings(device=device))
    if model.recipe is not None and model.recipe.input_mask != "none":
        raise UserError(
            f"{file} cannot be a teacher: it is tested with test.input_mask={model.recipe.input_mask} and needs masks, "
            "and a teacher is shown whole images; choose a model that takes images as they are"
        )
    if model.cameras.count:
        raise UserError(
            f"{file} cannot be a teacher: its vectors depend on the cameras of {', '.join(model.cameras.datasets)}, "
            "and those of other images are unknown to it; choose a model without cameras"
        )
    return model


def teacher_vectors(model: Model, train: Split, *, source: str | Path, device: torch.device) -> Floats:
    """Embed training images by a teacher; of several processes each embeds its share, and all get the whole.

    Args:
        model: of `load_teacher`.
        train: N images.
        source: how error texts call the teacher.
        device: of the run.

    Returns:
        (N, D) float32, not normalised.

    Raises:
        UserError: an image that cannot be read, or a vector that is not finite or has length 0.

    """
    if isinstance(model, Trained):  # shares the images among the processes itself
        vectors = model.vectors(train.path)
    else:
        part = torch.from_numpy(model.vectors(train.path[rank() :: world()])).to(device)
        vectors = gather_rows(part, count=len(train)).cpu().numpy()
    useless = ~np.isfinite(vectors).all(axis=1) | ~vectors.any(axis=1)
    if useless.any():
        raise UserError(
            f"{source} cannot be a teacher: {int(useless.sum()):,} of {len(train):,} images get a vector with NaN or "
            f"infinity, or of length 0 (first: {train.path[useless][0]}); check its input settings "
            "(teacher_input), or choose another model"
        )
    return vectors
