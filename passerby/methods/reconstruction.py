"""Training of autoencoders on the features of a frozen model, and their quality.

Each image is used as it is or mirrored, at random; there is no other augmentation. All randomness is a function of one
seed, so that a resumed run trains the same autoencoder again.
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
"""Bytes of vectors or maps that are kept in memory; larger ones are computed in each epoch."""

COLLAPSED = 0.01
"""A code whose reconstruction has less than this share of the features' variance hardly depends on the image."""

LOW = 0.25
"""An R squared below this is worth a warning."""

_PENALTIES: dict[Objective, Penalty] = {"ae": "none", "ae_l1": "l1", "ae_l2": "l2"}
_CHUNK = 64


def objective(
    error: Tensor, autoencoder: Autoencoder, name: Objective, *, strength: float, reduction: Reduction
) -> Tensor:
    """Return a loss () of an autoencoder by name: the error, plus strength times the penalty of that name.

    Args:
        error: () mean squared error of the reconstruction.
        autoencoder: the autoencoder with the penalised weights.
        name: see `Objective`.
        strength: lambda >= 0.
        reduction: see `Autoencoder.penalty`.

    """
    return error + strength * autoencoder.penalty(_PENALTIES[name], reduction=reduction)


class FeatureSource:
    """The features of images and of their mirror images, kept in memory when they fit there.

    Args:
        model: frozen, in `eval` mode.
        split: N images with their cameras.
        place: pooled vectors, or the maps before pooling.
        precision: precision of the model.
        view: how files are read for the model.
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
        first = self._compute(torch.zeros(1, dtype=torch.long), torch.zeros(1, dtype=torch.bool))
        self.stored: Tensor | None = None
        if 2 * len(self) * first.numel() * first.element_size() <= limit:
            both = (self._all(mirrored=mirrored) for mirrored in (False, True))
            self.stored = torch.stack([torch.from_numpy(features) for features in both])  # (2, N, ...)

    def __len__(self) -> int:
        return len(self.split)

    def __call__(self, rows: Tensor, mirrored: Tensor) -> Tensor:
        """Return features (B, D) or (B, D, h, w) float32 of images by row, mirrored where (B,) is true."""
        if self.stored is not None:
            return self.stored[mirrored.long(), rows].to(self.device)
        return self._compute(rows, mirrored)

    def views(self) -> list[tuple[Tensor, Tensor]]:
        """Return rows and mirroring of all images and then of all mirror images, a few at a time."""
        return [
            (rows, torch.full((len(rows),), mirrored))
            for mirrored in (False, True)
            for rows in torch.arange(len(self)).split(_CHUNK)
        ]

    def _all(self, *, mirrored: bool) -> Floats:
        """Return the vectors or maps of all images or of all mirror images, (N, ...)."""

        def read(inputs: Inputs) -> Tensor:
            out: Output = self.model(inputs.mirrored() if mirrored else inputs)
            return vectors_at(out, place=self.place)

        return map_images(read, self.model, self.split, batch=_CHUNK, precision=self.precision, view=self.view)

    def _compute(self, rows: Tensor, mirrored: Tensor) -> Tensor:
        numbers = rows.numpy()
        read = read_inputs(self.model, self.split.select(numbers), self.view.part(numbers), size=len(rows))
        inputs = _turned(next(read).map(lambda tensor: tensor.to(self.device)), mirrored.to(self.device))
        with torch.no_grad(), autocast(self.device, self.precision):
            out: Output = self.model(inputs)
        return vectors_at(out, place=self.place).float()


def _turned(inputs: Inputs, mirrored: Tensor) -> Inputs:
    """Mirror images and masks where (B,) is true."""
    flipped, where = inputs.mirrored(), mirrored[:, None, None, None]
    images = torch.where(where, flipped.images, inputs.images)
    if inputs.mask is None or flipped.mask is None:
        return replace(inputs, images=images)
    return replace(inputs, images=images, mask=torch.where(where, flipped.mask, inputs.mask))


def vectors_at(out: Output, *, place: Place) -> Tensor:
    """Return the input of an autoencoder at a place: the feature (B, D) or the map (B, C, h, w)."""
    return out.before_neck if place == "after_pooling" else out.map


# ---- training


AutoencoderLoss = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Maps features, their reconstruction and the rows (B,) of their images to a scalar."""


@dataclass(frozen=True, eq=False)
class AutoencoderTraining:
    """An autoencoder, which is changed in place, and its loss."""

    autoencoder: Autoencoder
    loss: AutoencoderLoss


def fit_autoencoders(
    trainings: Sequence[AutoencoderTraining],
    source: FeatureSource,
    *,
    epochs: int,
    batch: int,
    lr: float,
    seed: int,
    milestones: Sequence[int] = (),
) -> None:
    """Train autoencoders by Adam, each with its own loss, on the same batches; none depends on the others.

    Args:
        trainings: the autoencoders with their losses.
        source: the features.
        epochs: number of passes over the images.
        batch: images per step.
        lr: learning rate.
        seed: seed of the order and of the mirroring.
        milestones: epochs at which the learning rate falls to a tenth.

    Differs from the paper: Adam in place of Adadelta.

    """
    generator = torch.Generator().manual_seed(seed)
    optimisers = [torch.optim.Adam(training.autoencoder.parameters(), lr=lr, fused=True) for training in trainings]
    for epoch in range(epochs):
        for optimiser in optimisers:
            set_lr(optimiser, lr * 0.1 ** sum(epoch >= at for at in milestones))
        order = torch.randperm(len(source), generator=generator)
        mirrored = torch.rand(len(source), generator=generator) < 0.5
        for rows in order.split(batch):
            x = source(rows, mirrored[rows])
            for training, optimiser in zip(trainings, optimisers, strict=True):
                _step(training, optimiser, x, rows)


def _step(training: AutoencoderTraining, optimiser: torch.optim.Optimizer, x: Tensor, rows: Tensor) -> None:
    parameters = list(training.autoencoder.parameters())
    _, reconstruction = training.autoencoder(x)
    # not backward(), which would also reach modules within the loss, such as a classifier
    gradients = torch.autograd.grad(training.loss(x, reconstruction, rows), parameters)
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.grad = gradient
    optimiser.step()


# ---- quality


@dataclass(frozen=True)
class Fit:
    """Quality of an autoencoder, over all images and their mirror images.

    Attributes:
        error: mean squared error of the reconstruction.
        variance: variance over images of each number of the features, averaged over numbers.
        code_variance: the same of the code.
        rebuilt_variance: the same of the reconstruction.

    """

    error: float
    variance: float
    code_variance: float
    rebuilt_variance: float

    @property
    def explained(self) -> float:
        """R squared, the share of explained variance; 0 is that of the mean."""
        return 1 - self.error / max(self.variance, 1e-12)

    @property
    def liveliness(self) -> float:
        """Variance of the reconstruction as a share of that of the features; near 0, it does not depend on the image.

        Unlike the variance of the code it has no unit, so it does not depend on the scale of the features and the
        activation; and unlike R squared it ignores a constant offset of the decoder.
        """
        return self.rebuilt_variance / max(self.variance, 1e-12)


class _Moments:
    """The mean and the variance of each number of a vector or map, from batches."""

    def __init__(self) -> None:
        self.count = 0
        self.sums: list[Tensor] = []

    def add(self, x: Tensor) -> None:
        x = x.double()
        sums = [x.sum(dim=0), x.square().sum(dim=0)]
        self.sums = [before + more for before, more in zip(self.sums, sums, strict=True)] if self.count else sums
        self.count += len(x)

    @property
    def square(self) -> float:
        """Mean of the squares, over all numbers."""
        return float(self.sums[1].mean()) / self.count

    @property
    def variance(self) -> float:
        mean, square = (total / self.count for total in self.sums)
        return float((square - mean.square()).clamp_min(0).mean())


def measure(autoencoder: Autoencoder, source: FeatureSource) -> Fit:
    """Measure an autoencoder on its training images."""
    features, codes, rebuilt, errors = (_Moments() for _ in range(4))
    with torch.no_grad():
        for rows, mirrored in source.views():
            x = source(rows, mirrored)
            code, reconstruction = autoencoder(x)
            features.add(x)
            codes.add(code)
            rebuilt.add(reconstruction)
            errors.add(reconstruction - x)
    return Fit(errors.square, features.variance, codes.variance, rebuilt.variance)


def output_from(model: Embedder, x: Tensor, *, place: Place, mask: Tensor | None = None) -> Output:
    """Return the output of a model whose vectors or maps are `x`.

    Args:
        model: the model with the pooling and neck that follow.
        x: (B, D) in place of its feature, or (B, C, h, w) in place of its map.
        place: place of `x`.
        mask: (B, 1, H, W) that weights the pooling, or None.

    """
    feature = x if place == "after_pooling" else model.backbone.head(model.pool(x, mask))
    return Output(before_neck=feature, after_neck=model.neck(feature), map=x)


@contextmanager
def reconstructing(model: Embedder, autoencoder: Autoencoder, *, place: Place) -> Iterator[None]:
    """Replace the features of a model by their reconstruction within a block."""

    def rebuild(_: nn.Module, inputs: tuple[Inputs], out: Output) -> Output:
        mask = inputs[0].mask
        with torch.autocast(out.map.device.type, enabled=False):  # as it was trained
            _, reconstruction = autoencoder(vectors_at(out, place=place))
            rebuilt = output_from(model, reconstruction, place=place, mask=mask)
        return replace(out, before_neck=rebuilt.before_neck, after_neck=rebuilt.after_neck)

    handle = model.register_forward_hook(rebuild)
    try:
        yield
    finally:
        handle.remove()
