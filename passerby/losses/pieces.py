"""Losses on the pieces of a vector: a global feature and local ones, each trained by itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from passerby.errors import UserError
from passerby.types import Output, VectorName

Pieces = Annotated[
    Annotated[int, Field(ge=1)] | Literal["projection"],
    Field(
        description="equal pieces of the feature, each with a loss of its own, such as 5 for the jigsaw module; "
        "projection: what a CLIP's image tower pools, and its projection"
    ),
]

NO_PROJECTION = "pieces: projection is for CLIP's image towers (model.backbone clip_vit, clip_resnet50); use 1"


def cut(out: Output, feature: VectorName, count: Pieces) -> tuple[Tensor, ...]:
    """Return the pieces of a vector, (B, D / count) each; of `projection`, (B, D - E) and (B, E).

    The vector of the jigsaw module holds its local features divided by their number; before the neck, which would undo
    it anyway, they are multiplied again.

    Args:
        out: of the embedder.
        feature: the vector that is cut.
        count: number of pieces, which divides D, or `projection`.

    Raises:
        UserError: `projection` of a model without one.

    """
    if count == "projection":
        if out.projected is None:
            raise UserError(NO_PROJECTION)
        vector, length = out.vector(feature), out.projected.shape[1]
        return vector[:, :-length], vector[:, -length:]
    if count == 1:  # a view of the whole would change the order in which gradients are added
        return (out.vector(feature),)
    first, *others = out.vector(feature).chunk(count, dim=1)
    factor = len(others) if feature == "before_neck" else 1
    return (first, *(piece * factor for piece in others))


def combine(losses: Sequence[Tensor], count: Pieces) -> Tensor:
    """Return the loss of all pieces: of `projection` their sum, as in CLIP-ReID, else `balance`."""
    return torch.stack(list(losses)).sum() if count == "projection" else balance(losses)


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


def require_pieces(dimension: int, count: Pieces, *, loss: str) -> None:
    """Raise `UserError` where a vector cannot be cut into so many equal pieces.

    Args:
        dimension: D.
        count: number of pieces; `projection` fits or not by the model, see `cut`.
        loss: its key, for the error text.

    """
    if count != "projection" and dimension % count:
        raise UserError(
            f"losses.{loss}.pieces: a feature of {dimension} numbers cannot be cut into {count} equal pieces"
        )
