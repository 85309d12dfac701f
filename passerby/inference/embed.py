"""Model and images in, `Embeddings` out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from passerby.data.foreground import dilate_mask, fill_masked, mean_colour
from passerby.data.loading import masked_batches, plain_batches
from passerby.device import THREADS, FittingBatch, Precision
from passerby.errors import UserError
from passerby.models.embedder import Embedder
from passerby.processes import gather_rows, rank, world
from passerby.threads import inference_threads
from passerby.types import (
    Floats,
    InputMask,
    Inputs,
    Ints,
    Output,
    Split,
    VectorName,
    Words,
    require_known_cameras,
)

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}
"""The types of the narrow precisions."""


def autocast(device: torch.device, precision: Precision) -> torch.autocast:
    """Return the block in which a network runs in a precision."""
    return torch.autocast(device.type, DTYPES.get(precision), enabled=precision != "float32")


def tested_vectors(
    embedder: Embedder,
    inputs: Inputs,
    *,
    feature: VectorName,
    flip: bool,
) -> Tensor:
    """Return the vectors of a batch as evaluation compares them.

    With `flip` the vectors of an image and of its mirror image are averaged as they come, not normalised: whoever
    compares them by cosine normalises the mean.

    Args:
        embedder: the model, in `eval` mode and on the device of the inputs.
        inputs: B images with what else the model uses.
        feature: which vector to keep.
        flip: whether to look at the mirror image too, for twice the time.

    Returns:
        (B, D) float32.

    """
    outputs = [embedder(inputs)]
    if flip:
        outputs.append(embedder(inputs.mirrored()))
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


@dataclass(frozen=True, eq=False)
class Vectors:
    """All vectors that a model gives of some images.

    Attributes:
        before_neck: (N, D) float32, pooled.
        after_neck: (N, D) float32.
        stripes: (N, P, D) float32, one row per stripe of an image; None where the model has no stripes.

    """

    before_neck: Floats
    after_neck: Floats
    stripes: Floats | None

    def vector(self, name: VectorName) -> Floats:
        """Return the vectors (N, D) before or after the neck."""
        return self.before_neck if name == "before_neck" else self.after_neck


def embed(
    model: Embedder,
    split: Split,
    *,
    vector: VectorName = "after_neck",
    flip: bool = False,
    batch: int = 64,
    workers: int = THREADS,
    precision: Precision = "float32",
    progress: Callable[[int, int], None] | None = None,
    notify: Callable[[str], None] | None = None,
    view: View = WHOLE,
) -> Floats:
    """Embed the images of a split in order; of several processes each embeds its share, and all get the whole.

    Args:
        model: on its device; it is put into `eval` mode and back.
        split: N images with their rows of the camera table, which a model that uses no cameras ignores.
        vector: which vector to return.
        flip: whether to average it with the mirror image's; see `tested_vectors`.
        batch: images at a time; halved where they do not fit into the memory of the device.
        workers: threads that read ahead; 0 = read when it is needed.
        precision: of the network; the vectors are float32 in any case.
        progress: called with (images done, of how many of this process) after each batch.
        notify: called with a sentence when a batch was too large; None = a Python warning.
        view: what the model is shown of each image.

    Returns:
        (N, D) float32, not normalised.

    Raises:
        UserError: an image that cannot be read, not even one that fits into memory, or an unknown camera where the
            model refuses those.

    """
    return map_images(
        partial(tested_vectors, model, feature=vector, flip=flip),
        model,
        split,
        batch=batch,
        workers=workers,
        precision=precision,
        progress=progress,
        notify=notify,
        view=view,
    )


def embed_both(model: Embedder, split: Split, *, precision: Precision = "float32", view: View = WHOLE) -> Vectors:
    """Embed the images of a split and return all vectors; see `embed`."""

    def stacked(inputs: Inputs) -> Tensor:
        """Return the vectors of B images, (B, 2 + P, D)."""
        out: Output = model(inputs)
        rows = [out.before_neck[:, None], out.after_neck[:, None], *([] if out.stripes is None else [out.stripes])]
        return torch.cat([each.float() for each in rows], dim=1)

    found = map_images(stacked, model, split, precision=precision, view=view)
    stripes = np.ascontiguousarray(found[:, 2:]) if found.shape[1] > 2 else None
    return Vectors(np.ascontiguousarray(found[:, 0]), np.ascontiguousarray(found[:, 1]), stripes)


def map_images(
    read: Callable[[Inputs], Tensor],
    model: Embedder,
    split: Split,
    *,
    batch: int = 64,
    workers: int = THREADS,
    precision: Precision = "float32",
    progress: Callable[[int, int], None] | None = None,
    notify: Callable[[str], None] | None = None,
    view: View = WHOLE,
) -> Floats:
    """Return `read` of the images of a split in order, (N, ...) float32: vectors or maps.

    `read` maps B inputs on the device of the model to (B, ...); the other arguments are those of `embed`.
    """
    require_known_cameras(
        split.cam_row, model.cameras, unknown=model.backbone.unknown_camera, source=model.settings.backbone
    )
    share = slice(rank(), None, world())
    rows = np.arange(len(split))[share]
    batches = read_inputs(model, split.select(rows), view.part(share), size=batch, workers=workers)
    found = map_batches(read, model, batches, count=len(rows), precision=precision, progress=progress, notify=notify)
    if world() == 1:
        return found
    device = model.mean.device
    return gather_rows(torch.from_numpy(found).to(device), count=len(split)).cpu().numpy()


def map_batches(
    read: Callable[[Inputs], Tensor],
    model: Embedder,
    batches: Iterable[Inputs],
    *,
    count: int,
    precision: Precision = "float32",
    progress: Callable[[int, int], None] | None = None,
    notify: Callable[[str], None] | None = None,
) -> Floats:
    """Return `read` of `batches` of prepared inputs, `count` in all, in this process.

    The other arguments are those of `map_images`.
    """
    device = model.mean.device
    fitting = FittingBatch() if notify is None else FittingBatch(notify)
    was_training = model.training
    vectors, done = np.empty((count, model.dimension), np.float32), 0  # (N, D), or (N, ...) with the first batch

    def step(inputs: Inputs, rows: slice) -> Tensor:
        moved = inputs.map(lambda tensor: tensor[rows].to(device, non_blocking=True))
        moved = replace(moved, images=moved.images.contiguous(memory_format=torch.channels_last))
        with autocast(device, precision):
            return read(moved).float().cpu()

    model.eval()
    try:
        with torch.inference_mode(), inference_threads(device.type) as threads:
            for inputs in batches:
                with threads.step(len(inputs)):
                    found = fitting.run(partial(step, inputs), len(inputs)).numpy()
                if not done and found.shape[1:] != vectors.shape[1:]:
                    vectors = np.empty((count, *found.shape[1:]), np.float32)
                vectors[done : done + len(found)] = found
                done += len(found)
                if progress is not None:
                    progress(done, count)
    finally:
        model.train(was_training)
    return vectors


def read_inputs(
    model: Embedder, split: Split, view: View = WHOLE, *, size: int, workers: int = THREADS
) -> Iterator[Inputs]:
    """Yield what a model gets of the images of a split, in order and without augmentation.

    Args:
        model: whose input settings are followed.
        split: N images with their cameras.
        view: what is shown of the N images.
        size: images at a time.
        workers: threads that read ahead; 0 = read when it is needed.

    Yields:
        B inputs, in the memory of the machine: uint8 images, and a mask where it weights the pooling.

    """
    if view.pooling == "weighted" and model.backbone.pools_itself:
        raise UserError(
            f"{model.settings.backbone!r} pools its own tokens, so a mask cannot weight them; test whole images"
        )
    cameras, done = torch.from_numpy(split.cam_row), 0  # (N,)
    for images, mask in _shown(model, split.path, view, size=size, workers=workers):
        yield Inputs(images, cameras[done : done + len(images)], mask)
        done += len(images)


def _shown(
    model: Embedder, paths: Words, view: View, *, size: int, workers: int
) -> Iterator[tuple[Tensor, Tensor | None]]:
    """Yield images (B, 3, H, W) as they are shown, and what weights their pooling, (B, 1, H, W) or None."""
    if view.masks is None:
        for images in plain_batches(paths, model.input, size=size, workers=workers):
            yield images, None
        return
    colour = mean_colour(model.input)
    for images, masks in masked_batches(paths, view.masks, model.input, size=size, workers=workers):
        if view.visible != "whole":
            images = fill_masked(images, masks == 0 if view.visible == "foreground" else dilate_mask(masks), colour)
        yield images, masks if view.pooling == "weighted" else None


def masked_view(masks: Words, input_mask: InputMask) -> View:
    """Return how files with masks (N,) are shown."""
    if input_mask == "none":
        return WHOLE
    return View(masks, "whole", "weighted") if input_mask == "weighted" else View(masks, input_mask)
