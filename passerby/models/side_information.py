"""Side information embeddings (SIE): a learnt vector per camera, per viewpoint, or per pair of both."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from passerby.models.cameras import CameraEmbedding


def view_rows(pairs: Tensor, view: Tensor | None) -> Tensor:
    """Return of each image the vector of its viewpoint: (B, D).

    Args:
        pairs: (B, V, D) vectors of all viewpoints.
        view: (B,) int64 viewpoints; an unknown one (outside 0..V-1), and None, has the mean of all.

    >>> view_rows(torch.tensor([[[1.0], [3.0]]]).expand(3, 2, 1), torch.tensor([1, 0, -1])).flatten()
    tensor([3., 1., 2.])
    """
    mean = pairs.mean(dim=1)
    if view is None:
        return mean
    known = (view >= 0) & (view < pairs.shape[1])
    rows = pairs[torch.arange(view.shape[0], device=view.device), torch.where(known, view, 0)]
    return torch.where(known[:, None], rows, mean)


@contextmanager
def without_side_information(module: nn.Module) -> Iterator[None]:
    """Leave the embeddings of cameras and viewpoints out of a network in a block."""
    tables = [part for part in module.modules() if isinstance(part, SideInformation)]
    coefficients = [table.coefficient for table in tables]
    for table in tables:
        table.coefficient = 0.0
    try:
        yield
    finally:
        for table, coefficient in zip(tables, coefficients, strict=True):
            table.coefficient = coefficient


class SideInformation(nn.Module):
    """The embedding of an image's camera and viewpoint, times a coefficient.

    Args:
        width: D.
        cameras: rows of the camera table; 0 = cameras have no embedding.
        views: number of viewpoints; 0 = viewpoints have no embedding.
        coefficient: factor of the embedding.

    Reference: He et al., "TransReID: Transformer-based Object Re-Identification", ICCV 2021, equation 4.
    Differs from the paper: an unknown camera or viewpoint has the mean of the embeddings.

    """

    def __init__(self, width: int, *, cameras: int, views: int, coefficient: float) -> None:
        super().__init__()
        self.width, self.views, self.coefficient = width, max(1, views), coefficient
        if cameras:
            self.pairs: nn.Module | nn.Parameter = CameraEmbedding(cameras, self.views * width, unknown="mean")
        else:
            self.pairs = nn.Parameter(nn.init.trunc_normal_(torch.empty(self.views, width), std=0.02))

    def forward(self, cam: Tensor, view: Tensor | None) -> Tensor:
        """Return (B, D) for rows (B,) int64 of the camera table and viewpoints (B,) int64, -1 = unknown."""
        if isinstance(self.pairs, nn.Module):
            pairs = self.pairs(cam).unflatten(1, (self.views, self.width))  # (B, V, D)
        else:
            pairs = self.pairs.expand(cam.shape[0], -1, -1)
        return self.coefficient * view_rows(pairs, view)
