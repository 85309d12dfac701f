"""The encoder of an EBLL autoencoder, which later stages keep, with its place and origin."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from passerby.errors import UserError
from passerby.losses.mining import to_full_precision
from passerby.methods.autoencoder import Activation, Place
from passerby.methods.reconstruction import Objective, vectors_at
from passerby.models.embedder import Embedder
from passerby.types import Output


class Encoder(nn.Module):
    """An encoder of features, or of maps, with the loss and the stage of its training.

    Args:
        layer: maps features or maps to the code.
        activation: activation of the code.
        objective: training loss of its autoencoder.
        number: number of its stage, from 1, among the stages with encoders.

    """

    def __init__(
        self, layer: nn.Linear | nn.Conv2d, activation: Activation, *, objective: Objective = "ae", number: int = 1
    ) -> None:
        super().__init__()
        self.layer, self.activation = layer, activation
        self.objective, self.number = objective, number

    @property
    def place(self) -> Place:
        """The place of its input."""
        return "after_pooling" if isinstance(self.layer, nn.Linear) else "before_pooling"

    @property
    def dimension(self) -> int:
        """Length D of its input."""
        return self.layer.in_features if isinstance(self.layer, nn.Linear) else self.layer.in_channels

    def forward(self, out: Output) -> Tensor:
        """Return the code (B, S) or (B, S, h, w) of an output."""
        code: Tensor = self.layer(to_full_precision(vectors_at(out, place=self.place)))
        return code.sigmoid() if self.activation == "sigmoid" else code


Description = tuple[list[int], Activation, Objective, int]
"""Shape of the weights, (S, D) or (S, D, k, k), activation, loss and stage of an encoder."""


def describe_encoder(encoder: Encoder) -> Description:
    """Return the description of an encoder, in plain data."""
    return [*encoder.layer.weight.shape], encoder.activation, encoder.objective, encoder.number


def empty_encoder(description: Description) -> Encoder:
    """Build an encoder without the values of its weights."""
    (size, dimension, *kernel), activation, objective, number = description
    with torch.device("meta"):
        layer = nn.Conv2d(dimension, size, kernel[0], padding=kernel[0] // 2) if kernel else nn.Linear(dimension, size)
    return Encoder(layer, activation, objective=objective, number=number)


def input_width(embedder: Embedder, place: Place) -> int:
    """Return the length of the input of an encoder at a place."""
    return embedder.dimension if place == "after_pooling" else embedder.backbone.channels


def require_fit(encoder: Encoder, embedder: Embedder) -> None:
    """Raise `UserError` unless an encoder fits a network."""
    width = input_width(embedder, encoder.place)
    if encoder.dimension != width:
        raise UserError(
            f"method.ebll: an autoencoder of features of length {encoder.dimension} does not fit the length {width} of "
            f"{embedder.settings.backbone!r}; it was trained with another network"
        )
