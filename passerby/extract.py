"""Model and images in, `Embeddings` out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from passerby.data.foreground import cover, mean_colour, widen
from passerby.data.loading import masked_batches, plain_batches
from passerby.errors import UserError
from passerby.inference import THREADS, FittingBatch, Precision
from passerby.models.embedder import Embedder
from passerby.threads import inference_threads
from passerby.types import Dataset, Embeddings, Floats, InputMask, Ints, VectorName, Words

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}
"""The types of the narrow precisions."""


def tested_vectors(
    embedder: Embedder,
    images: Tensor,
    mask: Tensor | None = None,  # noqa: PT028 - this is no test
    *,
    feature: VectorName,
    flip: bool,
) -> Tensor:
    """Return the vectors of a batch as evaluation compares them.

    With `flip` the vectors of an image and of its mirror image are averaged as they come, not normalised: whoever
    compares them by cosine normalises the mean.

    Args:
        embedder: the model, in `eval` mode and on the device of the images.
        images: (B, 3, H, W), values 0 to 255 in any dtype.
        mask: (B, 1, H, W) in {0, 1} where it weights the pooling, or None.
        feature: which vector to keep.
        flip: whether to look at the mirror image too, for twice the time.

    Returns:
        (B, D) float32.

    """
    outputs = [embedder(images, mask)]
    if flip:
        outputs.append(embedder(images.flip(3), None if mask is None else mask.flip(3)))
    found = [out.vector(feature).float() for out in outputs]
    return torch.stack(found).mean(0) if flip else found[0]


@dataclass(frozen=True, eq=False)
class View:
    """Input of a model: masks, hidden parts of the images and kind of pooling.

    Attributes:
        masks: (N,) files of the foreground masks; None where nothing needs them.
        visible: all of each image, or all with the background or the person in the mean colour.
        pooling: `weighted` by the mask, or `plain`.

    """

    masks: Words | None = None
    visible: Literal["whole", "foreground", "background"] = "whole"
    pooling: Literal["plain", "weighted"] = "plain"

    def part(self, rows: slice | Ints) -> View:
        """The same for some of the images."""
        return self if self.masks is None else replace(self, masks=self.masks[rows])

    @property
    def input_mask(self) -> InputMask:
        """The view by its name in the protocol."""
        if self.visible == "whole":
            return "weighted" if self.pooling == "weighted" else "none"
        return self.visible


WHOLE = View()


def extract(
    embedder: Embedder,
    paths: Words,
    *,
    feature: VectorName = "after_neck",
    flip: bool = False,
    batch: int = 64,
    workers: int = THREADS,
    precision: Precision = "float32",
    progress: Callable[[int, int], None] | None = None,
    notify: Callable[[str], None] | None = None,
    view: View = WHOLE,
) -> Floats:
    """Embed image files in order.

    Args:
        embedder: the model, on its device; it is put into `eval` mode and back.
        paths: (N,) file names.
        feature: which vector to keep.
        flip: whether to average it with the mirror image's; see `tested_vectors`.
        batch: images at a time; halved where they do not fit into the memory of the device.
        workers: threads that read ahead; 0 = read when it is needed.
        precision: of the network; the vectors are float32 in any case.
        progress: called with (images done, N) after each batch.
        notify: called with a sentence when a batch was too large; None = a Python warning.
        view: what the model is shown of each image.

    Returns:
        (N, D) float32, not normalised.

    Raises:
        UserError: an image that cannot be read, or not even one that fits into memory.

    """
    return run_network(
        embedder,
        shown(paths, view, embedder, size=batch, workers=workers),
        count=len(paths),
        feature=feature,
        flip=flip,
        precision=precision,
        progress=progress,
        notify=notify,
    )


def run_network(
    embedder: Embedder,
    batches: Iterable[tuple[Tensor, Tensor | None]],
    *,
    count: int,
    feature: VectorName,
    flip: bool,
    precision: Precision = "float32",
    progress: Callable[[int, int], None] | None = None,
    notify: Callable[[str], None] | None = None,
) -> Floats:
    """Embed batches of prepared images: (B, 3, H, W) uint8, and what weights their pooling, (B, 1, H, W) or None.

    The other arguments are those of `extract`; `count` is N, the number of images in all batches.
    """
    device = embedder.mean.device
    vectors = np.empty((count, embedder.dimension), dtype=np.float32)  # (N, D)
    fitting = FittingBatch() if notify is None else FittingBatch(notify)
    was_training, done = embedder.training, 0

    def step(images: Tensor, mask: Tensor | None, rows: slice) -> Tensor:
        images = images[rows].to(device, non_blocking=True).contiguous(memory_format=torch.channels_last)
        mask = None if mask is None else mask[rows].to(device, non_blocking=True)
        with torch.autocast(device.type, DTYPES.get(precision), enabled=precision != "float32"):
            return tested_vectors(embedder, images, mask, feature=feature, flip=flip).cpu()

    embedder.eval()
    try:
        with torch.inference_mode(), inference_threads(device.type) as threads:
            for images, mask in batches:
                with threads.step(len(images)):
                    found = fitting.run(partial(step, images, mask), len(images))
                vectors[done : done + len(found)] = found.numpy()
                done += len(found)
                if progress is not None:
                    progress(done, count)
    finally:
        embedder.train(was_training)
    return vectors


def shown(
    paths: Words, view: View, embedder: Embedder, *, size: int, workers: int = THREADS
) -> Iterator[tuple[Tensor, Tensor | None]]:
    """Yield prepared batches of image files in order, with the masks that weight the pooling.

    Args:
        paths: (N,) file names.
        view: of the same N files.
        embedder: the model.
        size: images at a time.
        workers: threads that read ahead; 0 = read when it is needed.

    Yields:
        (B, 3, H, W) uint8, and (B, 1, H, W) in {0, 1} on the device of the model, or None.

    """
    if view.masks is None:
        for images in plain_batches(paths, embedder.input, size=size, workers=workers):
            yield images, None
        return
    if view.pooling == "weighted" and embedder.backbone.pools_itself:
        raise UserError(
            f"{embedder.settings.backbone!r} pools its own tokens, so a mask cannot weight them; test whole images"
        )
    colour = mean_colour(embedder.input)
    for images, masks in masked_batches(paths, view.masks, embedder.input, size=size, workers=workers):
        if view.visible != "whole":
            images = cover(images, masks == 0 if view.visible == "foreground" else widen(masks), colour)
        yield images, masks.to(embedder.mean.device) if view.pooling == "weighted" else None


def embed_dataset(
    embedder: Embedder,
    dataset: Dataset,
    *,
    feature: VectorName = "after_neck",
    flip: bool = False,
    batch: int = 64,
    workers: int = THREADS,
    precision: Precision = "float32",
    progress: Callable[[int, int], None] | None = None,
    view: View = WHOLE,
) -> Embeddings:
    """Embed the query and the gallery of a site; the arguments are those of `extract`.

    Raises:
        UserError: the site has no query or no gallery.

    """
    vectors = extract(
        embedder,
        tested_paths(dataset),
        feature=feature,
        flip=flip,
        batch=batch,
        workers=workers,
        precision=precision,
        progress=progress,
        view=view,
    )
    return label_vectors(vectors, dataset, feature=feature, flip=flip, input_mask=view.input_mask)


def tested_paths(dataset: Dataset) -> Words:
    """Return the files of the query and then of the gallery.

    Raises:
        UserError: one of them is empty.

    """
    for name, split in (("query", dataset.query), ("gallery", dataset.gallery)):
        if len(split) == 0:
            raise UserError(f"{dataset.name} has no {name} images, so there is nothing to evaluate on")
    return np.concatenate([dataset.query.path, dataset.gallery.path])


def tested_view(dataset: Dataset, input_mask: InputMask) -> View:
    """Return how the files of `tested_paths` are shown.

    Raises:
        UserError: masks are needed and an image has none.

    """
    if input_mask == "none":
        return WHOLE
    masks = np.concatenate([dataset.query.masks, dataset.gallery.masks])
    paths = tested_paths(dataset)
    if missing := int((masks == "").sum()):
        raise UserError(
            f"a mask is missing for {missing:,} of {len(masks):,} test images of {dataset.name} (first: "
            f"{paths[masks == ''][0]}), and the model is tested with test.input_mask={input_mask}; make masks "
            "by `passerby segment apply`, or set test.input_mask=none"
        )
    return masked_view(masks, input_mask)


def masked_view(masks: Words, input_mask: InputMask) -> View:
    """Return how files with masks (N,) are shown."""
    if input_mask == "none":
        return WHOLE
    return View(masks, "whole", "weighted") if input_mask == "weighted" else View(masks, input_mask)


def label_vectors(
    vectors: Floats, dataset: Dataset, *, feature: str, flip: bool = False, input_mask: InputMask = "none"
) -> Embeddings:
    """Join the vectors (N, D) of `tested_paths` with the labels of their images and the name of the feature."""
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
        input_mask=input_mask,
    )
