"""Vectors across cameras, as they are compared in clustering."""

from __future__ import annotations

from typing import Literal

from passerby.distances.camera_norm import normalise_cameras
from passerby.types import Floats, Ints

AcrossCameras = Literal["ignore", "centre", "standardise", "auto"]
"""Correction of the vectors of each camera: none, by its mean, by its mean and spread, or by its shrunk mean."""


def evened(vectors: Floats, cam: Ints, *, how: AcrossCameras) -> Floats:
    """Return vectors (N, D) of cameras (N,) as they are to be compared across cameras.

    Images of one camera share its light and background, so that clusters of plain vectors gather images of a camera.

    Reference: Zhuang et al., "Rethinking the Distribution Gap of Person Re-identification with Camera-based Batch
    Normalization", ECCV 2020 (the idea).
    Differs from the paper: of the vectors that are clustered, and not in every layer.
    """
    return normalise_cameras(vectors, cam, how="none" if how == "ignore" else how)
