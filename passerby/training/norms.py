"""Statistics of the batch norms of a run: over groups, or over all processes."""

from __future__ import annotations

from typing import TypeVar

from torch import nn

from passerby.models.groups import batch_norms, group_batch_norms
from passerby.recipe import EngineSettings

M = TypeVar("M", bound=nn.Module)


def set_norm_statistics(module: M, engine: EngineSettings) -> M:
    """Return a module whose batch norms, if any, have the configured statistics: over groups, or all processes."""
    if not batch_norms(module):
        return module
    if engine.batch_norm == "synchronised":
        module = nn.SyncBatchNorm.convert_sync_batchnorm(module)
    if engine.ghost_batch_size is not None:
        group_batch_norms(module, engine.ghost_batch_size)
    return module
