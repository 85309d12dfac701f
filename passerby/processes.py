"""Number of processes, and the join of the rows that each has of a table."""

from __future__ import annotations

import ignite.distributed as idist
import torch
from torch import Tensor


def rank() -> int:
    """Number of this process, from 0."""
    return int(idist.get_rank())


def world() -> int:
    """Number of processes."""
    return int(idist.get_world_size())


def gather_rows(rows: Tensor, *, count: int) -> Tensor:
    """Join the rows of an interleaved table: row i of the result was held by process i % world."""
    if world() == 1:
        return rows
    most = -(-count // world())
    padded = torch.zeros((most, *rows.shape[1:]), dtype=rows.dtype, device=rows.device)
    padded[: len(rows)] = rows
    pieces = [torch.empty_like(padded) for _ in range(world())]
    torch.distributed.all_gather(pieces, padded)
    return torch.stack(pieces, dim=1).flatten(0, 1)[:count]
