"""Speed of a training step, compared with a plain PyTorch implementation.

All contenders keep the memory that they free, as `passerby train` does; the plain step gains as much from it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import timm
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from passerby.bench.measure import BenchTable, Contender, contest
from passerby.device import Precision
from passerby.models.embedder import Embedder
from passerby.recipe import make_recipe
from passerby.training.memory import keep_memory
from passerby.training.probe import Arithmetic
from passerby.training.setup import Setup
from passerby.training.trainer import Trainer
from passerby.types import Batch, CameraTable, Inputs, Split, Stage

CLASSES = 751
PLAIN = "plain torch, float32, NCHW"
PLAIN_BF16 = "plain torch, bf16, channels last"
OURS = "passerby, float32, NCHW"
OURS_BF16 = "passerby, bf16, channels last"


@dataclass(frozen=True)
class Shape:
    """Input and network of a training step."""

    backbone: str
    size: tuple[int, int]
    batch: int

    def __str__(self) -> str:
        return f"{self.backbone}, {self.size[0]}x{self.size[1]}, batch {self.batch}"


SHAPES = {
    "resnet50": Shape("resnet50", (256, 128), 64),
    "resnet18": Shape("resnet18", (128, 64), 64),
    "vit_small": Shape("vit_small_patch16_224", (256, 128), 64),
}


def is_transformer(shape: Shape) -> bool:
    """Whether the network works on tokens, so that it has no stride to change."""
    return shape.backbone.startswith("vit")


class PlainStep:
    """The step as one would write it by hand: softmax and batch-hard triplet on a ViT, or on a ResNet of stride 1."""

    def __init__(self, shape: Shape, *, bf16: bool) -> None:
        self.body = _plain_transformer(shape) if is_transformer(shape) else _plain_resnet(shape)
        dimension = cast("int", self.body.num_features)
        self.neck = nn.BatchNorm1d(dimension)
        self.head = nn.Linear(dimension, CLASSES, bias=False)
        self.bf16 = bf16
        modules = nn.ModuleList([self.body, self.neck, self.head]).train()
        if bf16:
            modules.to(memory_format=torch.channels_last)
        self.optimiser = torch.optim.Adam(modules.parameters(), lr=3.5e-4, weight_decay=5e-4)

    def __call__(self, images: Tensor, labels: Tensor) -> None:
        """Do one step on images (B, 3, H, W) uint8."""
        pixels = (images.float() - 116) / 58
        if self.bf16:
            pixels = pixels.contiguous(memory_format=torch.channels_last)
        with torch.autocast("cpu", torch.bfloat16, enabled=self.bf16):
            feature = self.body(pixels)
        feature = feature.float()
        loss = F.cross_entropy(self.head(self.neck(feature)), labels, label_smoothing=0.1)
        distance = torch.cdist(feature, feature)
        same = labels[:, None] == labels[None, :]
        positive = distance.masked_fill(~same, 0).amax(1)
        negative = distance.masked_fill(same, torch.inf).amin(1)
        loss = loss + (positive - negative + 0.3).relu().mean()
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        self.optimiser.step()


def _plain_transformer(shape: Shape) -> nn.Module:
    """Return a network of timm that maps images to class tokens (B, D)."""
    return timm.create_model(shape.backbone, num_classes=0, img_size=shape.size)


def _plain_resnet(shape: Shape) -> nn.Module:
    """Return a ResNet of timm, with last stride 1, that maps images to means of its map (B, D)."""
    body = timm.create_model(shape.backbone, num_classes=0)
    last: Any = body.layer4
    for module in last[0].modules():
        if isinstance(module, nn.Conv2d) and module.stride == (2, 2):
            module.stride = (1, 1)
    return body


@dataclass(frozen=True, eq=False)
class Steps:
    """A batch, and every contender ready to step on it."""

    batch: Batch
    plain: PlainStep
    plain_bf16: PlainStep
    ours: Trainer
    ours_bf16: Trainer


def make_steps(shape: Shape) -> Steps:
    """Build the models and a batch of noise."""
    keep_memory()
    return Steps(
        make_batch(shape),
        PlainStep(shape, bf16=False),
        PlainStep(shape, bf16=True),
        make_step_run(shape, bf16=False),
        make_step_run(shape, bf16=True),
    )


def make_batch(shape: Shape) -> Batch:
    """Return a batch of noise, four images of each identity."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (shape.batch, 3, *shape.size), dtype=torch.uint8, generator=generator)
    labels = torch.arange(shape.batch) // 4
    return Batch(Inputs.of_images(images), labels, torch.arange(shape.batch))


def make_step_run(shape: Shape, *, bf16: bool, compiled: bool = False) -> Trainer:
    """Return a trainer that has no images and stands before its first step."""
    precision: Precision = "bf16" if bf16 else "float32"
    surgery = {} if is_transformer(shape) else {"last_stride": 1}
    recipe = make_recipe(
        {
            "input": {"size": list(shape.size)},
            "model": {"backbone": shape.backbone, **surgery},
            "engine": {"precision": precision, "channels_last": bf16, "device": "cpu", "compile": compiled},
        },
        source="bench",
    )
    names = np.full(CLASSES, "")
    stage = Stage("bench", Split(names, np.arange(CLASSES), np.zeros(CLASSES, np.int64)), labelled=True, epochs=1)
    embedder = Embedder(recipe.model, recipe.input, cameras=CameraTable(("bench",), ((0,),)))
    if bf16:
        embedder = embedder.to(memory_format=torch.channels_last)
    setup = Setup(recipe, Path(), torch.device("cpu"), Arithmetic(precision, bf16), {}, [stage])
    trainer = Trainer(setup, embedder)
    trainer.open_stage(0)
    return trainer


def _step(trainer: Trainer, batch: Batch) -> None:
    trainer.step(batch, count=1)


def _plain(steps: Steps) -> None:
    steps.plain(steps.batch.inputs.images, steps.batch.labels)


def _plain_bf16(steps: Steps) -> None:
    steps.plain_bf16(steps.batch.inputs.images, steps.batch.labels)


def _ours(steps: Steps) -> None:
    _step(steps.ours, steps.batch)


def step_in_bf16(steps: Steps) -> None:
    """Do passerby's step in bf16, channels last."""
    _step(steps.ours_bf16, steps.batch)


def bench_step(*, quick: bool = False, backbone: str = "resnet50") -> BenchTable:
    """Measure one training step on the CPU (`quick`: a quarter of the batch)."""
    full = SHAPES[backbone]
    shape = Shape(full.backbone, full.size, full.batch // 4 if quick else full.batch)
    rounds = 5
    contenders = (
        Contender(PLAIN, _plain, rounds),
        Contender(OURS, _ours, rounds, against=PLAIN),
        Contender(PLAIN_BF16, _plain_bf16, rounds, against=PLAIN),
        Contender(OURS_BF16, step_in_bf16, rounds, against=PLAIN_BF16),
    )
    return contest(f"training step, {shape}", contenders, make=partial(make_steps, shape), warm=_warm)


def _warm() -> None:
    """Nothing is compiled here; the first of the rounds warms the libraries up."""
