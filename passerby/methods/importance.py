"""How much an earlier site needs each weight, and the pull that keeps weights where they were: EWC, SI and MAS.

All three add half lambda times sum over weights of importance x (weight - what it was) squared; they differ in how the
importance is found. Batch-norm statistics and classifiers take no part.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

Named = dict[str, Tensor]


def anchored(weights: Mapping[str, Tensor], anchors: Mapping[str, Tensor], importance: Mapping[str, Tensor]) -> Tensor:
    """Return half the importance-weighted squared distance of the weights to their anchors.

    Args:
        weights: the present weights by name.
        anchors: what they were after the earlier site.
        importance: how much each counts, same shapes, >= 0.

    Reference: Kirkpatrick et al., "Overcoming catastrophic forgetting in neural networks", PNAS 2017, equation 3.

    >>> one = {"w": torch.ones(2)}
    >>> anchored({"w": torch.tensor([3.0, 1.0])}, one, {"w": torch.tensor([0.5, 9.0])}).item()
    1.0
    """
    pulls = [(importance[n] * (weights[n] - anchors[n]).square()).sum() for n in importance]
    return torch.stack(pulls).sum() / 2


def mean_square(gradients: Sequence[Named]) -> Named:
    """Return the mean over images of the squared gradients, the diagonal of the Fisher information.

    Args:
        gradients: one mapping per image, of the log-likelihood of one label. Squaring the gradient of a batch gives
            something else and much smaller.

    """
    return {n: torch.stack([g[n].square() for g in gradients]).mean(dim=0) for n in gradients[0]}


def mean_magnitude(gradients: Sequence[Named]) -> Named:
    """Return the mean over images of the absolute gradients of the squared length of the output.

    Reference: Aljundi et al., "Memory Aware Synapses", ECCV 2018, equation 2.
    """
    return {n: torch.stack([g[n].abs() for g in gradients]).mean(dim=0) for n in gradients[0]}


def path_importance(path: Named, moved: Named, *, damping: float = 0.1) -> Named:
    """Return relu(path) / (moved squared + damping), what each weight contributed to the fall of the loss.

    Args:
        path: sum over steps of -gradient x change, by name.
        moved: change of each weight over the whole stage.
        damping: xi > 0, for weights that hardly moved.

    Reference: Zenke et al., "Continual Learning Through Synaptic Intelligence", ICML 2017, equations 4 and 5.
    """
    return {n: path[n].relu() / (moved[n].square() + damping) for n in path}
