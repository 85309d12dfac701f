"""Speed of image loading, cached and not, compared with transforms on PIL images and with the training step."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import gettempdir

import numpy as np
import torch
from PIL import Image
from torchvision import transforms as v1

from passerby.bench.measure import BenchTable, Contender, contest
from passerby.bench.step import SHAPES, Steps, make_steps, step_in_bf16
from passerby.data.datasets import dataset_settings, open_dataset
from passerby.data.loading import DataSettings, EpochKey, ImageStore, plain_batches, training_batches
from passerby.data.synthetic.layout import SiteSize
from passerby.data.synthetic.site import make_site
from passerby.inputs import InputSettings
from passerby.types import Ints, Split

CACHED = "passerby, cached in memory"
UNCACHED = "passerby, decoding each time, no workers"
PROCESSES = "passerby, decoding each time, 2 prefetching processes"
THREADS = "passerby, files in order without augmentation, 2 prefetching threads"
SINGLE_THREAD = "passerby, files in order without augmentation, no threads"
PIL = "PIL and torchvision transforms, as public toolkits do, no workers"
STEP = "ResNet-18 step, bf16, on the same images"
BATCH = 64


@dataclass(frozen=True, eq=False)
class Epoch:
    """One epoch of images in batches of 64, and a network to feed."""

    cached: ImageStore
    uncached: ImageStore
    images: Split
    plan: Ints
    steps: Steps
    by_pil: v1.Compose


def make_epoch(count: int) -> Epoch:
    """Render a small site once, and plan `count` batches of its images."""
    folder = Path(gettempdir()) / "passerby-bench-people"
    root = make_site(folder, "plaza", seed=0, size=SiteSize(count_train=60, count_test=4, images_per_identity=12))
    images = open_dataset(dataset_settings("market1501", str(root)), "people").train
    inputs = InputSettings(size=(128, 64))
    plan = np.random.default_rng(0).integers(0, len(images), (count, BATCH))
    by_pil = v1.Compose(
        [
            v1.Resize(inputs.size),
            v1.RandomHorizontalFlip(),
            v1.Pad(10),
            v1.RandomCrop(inputs.size),
            v1.ToTensor(),
            v1.Normalize(inputs.mean, inputs.std),
            v1.RandomErasing(0.5, (0.02, 0.4)),
        ]
    )
    stores = [ImageStore(images.path, inputs, cache=cache) for cache in ("memory", "none")]
    return Epoch(stores[0], stores[1], images, plan, make_steps(SHAPES["resnet18"]), by_pil)


def _load(epoch: Epoch, store: ImageStore, *, workers: int = 0) -> None:
    settings = DataSettings(workers=workers)
    labels = np.zeros(len(epoch.images), np.int64)
    place = EpochKey(0, 0, 0)
    for _ in training_batches(store, epoch.plan, labels=labels, cam=labels, settings=settings, place=place):
        pass


def _cached(epoch: Epoch) -> None:
    _load(epoch, epoch.cached)


def _uncached(epoch: Epoch) -> None:
    _load(epoch, epoch.uncached)


def _processes(epoch: Epoch) -> None:
    _load(epoch, epoch.uncached, workers=2)


def _in_order(epoch: Epoch, workers: int) -> None:
    paths = epoch.images.path[epoch.plan.ravel()]
    for _ in plain_batches(paths, epoch.uncached.inputs, size=BATCH, workers=workers):
        pass


def _single_thread(epoch: Epoch) -> None:
    _in_order(epoch, 0)


def _threads(epoch: Epoch) -> None:
    _in_order(epoch, 2)


def _pil(epoch: Epoch) -> None:
    for rows in epoch.plan:
        torch.stack([epoch.by_pil(Image.open(epoch.images.path[row]).convert("RGB")) for row in rows])


def _steps(epoch: Epoch) -> None:
    for _ in epoch.plan:
        step_in_bf16(epoch.steps)


def bench_loader(*, quick: bool = False) -> BenchTable:
    """Measure loading 16 batches of 64 synthetic images at 128x64 (`quick`: 4 batches)."""
    count = 4 if quick else 16
    contenders = (
        Contender(STEP, _steps, 2),
        Contender(CACHED, _cached, 3, against=STEP),
        Contender(UNCACHED, _uncached, 3, against=STEP),
        Contender(PROCESSES, _processes, 3, against=UNCACHED),
        Contender(SINGLE_THREAD, _single_thread, 3, against=STEP),
        Contender(THREADS, _threads, 3, against=SINGLE_THREAD),
        Contender(PIL, _pil, 2, against=STEP),
    )
    title = f"loading {count} batches of {BATCH} images, 128x64"
    return contest(title, contenders, make=partial(make_epoch, count), warm=_warm)


def _warm() -> None:
    """Nothing is compiled here; the first round warms up the libraries."""
