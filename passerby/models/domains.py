"""Domain-specific batch norm: in training the images of two domains are normalised apart.

The norms of a model stay as they are and are those of its own domain, so that no tensor is renamed. Images of the other
domain are sent through second norms, by hooks, until the division is ended.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.hooks import RemovableHandle

from passerby.models.groups import batch_norms


class Division:
    """The batch norms of a model, each beside a second one for images of another domain.

    A copy of the model made meanwhile, such as the EMA of its weights, normalises all images alike in `eval` mode.

    Reference: Chang et al., "Domain-Specific Batch Normalization for Unsupervised Domain Adaptation", CVPR 2019.

    Args:
        module: the model.
        others: returns (B,) which images of the present batch are of the other domain; None = none of them.
        norms: the second ones, of the kinds of `second_norms`; None = copies of those of the model.

    Attributes:
        norms: the second ones in order, which begin as copies and always learn.

    """

    def __init__(
        self, module: nn.Module, others: Callable[[], Tensor | None], norms: nn.ModuleList | None = None
    ) -> None:
        first = batch_norms(module)
        self.norms = second_norms(module) if norms is None else norms
        self.others = others
        self._handles: list[RemovableHandle] = []
        for norm, second in zip(first, self.norms, strict=True):
            pair = _Pair(self, cast("_BatchNorm", second))
            self._handles += [norm.register_forward_pre_hook(pair.before), norm.register_forward_hook(pair.after)]

    def end(self) -> None:
        """Normalise all images alike again, by the norms of the model."""
        for handle in self._handles:
            handle.remove()


def second_norms(module: nn.Module) -> nn.ModuleList:
    """Return a copy of every batch norm below a module, in order, in training whatever was done with the module."""
    return nn.ModuleList(copy.deepcopy(norm) for norm in batch_norms(module)).train()


class _Pair:
    """Hooks of one batch norm: before it the images of the other domain are taken out, after it they are put back."""

    def __init__(self, division: Division, second: _BatchNorm) -> None:
        self.division, self.second = division, second
        self.whole: Tensor | None = None  # the input of the present forward pass
        self.others: Tensor | None = None

    def before(self, norm: nn.Module, inputs: tuple[Tensor]) -> tuple[Tensor] | None:
        """Return what is left for the norm itself; None = all."""
        (whole,), self.whole, self.others = inputs, None, None
        others = self.division.others() if norm.training else None
        if others is None or not bool(others.any()):
            return None
        self.whole, self.others = whole, others
        if bool(others.all()):  # nothing is left: its output is dropped, and its statistics must not move
            norm.eval()
            return None
        return (whole[~others],)

    def after(self, norm: nn.Module, _inputs: tuple[Tensor], output: Tensor) -> Tensor | None:
        """Return the output for all images; None = that of the norm itself."""
        others, whole, self.whole, self.others = self.others, self.whole, None, None
        if whole is None or others is None:
            return None
        if bool(others.all()):
            norm.train()
            return cast("Tensor", self.second(whole))
        joined = torch.empty_like(whole, dtype=output.dtype)
        joined[~others], joined[others] = output, self.second(whole[others]).to(output.dtype)
        return joined
