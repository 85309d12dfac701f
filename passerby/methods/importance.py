"""Importance of each weight for earlier stages, and the penalty on its change: EWC, SI and MAS.

All three add lambda times the sum over weights of importance x (weight - reference) squared, EWC half of it; they
differ in how the importance is measured. Importances are running sums, so that only the gradient of one image is in
memory at a time.
"""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor


def importance_penalty(weights: Tensor, reference: Tensor, importance: Tensor) -> Tensor:
    """Return half the importance-weighted squared distance of the weights to their reference values.

    Args:
        weights: (W,) or any shape, the present weights.
        reference: the weights after the earlier stage, same shape.
        importance: of each weight, same shape, >= 0.

    Reference: Kirkpatrick et al., "Overcoming catastrophic forgetting in neural networks", PNAS 2017, equation 3.

    >>> import torch
    >>> importance_penalty(torch.tensor([3.0, 1.0]), torch.ones(2), torch.tensor([0.5, 9.0])).item()
    1.0
    """
    return (importance * (weights - reference).square()).sum() / 2


def mean_square(gradients: Iterable[Tensor]) -> Tensor:
    """Return the mean over images of the squared gradients, the diagonal of the Fisher information.

    Args:
        gradients: one per image, all of one shape, of the log-likelihood of one label; consumed one by one. Squaring
            the gradient of a batch gives something else and much smaller.

    """
    return _mean(gradient.square() for gradient in gradients)


def mean_magnitude(gradients: Iterable[Tensor]) -> Tensor:
    """Return the mean over images of the absolute gradients of the squared length of the output.

    Args:
        gradients: one per image, all of one shape; consumed one by one.

    Reference: Aljundi et al., "Memory Aware Synapses", ECCV 2018, equation 2.

    """
    return _mean(gradient.abs() for gradient in gradients)


def _mean(tensors: Iterable[Tensor]) -> Tensor:
    remaining = iter(tensors)
    total, count = next(remaining), 1
    for tensor in remaining:
        total += tensor
        count += 1
    return total / count


def path_importance(path: Tensor, moved: Tensor, *, damping: float = 0.1) -> Tensor:
    """Return relu(path) / (moved squared + damping), the contribution of each weight to the decrease of the loss.

    Args:
        path: sum over steps of -gradient x change.
        moved: change of each weight over the whole stage, same shape.
        damping: xi > 0, for weights that hardly moved.

    Reference: Zenke et al., "Continual Learning Through Synaptic Intelligence", ICML 2017, equations 4 and 5.

    """
    return path.relu() / (moved.square() + damping)
