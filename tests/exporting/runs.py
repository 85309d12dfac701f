"""Runs to export, and what programs do to images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import nn

from passerby.metrics.calibration import Calibration, PairThresholds, Threshold
from passerby.models.embedder import Embedder, save_embedder
from passerby.recipe.places import public_text

BLOCKS = ("model.ibn=a", "model.attention=se", "model.pool=gem_learned", "input.colour=bgr", "test.flip=true")
OTHER_INPUT = ("input.mean=[0.5, 0.4, 0.3]", "input.std=[0.5, 0.25, 0.2]")
"""A normalisation that is not that of ImageNet."""


def write_run(folder: Path, recipe, **changes) -> Path:
    """Write what a finished run leaves for those who use it, with norms that are not at their start."""
    torch.manual_seed(0)
    embedder = Embedder(recipe.model, recipe.input, **changes)
    for module in embedder.modules():
        if isinstance(module, nn.BatchNorm2d | nn.BatchNorm1d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.running_mean)
    folder.mkdir()
    save_embedder(embedder, folder / "embedder.safetensors", recipe=public_text(recipe))
    return folder


def crops(count: int, size: tuple[int, int], seed: int = 0) -> np.ndarray:
    """Return RGB images (N, H, W, 3) of 8 x 4 random colours each, of a size that no program has to change."""
    colours = np.random.default_rng(seed).integers(0, 256, (count, 8, 4, 3), dtype=np.uint8)
    return np.kron(colours, np.ones((1, size[0] // 8, size[1] // 4, 1), np.uint8))


def cosine_distance(ours: np.ndarray, theirs: np.ndarray) -> float:
    """Return the largest cosine distance of rows of (N, D) and (N, D)."""
    first, second = (
        rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (ours.astype(float), theirs.astype(float))
    )
    return float((1 - (first * second).sum(axis=1)).max())


PAIRS = PairThresholds(
    cameras=None,
    count_impostors=10_000,
    count_genuine=100,
    thresholds=(Threshold(rate=1e-3, distance=0.25, low=0.2, high=0.3, accepted=0.9),),
    unsupported=(),
)


def calibration(**changes) -> Calibration:
    """Return a calibration of vectors after the neck, without mirror images: 0.25 at a rate of 0.001."""
    facts = {"feature": "after_neck", "flip": False, "camera_norm": "none", **changes}
    return Calibration(dataset="site", files="-", count_identities=9, count_images=99, pooled=PAIRS, **facts)
