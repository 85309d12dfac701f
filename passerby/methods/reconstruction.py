"""Training an autoencoder on what a model that stands still makes of the images of a stage, and telling how good it is.

Each image is seen as it is or as its mirror image, by chance; nothing else is changed. Everything random is a function
of one seed, so that a resumed run trains the same autoencoder again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from passerby.device import Precision
from passerby.inference.embed import WHOLE, View, autocast, map_images, read_inputs
from passerby.methods.autoencoder import Autoencoder, Penalty, Place, Reduction
from passerby.models.embedder import Embedder
from passerby.optim import set_lr
from passerby.types import Floats, Inputs, Output, Split

Objective = Literal["ae", "ae_l1", "ae_l2"]
"""The loss of an autoencoder: the error of the reconstruction, alone or with a penalty on the weights."""

OBJECTIVES: tuple[Objective, ...] = get_args(Objective)

LIMIT = 2 * 1024**3
"""Bytes of vectors or maps that are kept in memory; larger ones are made anew in each epoch."""

COLLAPSED = 0.01
"""A code from which less than this share of the features' variance comes back says nearly the same of every image."""

LOW = 0.25
"""An R squared below this is worth a warning."""

_PENALTIES: dict[Objective, Penalty] = {"ae": "none", "ae_l1": "l1", "ae_l2": "l2"}
_CHUNK = 64


def objective(
    error: Tensor, autoencoder: Autoencoder, name: Objective, *, strength: float, reduction: Reduction
) -> Tensor:
    """Return a loss () of an autoencoder by name: the error, plus strength times the penalty that the name stands for.

    Args:
        error: () mean squared error of the reconstruction.
        autoencoder: whose weights are penalised.
        name: see `Objective`.
        strength: lambda >= 0.
        reduction: see `Autoencoder.penalty`.

    """
    return error + strength * autoencoder.penalty(_PENALTIES[name], reduction=reduction)


class Material:
    """What a model makes of images and of their mirror images, kept in memory when it fits there.

    Args:
        model: stands still, in `eval` mode.
        split: N images with their cameras.
        place: whether the pooled vectors are asked for or the maps before.
        precision: of the model.
        view: how the model is shown the files.
        limit: bytes that may be kept.

    """

    def __init__(
        self,
        model: Embedder,
        split: Split,
        *,
        place: Place,
        precision: Precision = "float32",
        view: View = WHOLE,
        limit: int = LIMIT,
    ) -> None:
        self.model, self.split, self.place, self.view = model, split, place, view
        self.device, self.precision = model.mean.device, precision
        one = self._see(torch.zeros(1, dtype=torch.long), torch.zeros(1, dtype=torch.bool))
        self.kept: Tensor | None = None
        if 2 * len(self) * one.numel() * one.element_size() <= limit:
            both = (self._all(mirrored=mirrored) for mirrored in (False, True))
            self.kept = torch.stack([torch.from_numpy(found) for found in both])  # (2, N, ...)

    def __len__(self) -> int:
        return len(self.split)

    def __call__(self, rows: Tensor, mirrored: Tensor) -> Tensor:
        """Return (B, D) or (B, D, h, w) float32 of images by number, of their mirror images where it says so."""
        if self.kept is not None:
            return self.kept[mirrored.long(), rows].to(self.device)
        return self._see(rows, mirrored)

    def views(self) -> list[tuple[Tensor, Tensor]]:
        """Return numbers and mirroring of all images and then of all mirror images, a few at a time."""
        return [
            (rows, torch.full((len(rows),), mirrored))
            for mirrored in (False, True)
            for rows in torch.arange(len(self)).split(_CHUNK)
        ]

    def _all(self, *, mirrored: bool) -> Floats:
        """Return the vectors or maps of all images or of all mirror images, (N, ...)."""

        def read(inputs: Inputs) -> Tensor:
            out: Output = self.model(inputs.mirrored() if mirrored else inputs)
            return looked_at(out, place=self.place)

        return map_images(read, self.model, self.split, batch=_CHUNK, precision=self.precision, view=self.view)

    def _see(self, rows: Tensor, mirrored: Tensor) -> Tensor:
        numbers = rows.numpy()
        read = read_inputs(self.model, self.split.select(numbers), self.view.part(numbers), size=len(rows))
        inputs = _turned(next(read).map(lambda tensor: tensor.to(self.device)), mirrored.to(self.device))
        with torch.no_grad(), autocast(self.device, self.precision):
            out: Output = self.model(inputs)
        return looked_at(out, place=self.place).float()


def _turned(inputs: Inputs, mirrored: Tensor) -> Inputs:
    """Mirror the images, and masks, where it says so (B,)."""
    flipped, where = inputs.mirrored(), mirrored[:, None, None, None]
    images = torch.where(where, flipped.images, inputs.images)
    if inputs.mask is None or flipped.mask is None:
        return replace(inputs, images=images)
    return replace(inputs, images=images, mask=torch.where(where, flipped.mask, inputs.mask))


def looked_at(out: Output, *, place: Place) -> Tensor:
    """Return what an autoencoder of that place sees: the feature (B, D) or the map (B, C, h, w)."""
    return out.before_neck if place == "after_pooling" else out.map


# ---- learning


Loss = Callable[[Tensor, Tensor, Tensor], Tensor]
"""From what goes in, its reconstruction and the numbers (B,) of its images to a scalar."""


@dataclass(frozen=True, eq=False)
class Lesson:
    """An autoencoder, to be changed in place, and the loss that it is trained with."""

    autoencoder: Autoencoder
    loss: Loss


def learn(
    lessons: Sequence[Lesson],
    material: Material,
    *,
    epochs: int,
    batch: int,
    lr: float,
    seed: int,
    milestones: Sequence[int] = (),
) -> None:
    """Train autoencoders by Adam, each with its own loss, on the same batches; none depends on the others.

    Args:
        lessons: what is trained.
        material: what they learn from.
        epochs: how often each image is seen.
        batch: images per step.
        lr: learning rate.
        seed: of the order and of the mirroring.
        milestones: epochs at which the learning rate falls to a tenth.

    Differs from the paper: Adam in place of Adadelta.

    """
    generator = torch.Generator().manual_seed(seed)
    optimisers = [torch.optim.Adam(lesson.autoencoder.parameters(), lr=lr, fused=True) for lesson in lessons]
    for epoch in range(epochs):
        for optimiser in optimisers:
            set_lr(optimiser, lr * 0.1 ** sum(epoch >= at for at in milestones))
        order = torch.randperm(len(material), generator=generator)
        mirrored = torch.rand(len(material), generator=generator) < 0.5
        for rows in order.split(batch):
            x = material(rows, mirrored[rows])
            for lesson, optimiser in zip(lessons, optimisers, strict=True):
                _step(lesson, optimiser, x, rows)


def _step(lesson: Lesson, optimiser: torch.optim.Optimizer, x: Tensor, rows: Tensor) -> None:
    parameters = list(lesson.autoencoder.parameters())
    _, reconstruction = lesson.autoencoder(x)
    # Not backward(), which would also reach what the loss asks, such as a classifier.
    gradients = torch.autograd.grad(lesson.loss(x, reconstruction, rows), parameters)
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.grad = gradient
    optimiser.step()


# ---- how good it is


@dataclass(frozen=True)
class Fit:
    """How well an autoencoder does, over all images and their mirror images.

    Attributes:
        error: mean squared error of the reconstruction.
        variance: mean over the numbers of what goes in of how much each varies from image to image.
        code_variance: the same of the code.
        rebuilt_variance: the same of the reconstruction.

    """

    error: float
    variance: float
    code_variance: float
    rebuilt_variance: float

    @property
    def explained(self) -> float:
        """R squared, the share of the variance that the reconstruction has; 0 is that of the mean."""
        return 1 - self.error / max(self.variance, 1e-12)

    @property
    def liveliness(self) -> float:
        """How much the reconstruction varies, as a share of what went in; near 0: whatever the image, it is the same.

        Unlike the variance of the code it knows no unit, so that it means the same whatever the scale of the features
        and the activation; and unlike R squared it does not blame a code for a decoder that is off by a constant.
        """
        return self.rebuilt_variance / max(self.variance, 1e-12)


class _Moments:
    """The mean and the variance of each number of a vector or map, from batches."""

    def __init__(self) -> None:
        self.count = 0
        self.sums: list[Tensor] = []

    def add(self, x: Tensor) -> None:
        x = x.double()
        found = [x.sum(dim=0), x.square().sum(dim=0)]
        self.sums = [before + more for before, more in zip(self.sums, found, strict=True)] if self.count else found
        self.count += len(x)

    @property
    def square(self) -> float:
        """Mean of the squares, over all numbers."""
        return float(self.sums[1].mean()) / self.count

    @property
    def variance(self) -> float:
        mean, square = (total / self.count for total in self.sums)
        return float((square - mean.square()).clamp_min(0).mean())


def measure(autoencoder: Autoencoder, material: Material) -> Fit:
    """Measure an autoencoder on all that it learnt from."""
    given, codes, rebuilt, errors = (_Moments() for _ in range(4))
    with torch.no_grad():
        for rows, mirrored in material.views():
            x = material(rows, mirrored)
            code, reconstruction = autoencoder(x)
            found = ((given, x), (codes, code), (rebuilt, reconstruction), (errors, reconstruction - x))
            for moments, values in found:
                moments.add(values)
    return Fit(errors.square, given.variance, codes.variance, rebuilt.variance)


def rebuilt(model: Embedder, x: Tensor, *, place: Place, mask: Tensor | None = None) -> Output:
    """Return what a model says when its vectors or maps are `x`.

    Args:
        model: whose pooling and neck follow.
        x: (B, D) in place of its feature, or (B, C, h, w) in place of its map.
        place: which of the two.
        mask: (B, 1, H, W) that weights the pooling, or None.

    """
    feature = x if place == "after_pooling" else model.backbone.head(model.pool(x, mask))
    return Output(before_neck=feature, after_neck=model.neck(feature), map=x)


@contextmanager
def led_through(model: Embedder, autoencoder: Autoencoder, *, place: Place) -> Iterator[None]:
    """Lead what a model makes of images through an autoencoder for a while."""

    def rebuild(_: nn.Module, given: tuple[Inputs], out: Output) -> Output:
        mask = given[0].mask
        with torch.autocast(out.map.device.type, enabled=False):  # as it was trained
            _, reconstruction = autoencoder(looked_at(out, place=place))
            found = rebuilt(model, reconstruction, place=place, mask=mask)
        return replace(out, before_neck=found.before_neck, after_neck=found.after_neck)

    handle = model.register_forward_hook(rebuild)
    try:
        yield
    finally:
        handle.remove()
