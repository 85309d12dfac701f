"""Training of the segmenter on the masks of a data set, and its evaluation on held-out identities."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from passerby.data.datasets import dataset_settings, open_dataset, without_mask
from passerby.data.image_files import images_below
from passerby.data.loading import ImageStore
from passerby.data.naming import folder_name
from passerby.data.readers.listing import find_masks
from passerby.data.transforms import AugmentSettings, JitterSettings, augment_with_mask, mix_seeds, training_transform
from passerby.device import find_device
from passerby.errors import UserError
from passerby.segment.network import Origin, Segmenter, SegmenterSettings, dice_loss, overlap
from passerby.types import UNKNOWN, Bools, Dataset, Ints, Split

HELD_OUT = 0.1
"""Share of the identities, or of the images where no identity is known, that is held out for evaluation."""

_BATCH = 32
_RATE = 4e-3
_JITTER = JitterSettings(
    brightness=0.4, contrast=0.4, saturation=0.4, hue=0.05
)  # strong: masks should suit other sites


def open_masked(folder: str, *, kind: str, masks: str | None, pattern: str | None = None) -> Dataset:
    """Read a data set, or any other folder of images as training images of unknown identity.

    Raises:
        UserError: there is no image, or not one training image has a mask.

    """
    try:
        dataset = open_dataset(dataset_settings(kind, folder, masks=masks, pattern=pattern))
    except UserError:
        if pattern is not None:
            raise
        root = Path(folder).expanduser()
        relative = images_below(root) if kind == "auto" and root.is_dir() else []
        if not relative:
            raise
        mask_paths = find_masks(relative, root, masks=masks)
        unknown = np.full(len(relative), UNKNOWN)
        paths = np.array([f"{folder}/{path}" for path in relative])
        split = Split(paths, unknown, unknown, mask_path=np.array(mask_paths))
        note = "Read as images of unknown identity."
        dataset = Dataset(folder_name(Path(folder)), split, Split.empty(), Split.empty(), (note,))
    if not len(masked(dataset.train)):
        bare, _ = without_mask([dataset.train])
        raise UserError(
            f"none of the {len(bare):,} training images of {dataset.name} has a mask; name their folder by --masks"
        )
    return dataset


def masked(split: Split) -> Split:
    """Return the images that have a mask."""
    return split.select(np.zeros(len(split), dtype=np.bool_) if split.mask_path is None else split.mask_path != "")


@dataclass(frozen=True)
class TrainedSegmenter:
    """A trained segmenter and its origin."""

    segmenter: Segmenter
    origin: Origin


def train_on_masks(
    dataset: Dataset,
    settings: SegmenterSettings,
    *,
    epochs: int,
    seed: int = 0,
    device: str = "cpu",
    progress: Callable[[int, int], None] | None = None,
) -> TrainedSegmenter:
    """Train a segmenter on the masked training images of a data set; its test images are not used.

    AdamW with a warm-up over the first twentieth of the steps and cosine decay; cross-entropy plus Dice.
    On the CPU, with as many threads as before, the same seed gives the same network.

    Args:
        dataset: with masks.
        settings: of the network.
        epochs: number of epochs, >= 1.
        seed: of the weights, the order, the augmentation and the held-out identities.
        device: as in `InferenceSettings`.
        progress: called with (steps done, all steps).

    Raises:
        UserError: fewer than two masked images, a file cannot be read, or a mask and its image differ in size.

    """
    split = masked(dataset.train)
    if len(split) < 2:
        raise UserError(f"{dataset.name} has {len(split)} training image with a mask; at least two are needed")
    is_held_out, apart_by = hold_out(split.pid, seed=seed)
    trained, tested = split.select(~is_held_out), split.select(is_held_out)
    torch.manual_seed(mix_seeds(seed))
    target = find_device(device)
    segmenter = Segmenter(settings).to(target).to(memory_format=torch.channels_last)
    store = ImageStore(trained.path, settings.input, masks=trained.mask_path)
    optimiser = torch.optim.AdamW(segmenter.parameters(), lr=_RATE, weight_decay=1e-4)
    count = epochs * math.ceil(len(store) / _BATCH)
    segmenter.train()
    for step, (images, masks) in enumerate(_batches(store, epochs=epochs, seed=seed)):
        for group in optimiser.param_groups:
            group["lr"] = _RATE * min((step + 1) / (0.05 * count), 1) * (1 + math.cos(math.pi * step / count)) / 2
        images, masks = images.to(target), masks.to(target)
        logits = segmenter(images.contiguous(memory_format=torch.channels_last))
        loss = nn.functional.binary_cross_entropy_with_logits(logits, masks.float()) + dice_loss(logits, masks)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        if progress is not None:
            progress(step + 1, count)
    segmenter.eval()
    score = float(np.mean(score_segmenter(segmenter, tested)))
    origin = Origin(
        trained_on=dataset.name,
        count_images=len(trained),
        count_held_out=len(tested),
        apart_by=apart_by,
        overlap=score,
    )
    return TrainedSegmenter(segmenter, origin)


def hold_out(pid: Ints, *, seed: int) -> tuple[Bools, str]:
    """Return the held-out images (N,): those of a tenth of the identities, or a tenth of the images.

    Returns:
        (N,) whether an image is held out, neither none nor all, and the unit of the split: `people` or `images`.

    """
    generator = np.random.default_rng(seed)
    identities = np.unique(pid[pid != UNKNOWN])
    if len(identities) >= 2:
        identities_held_out = generator.permutation(identities)[: max(1, round(HELD_OUT * len(identities)))]
        return np.isin(pid, identities_held_out), "people"
    is_held_out = np.zeros(len(pid), dtype=np.bool_)
    is_held_out[generator.permutation(len(pid))[: max(1, round(HELD_OUT * len(pid)))]] = True
    return is_held_out, "images"


def score_segmenter(segmenter: Segmenter, split: Split) -> Sequence[float]:
    """Return the intersection over union of each image (N,) with its mask, at the network's own size."""
    store = ImageStore(split.path, segmenter.settings.input, cache="none", masks=split.mask_path)
    scores: list[float] = []
    device = next(segmenter.parameters()).device
    with torch.inference_mode():
        for start in range(0, len(store), _BATCH):
            pairs = [store.with_mask(row) for row in range(start, min(start + _BATCH, len(store)))]
            images, masks = (torch.stack(column) for column in zip(*pairs, strict=True))
            scores += overlap(segmenter(images.to(device)).cpu() > 0, masks).tolist()
    return scores


def _batches(store: ImageStore, *, epochs: int, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield augmented images and masks; each image has its own seed."""
    augmentation = AugmentSettings(flip=0.5, pad=store.inputs.size[0] // 20, jitter=_JITTER, erase=None)
    transform = training_transform(augmentation, store.inputs)
    for epoch in range(epochs):
        order = np.random.default_rng([seed, epoch]).permutation(len(store))
        for start in range(0, len(order), _BATCH):
            rows = order[start : start + _BATCH].tolist()
            pairs = [
                augment_with_mask(transform, *store.with_mask(row), seed=mix_seeds(seed, epoch, row)) for row in rows
            ]
            yield torch.stack([image for image, _ in pairs]), torch.stack([mask for _, mask in pairs])


def images_to_score(dataset: Dataset) -> Split:
    """Return the images with masks that a segmenter is scored on: query and gallery, or else the training ones."""
    splits = [masked(split) for split in (dataset.query, dataset.gallery)]
    if not any(len(split) for split in splits):
        return masked(dataset.train)
    query, gallery = splits
    return Split(
        path=np.concatenate([query.path, gallery.path]),
        pid=np.concatenate([query.pid, gallery.pid]),
        cam=np.concatenate([query.cam, gallery.cam]),
        mask_path=np.concatenate([query.masks, gallery.masks]),
    )
