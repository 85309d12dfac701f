"""The half of an EBLL autoencoder that stages keep, with all that a later stage must know of it."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from passerby.errors import UserError
from passerby.losses.mining import to_full_precision
from passerby.methods.autoencoder import Activation, Place
from passerby.methods.reconstruction import Objective, looked_at
from passerby.models.embedder import Embedder
from passerby.types import Output


class Encoder(nn.Module):
    """An encoder at the place that it was trained for.

    Args:
        layer: from features or maps to the code.
        activation: of the code.
        objective: the loss that its autoencoder was trained with.
        number: of the stage that left it, from 1, counting the stages that left encoders.

    """

    def __init__(
        self, layer: nn.Linear | nn.Conv2d, activation: Activation, *, objective: Objective = "ae", number: int = 1
    ) -> None:
        super().__init__()
        self.layer, self.activation = layer, activation
        self.objective, self.number = objective, number

    @property
    def place(self) -> Place:
        """Where it looks."""
        return "after_pooling" if isinstance(self.layer, nn.Linear) else "before_pooling"

    @property
    def dimension(self) -> int:
        """Length of what it sees."""
        return self.layer.in_features if isinstance(self.layer, nn.Linear) else self.layer.in_channels

    def forward(self, out: Output) -> Tensor:
        """Return the code (B, S) or (B, S, h, w) of what a model said."""
        code: Tensor = self.layer(to_full_precision(looked_at(out, place=self.place)))
        return code.sigmoid() if self.activation == "sigmoid" else code


Description = tuple[list[int], Activation, Objective, int]
"""Of an encoder: the shape of its weights, (S, D) or (S, D, k, k), its activation, its loss and its stage."""


def describe_encoder(encoder: Encoder) -> Description:
    """Return what builds an encoder, in plain data."""
    return [*encoder.layer.weight.shape], encoder.activation, encoder.objective, encoder.number


def empty_encoder(description: Description) -> Encoder:
    """Build an encoder without the values of its weights."""
    (size, dimension, *kernel), activation, objective, number = description
    with torch.device("meta"):
        layer = nn.Conv2d(dimension, size, kernel[0], padding=kernel[0] // 2) if kernel else nn.Linear(dimension, size)
    return Encoder(layer, activation, objective=objective, number=number)


def seen_width(embedder: Embedder, place: Place) -> int:
    """Return the length of what an encoder sees at a place."""
    return embedder.dimension if place == "after_pooling" else embedder.backbone.channels


def require_fit(encoder: Encoder, embedder: Embedder) -> None:
    """Raise `UserError` unless an encoder fits a network."""
    width = seen_width(embedder, encoder.place)
    if encoder.dimension != width:
        raise UserError(
            f"method.ebll: an autoencoder of {encoder.dimension} numbers cannot look at the {width} of "
            f"{embedder.settings.backbone!r}; it was made with another network"
        )
