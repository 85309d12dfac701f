"""Batch norms that keep two kinds of images apart in training: those of a new site, and labelled ones beside them.

The norms are changed where they stand: parameters and names of tensors stay as they are and are the new site's. What
the others learn and count is in norms of their own, which whoever asked for this keeps.
"""

from __future__ import annotations

import copy
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from passerby.models.groups import batch_norms


class Division:
    """Which images of the present batch are the others: (B,) booleans, or None when all are of one kind."""

    def __init__(self) -> None:
        self.others: Tensor | None = None


class DividedNorm(_BatchNorm):
    """What a batch norm becomes: in training the other images of a batch go through a norm of their own.

    Reference: Chang et al., "Domain-Specific Batch Normalization for Unsupervised Domain Adaptation", CVPR 2019.
    """

    plain: type[_BatchNorm]
    beside: tuple[_BatchNorm, Division]  # in a tuple, so that it is no submodule and no tensor is renamed

    def forward(self, input: Tensor) -> Tensor:
        """Normalise (B, C) or (B, C, h, w)."""
        norm, division = self.beside
        others = division.others if self.training else None
        if others is None or not bool(others.any()):
            return super().forward(input)
        if bool(others.all()):
            return cast("Tensor", norm(input))
        mine, theirs = super().forward(input[~others]), norm(input[others])
        found = torch.empty_like(input, dtype=mine.dtype)
        found[~others], found[others] = mine, theirs.to(mine.dtype)
        return found


def divide_batch_norms(module: nn.Module) -> tuple[nn.ModuleList, Division]:
    """Give every batch norm below a module a second one for other images, which begins as its copy and always learns.

    Returns:
        The second norms in order, and where to say which images they are for.

    """
    division, norms = Division(), cast("list[Any]", batch_norms(module))
    copies = nn.ModuleList(copy.deepcopy(norm) for norm in norms).train()  # whatever was done with the module before
    for norm, other in zip(norms, copies, strict=True):
        plain = type(norm)
        norm.__class__ = type(f"Divided{plain.__name__}", (DividedNorm, plain), {"plain": plain})
        norm.beside = (other, division)
    return copies, division


def join_batch_norms(module: nn.Module) -> None:
    """Turn the batch norms below a module back into what they were; the others' norms are let go."""
    norms: list[Any] = [norm for norm in batch_norms(module) if isinstance(norm, DividedNorm)]
    for norm in norms:
        del norm.beside
        norm.__class__ = norm.plain
