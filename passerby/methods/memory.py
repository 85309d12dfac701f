"""Memories of vectors of unit length that the images of a batch move."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F


def moved_rows(memory: Tensor, embeddings: Tensor, rows: Tensor, *, momentum: float = 0.2) -> Tensor:
    """Return the memory (M, D) after a batch; a row that occurs several times moves several times, in order.

    Args:
        memory: (M, D) of unit length.
        embeddings: (B, D), of any length.
        rows: (B,) which row each image moves.
        momentum: share of a row that stays at each update.

    Reference: Ge et al., "Self-paced Contrastive Learning with Hybrid Memory for Domain Adaptive Object Re-ID", NeurIPS
    2020, as its code has it: image by image, labelled people too.

    """
    moved, vectors = memory.clone(), F.normalize(embeddings.float())
    for row, vector in zip(rows.tolist(), vectors, strict=True):
        moved[row] = F.normalize(momentum * moved[row] + (1 - momentum) * vector, dim=0)
    return moved
