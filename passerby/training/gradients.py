"""The gradient norm of each loss term over the model."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from passerby.losses.mix import LossTerm
from passerby.training import distributed


def gradient_norms(terms: Mapping[str, LossTerm], parameters: Sequence[nn.Parameter]) -> dict[str, float]:
    """Return the Euclidean norm of each term's gradient over all parameters, before the term's weight.

    The graph is kept and nothing is accumulated, so the step that follows is the same to the bit. With several
    processes it is the norm of the mean gradient. In fp16 the smallest gradients are lost: nothing is scaled here.

    Args:
        terms: of one step, before its backward pass.
        parameters: what is pulled at; those that do not learn in this step count as 0.

    """
    learning = [parameter for parameter in parameters if parameter.requires_grad]
    return {name: _norm(term.value, learning) for name, term in terms.items()}


def _norm(value: Tensor, parameters: Sequence[nn.Parameter]) -> float:
    derivatives: tuple[Tensor | None, ...] = (None,) * len(parameters)
    if parameters and value.requires_grad:
        derivatives = torch.autograd.grad(value, parameters, retain_graph=True, allow_unused=True)
    gradients = [
        torch.zeros_like(parameter) if gradient is None else gradient
        for parameter, gradient in zip(parameters, derivatives, strict=True)
    ]
    distributed.average_tensors(gradients)
    return math.sqrt(sum(float(gradient.double().square().sum()) for gradient in gradients))
