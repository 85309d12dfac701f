"""What a model makes of all images that a stage trains on, as methods ask it between epochs."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager

import numpy as np
import torch
from torch import Tensor

from passerby.extract import WHOLE, View, shown
from passerby.methods.method import Vectors
from passerby.models.embedder import Embedder
from passerby.train import distributed
from passerby.types import Floats, Output, Words

BATCH = 64


def look(embedder: Embedder, paths: Words, *, autocast: AbstractContextManager[object], view: View = WHOLE) -> Vectors:
    """Embed images in order, without augmentation; each process embeds its share and all know the whole.

    Args:
        embedder: the model; it is put into `eval` mode and back.
        paths: (N,) file names.
        autocast: the block in which the network runs.
        view: what the model is shown of each image.

    """
    mine = slice(distributed.rank(), None, distributed.world())
    was_training = embedder.training
    embedder.eval()
    try:
        with torch.inference_mode(), autocast:
            seen = [
                _read(embedder(_moved(images, embedder), mask))
                for images, mask in shown(paths[mine], view.part(mine), embedder, size=BATCH)
            ]
    finally:
        embedder.train(was_training)
    feature, embedding, parts = zip(*seen, strict=True)
    whole = None if parts[0] is None else _whole(parts, len(paths))
    return Vectors(_whole(feature, len(paths)), _whole(embedding, len(paths)), whole)


def _moved(images: Tensor, embedder: Embedder) -> Tensor:
    return images.to(embedder.mean.device, non_blocking=True).contiguous(memory_format=torch.channels_last)


def _read(out: Output) -> tuple[Tensor, Tensor, Tensor | None]:
    stripes = None if out.stripes is None else out.stripes.float()
    return out.before_neck.float(), out.after_neck.float(), stripes


def _whole(batches: Sequence[Tensor], count: int) -> Floats:
    found: Floats = distributed.gather_rows(torch.cat(list(batches)), count=count).cpu().numpy()
    return np.ascontiguousarray(found, dtype=np.float32)
