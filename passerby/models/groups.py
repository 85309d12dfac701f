"""Batch norm over groups of a batch ("ghost" batch norm), so that one device learns as several with small batches do.

The norms are changed where they stand: parameters, names of tensors and everything outside training stay as they are.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from passerby.errors import UserError


class GroupedNorm(_BatchNorm):
    """Batch norm over groups: in training each group of images, in the order of the batch, has its own statistics.

    The running statistics move once per batch, by the mean of the groups' statistics. A batch that does not divide has
    a smaller last group.

    Reference: Hoffer et al., "Train longer, generalize better", NeurIPS 2017, algorithm 1.
    Differs from the paper: the running statistics take the plain mean of the groups, where the paper weighs them by
    powers of the momentum.

    """

    group: int

    def forward(self, input: Tensor) -> Tensor:
        """Normalise (B, C) or (B, C, h, w)."""
        pieces = input.split(self.group) if self.training else (input,)
        momentum = self.momentum
        if len(pieces) == 1:
            return super().forward(input)
        if momentum is None:  # each piece counts alike anyway
            return torch.cat([super(GroupedNorm, self).forward(piece) for piece in pieces])
        try:
            share, outputs = momentum / len(pieces), []
            for number, piece in enumerate(pieces, start=1):
                # Moving by this much at each group adds up to one move by `momentum` to the mean of all of them.
                self.momentum = share / (1 - momentum + number * share)
                outputs.append(super().forward(piece))
        finally:
            self.momentum = momentum
        return torch.cat(outputs)


def batch_norms(module: nn.Module) -> list[_BatchNorm]:
    """Return every batch norm of a module, grouped or not; instance norms are none."""
    return [norm for norm in module.modules() if isinstance(norm, _BatchNorm)]


@contextmanager
def fixed_statistics(module: nn.Module) -> Iterator[None]:
    """Make the batch norms of a module use their running statistics and leave them unchanged for a while."""
    training = [norm for norm in batch_norms(module) if norm.training]
    for norm in training:
        norm.training = False
    try:
        yield
    finally:
        for norm in training:
            norm.training = True


@contextmanager
def batch_statistics(module: nn.Module) -> Iterator[None]:
    """Make the batch norms of a module in `train` mode leave their running statistics unchanged for a while."""
    tracking = [norm for norm in batch_norms(module) if norm.track_running_stats and norm.training]
    for norm in tracking:
        norm.track_running_stats = False
    try:
        yield
    finally:
        for norm in tracking:
            norm.track_running_stats = True


def group_batch_norms(module: nn.Module, size: int) -> None:
    """Turn every batch norm below a module into one over groups of `size` images.

    Raises:
        UserError: there is none.

    """
    if not batch_norms(module):
        raise UserError("engine.ghost_batch_size: this model has no batch norm; leave it out")
    # Another class rather than another module, because hooks and methods hold references to the norms.
    norms: list[Any] = [norm for norm in batch_norms(module) if not isinstance(norm, GroupedNorm)]
    kinds = {kind: type(f"Grouped{kind.__name__}", (GroupedNorm, kind), {}) for kind in map(type, norms)}
    for norm in norms:
        norm.__class__ = kinds[type(norm)]
        norm.group = size
