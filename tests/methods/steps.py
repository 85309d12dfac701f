"""A moment within a tiny run, and what a method is given there."""

from pathlib import Path

import numpy as np
import torch

from passerby.data.loading import ImageStore
from passerby.types import Batch, Inputs

TEACHER = str(Path(__file__).with_name("teacher.onnx"))
"""A graph that averages two rows each of an image of 32 x 16: vectors of 48 numbers."""


def some(run, *, rows=(0, 3, 6, 9), labels=None):
    """Return a batch of the present stage: rows, and the labels of the data unless those of an epoch are given."""
    rows = np.asarray(rows)
    store = ImageStore(run.state.stage.train.path, run.state.embedder.input)
    images = torch.stack([store[row] for row in rows])
    labels = torch.from_numpy(run.state.stage.train.pid) if labels is None else labels
    cam = torch.from_numpy(run.state.stage.train.cam[rows])
    return Batch(Inputs(images, cam), labels[rows], torch.from_numpy(rows))


def shake(module, *, seed=0, by=0.3):
    """Move every weight a little, so that two networks that began alike no longer are."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            size = parameter.abs().mean() + 0.01
            parameter += by * size * torch.randn(parameter.shape, generator=generator)
