"""Weights that are numbers: NaN or infinity in a file is told by its name, before a network answers with it."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from passerby.errors import UserError


def require_finite(tensors: Mapping[str, Tensor], *, source: str) -> None:
    """Raise `UserError` with the first tensor that holds NaN or infinity, and how many there are.

    Args:
        tensors: weights and statistics by name.
        source: how error texts call the file.

    """
    odd = [name for name, tensor in tensors.items() if not bool(torch.isfinite(tensor).all())]
    if odd:
        first = tensors[odd[0]]
        count = int((~torch.isfinite(first)).sum())
        raise UserError(
            f"{source}: {len(odd)} of {len(tensors)} tensors hold NaN or infinity (first: {odd[0]}, {count:,} of "
            f"{first.numel():,} values); the file was damaged or its training diverged, use an earlier one"
        )
