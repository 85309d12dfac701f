"""The half of an EBLL autoencoder that stages keep, with all that a later stage must know of it."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from passerby.errors import UserError
from passerby.losses.mining import widen
from passerby.methods.autoencoder import Activation, Autoencoder, Place
from passerby.methods.reconstruction import OBJECTIVES, Objective, looked_at
from passerby.models.embedder import Embedder
from passerby.types import Output


class Encoder(nn.Module):
    """An encoder at the place that it was trained for.

    Everything beside the weights is a buffer, because the settings of a later stage may say otherwise.

    Args:
        layer: from features or maps to the code.
        activation: of the code.
        objective: the loss that its autoencoder was trained with.
        number: of the stage that left it, from 1, counting the stages that left encoders.

    """

    squashed: Tensor
    objective_index: Tensor
    stage_number: Tensor

    def __init__(
        self, layer: nn.Linear | nn.Conv2d, activation: Activation, *, objective: Objective = "ae", number: int = 1
    ) -> None:
        super().__init__()
        self.layer, self.activation = layer, activation
        self.objective, self.number = objective, number  # asked at each step, so not read off the buffers
        self.register_buffer("squashed", torch.tensor(activation == "sigmoid"))
        self.register_buffer("objective_index", torch.tensor(OBJECTIVES.index(objective)))
        self.register_buffer("stage_number", torch.tensor(number))

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
        code: Tensor = self.layer(widen(looked_at(out, place=self.place)))
        return code.sigmoid() if self.activation == "sigmoid" else code


def empty_encoder(state: Mapping[str, Tensor]) -> Encoder:
    """Build the encoder of a saved state, without its weights: `layer.weight` is (S, D) or (S, D, k, k)."""
    weight = state["layer.weight"]
    size, dimension = weight.shape[:2]
    place: Place = "after_pooling" if weight.ndim == 2 else "before_pooling"
    activation: Activation = "sigmoid" if bool(state["squashed"]) else "none"
    kernel = 1 if weight.ndim == 2 else weight.shape[2]
    made = Autoencoder(dimension, size, place=place, activation=activation, kernel=kernel)
    objective = OBJECTIVES[int(state["objective_index"])]
    return Encoder(made.encoder, activation, objective=objective, number=int(state["stage_number"]))


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
