"""Model and images in, `Embeddings` out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from passerby.data.loading import plain_batches
from passerby.errors import UserError
from passerby.models.embedder import Embedder
from passerby.types import Dataset, Embeddings, Floats, Words

Feature = Literal["embedding", "feature"]
"""`embedding`: after the neck; `feature`: pooled, before it."""

Precision = Literal["float32", "bf16", "fp16"]

_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


def tested_vectors(embedder: Embedder, images: Tensor, *, feature: Feature, flip: bool) -> Tensor:
    """Return the vectors of a batch as evaluation compares them.

    With `flip` the vectors of an image and of its mirror image are averaged as they come, not normalised: whoever
    compares them by cosine normalises the mean.

    Args:
        embedder: the model, in `eval` mode and on the device of the images.
        images: (B, 3, H, W), values 0 to 255 in any dtype.
        feature: which vector to keep.
        flip: whether to look at the mirror image too, for twice the time.

    Returns:
        (B, D) float32.

    """
    views = (images, images.flip(3)) if flip else (images,)
    outputs = [embedder(view) for view in views]
    found = [(out.embedding if feature == "embedding" else out.feature).float() for out in outputs]
    return torch.stack(found).mean(0) if flip else found[0]


def extract(
    embedder: Embedder,
    paths: Words,
    *,
    feature: Feature = "embedding",
    flip: bool = False,
    batch: int = 64,
    workers: int = 0,
    precision: Precision = "float32",
    progress: Callable[[int, int], None] | None = None,
) -> Floats:
    """Embed image files in order.

    Args:
        embedder: the model, on its device; it is put into `eval` mode and back.
        paths: (N,) file names.
        feature: which vector to keep.
        flip: whether to average it with the mirror image's; see `tested_vectors`.
        batch: images at a time.
        workers: loader processes.
        precision: of the network; the vectors are float32 in any case.
        progress: called with (images done, N) after each batch.

    Returns:
        (N, D) float32, not normalised.

    """
    device = embedder.mean.device
    vectors = np.empty((len(paths), embedder.dimension), dtype=np.float32)  # (N, D)
    was_training, done = embedder.training, 0
    embedder.eval()
    try:
        with torch.inference_mode():
            for images in plain_batches(paths, embedder.input, size=batch, workers=workers):
                images = images.to(device, non_blocking=True).contiguous(memory_format=torch.channels_last)
                with torch.autocast(device.type, _DTYPES.get(precision), enabled=precision != "float32"):
                    found = tested_vectors(embedder, images, feature=feature, flip=flip)
                vectors[done : done + len(found)] = found.cpu().numpy()
                done += len(found)
                if progress is not None:
                    progress(done, len(paths))
    finally:
        embedder.train(was_training)
    return vectors


def embed_dataset(
    embedder: Embedder,
    dataset: Dataset,
    *,
    feature: Feature = "embedding",
    flip: bool = False,
    batch: int = 64,
    workers: int = 0,
    precision: Precision = "float32",
    progress: Callable[[int, int], None] | None = None,
) -> Embeddings:
    """Embed the query and the gallery of a site; the arguments are those of `extract`.

    Raises:
        UserError: the site has no query or no gallery.

    """
    paths = tested_paths(dataset)
    vectors = extract(
        embedder,
        paths,
        feature=feature,
        flip=flip,
        batch=batch,
        workers=workers,
        precision=precision,
        progress=progress,
    )
    return label_vectors(vectors, dataset, feature=feature, flip=flip)


def tested_paths(dataset: Dataset) -> Words:
    """Return the files of the query and then of the gallery.

    Raises:
        UserError: one of them is empty.

    """
    for name, split in (("query", dataset.query), ("gallery", dataset.gallery)):
        if len(split) == 0:
            raise UserError(f"{dataset.name} has no {name} images, so there is nothing to evaluate on")
    return np.concatenate([dataset.query.path, dataset.gallery.path])


def label_vectors(vectors: Floats, dataset: Dataset, *, feature: str, flip: bool = False) -> Embeddings:
    """Join the vectors (N, D) of `tested_paths` with what is known of their images and, as a word, of the feature."""
    query, gallery = dataset.query, dataset.gallery
    return Embeddings(
        vectors=vectors,
        pid=np.concatenate([query.pid, gallery.pid]),
        cam=np.concatenate([query.cam, gallery.cam]),
        role=np.repeat(["query", "gallery"], [len(query), len(gallery)]),
        path=np.concatenate([query.path, gallery.path]),
        dataset=dataset.name,
        feature=feature,
        flip=flip,
    )
