"""Losses on the pieces of a vector: a global feature and local ones, each trained by itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from passerby.errors import UserError
from passerby.types import Output, VectorName

Pieces = Annotated[
    int, Field(ge=1, description="equal pieces of the feature, each with a loss of its own; 5 for the jigsaw module")
]


def cut(out: Output, feature: VectorName, count: int) -> tuple[Tensor, ...]:
    """Return the pieces of a vector, (B, D / count) each.

    The vector of the jigsaw module holds its local features divided by their number; before the neck, which would undo
    it anyway, they are multiplied again.

    Args:
        out: of the embedder.
        feature: the vector that is cut.
        count: number of pieces; divides D.

    """
    if count == 1:  # a view of the whole would change the order in which gradients are added
        return (out.vector(feature),)
    first, *others = out.vector(feature).chunk(count, dim=1)
    factor = len(others) if feature == "before_neck" else 1
    return (first, *(piece * factor for piece in others))


def balance(losses: Sequence[Tensor]) -> Tensor:
    """Return the loss of all pieces: half that of the first, and half the mean of the others; of one, its own.

    Args:
        losses: () of each piece.

    Reference: He et al., "TransReID: Transformer-based Object Re-Identification", ICCV 2021, equation 8.
    Differs from the paper: halved, as in the published code.

    >>> balance([torch.tensor(1.0), torch.tensor(3.0), torch.tensor(5.0)])
    tensor(2.5000)
    """
    first, *others = losses
    return (first + torch.stack(others).mean()) / 2 if others else first


def require_pieces(dimension: int, count: int, *, loss: str) -> None:
    """Raise `UserError` where a vector cannot be cut into so many equal pieces.

    Args:
        dimension: D.
        count: number of pieces.
        loss: its key, for the error text.

    """
    if dimension % count:
        raise UserError(
            f"losses.{loss}.pieces: a feature of {dimension} numbers cannot be cut into {count} equal pieces"
        )
