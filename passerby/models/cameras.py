"""Learnt vectors of cameras, for backbones that use the camera of an image."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from passerby.errors import UserError
from passerby.types import CameraTable


class CameraEmbedding(nn.Module):
    """One learnt vector per camera, drawn from a normal distribution truncated at two standard deviations.

    Args:
        count: rows of the camera table of the model, >= 1.
        dimension: D.
        unknown: vector of an unknown camera: the mean of all rows, or zeros.
        std: standard deviation of the initial values.

    Reference: He et al., "TransReID: Transformer-based Object Re-Identification", ICCV 2021, section 3.3.
    Differs from the paper: an unknown camera has a vector; there it is an index error.

    """

    def __init__(
        self, count: int, dimension: int, *, unknown: Literal["mean", "zero"] = "mean", std: float = 0.02
    ) -> None:
        super().__init__()
        self.unknown = unknown
        self.weight = nn.Parameter(torch.empty(count, dimension))
        nn.init.trunc_normal_(self.weight, std=std, a=-2 * std, b=2 * std)

    def forward(self, cam: Tensor) -> Tensor:
        """Return the vectors (B, D) of rows (B,) int64 of the camera table, -1 = unknown.

        >>> module = CameraEmbedding(2, 3)
        >>> torch.equal(module(torch.tensor([-1]))[0], module.weight.mean(0))
        True
        """
        mean = self.weight.mean(0, keepdim=True)
        first = mean if self.unknown == "mean" else torch.zeros_like(mean)
        return torch.cat([first, self.weight])[cam + 1]


def move_camera_rows(
    state: dict[str, Tensor], module: nn.Module, *, before: CameraTable, after: CameraTable
) -> dict[str, Tensor]:
    """Return a state in which the rows of every `CameraEmbedding` are those of another camera table.

    A camera of both tables keeps its vector; one that only the new table holds begins at the mean of all former rows.

    Args:
        state: of a network like `module`, with the cameras `before`.
        module: the network that the state will be loaded into, with the cameras `after`.
        before, after: camera tables.

    Raises:
        UserError: the tables differ, and the network keeps cameras in another form than a `CameraEmbedding`.

    """
    if before == after:
        return state
    names = [name for name, part in module.named_modules() if isinstance(part, CameraEmbedding)]
    if not names:
        raise UserError(
            f"the model was trained with other cameras ({before}) than those of this run ({after}), and its backbone "
            "cannot take them over"
        )
    rows = torch.tensor([_row(before, name, number) for name, number in _cameras(after)])
    moved = dict(state)
    for name in (f"{name}.weight" for name in names):
        weight = state[name]
        moved[name] = torch.cat([weight.mean(0, keepdim=True), weight])[rows + 1]
    return moved


def _cameras(table: CameraTable) -> list[tuple[str, int]]:
    pairs = zip(table.datasets, table.numbers, strict=True)
    return [(name, number) for name, numbers in pairs for number in numbers]


def _row(table: CameraTable, dataset: str, number: int) -> int:
    cameras = _cameras(table)
    return cameras.index((dataset, number)) if (dataset, number) in cameras else -1
