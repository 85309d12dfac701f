"""Clothes-based adversarial loss (CAL): features from which the clothes of a person cannot be told.

A classifier of clothes, with an optimiser of its own, learns the clothes of the batch. Then the features are trained so
that this classifier spreads its answer over all clothes of the person, instead of those that are worn.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, ClassVar

import numpy as np
import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from passerby.errors import UserError
from passerby.losses.mining import to_full_precision
from passerby.losses.mix import LossTerm
from passerby.methods.method import Method
from passerby.methods.settings import BaseMethodSettings, RecipeView, StageView
from passerby.types import UNKNOWN, Batch, Output, Split, VectorName

if TYPE_CHECKING:
    from passerby.training.context import MethodContext

Positive = Annotated[float, Field(gt=0)]
BETAS, EPS = (0.9, 0.999), 1e-8
"""Of Adam, as torch has them."""


def clothes_classes(train: Split) -> tuple[Tensor, Tensor]:
    """Return the class (N,) of the clothes of each image, -1 = unknown, and the identity (K,) of each class.

    The same number of two identities is two classes.

    Raises:
        UserError: there is no column of clothes, or no identity is shown in two clothes.

    """
    if train.clothes is None:
        raise UserError(
            "method.cal needs to know the clothes of the training images, and there is no column 'clothes'; train on a "
            "data set that has it (prcc, ltcc, ccvid, or a table with that column), or leave method.cal out"
        )
    known = np.flatnonzero((train.clothes != UNKNOWN) & (train.pid != UNKNOWN))
    pairs, place = np.unique(np.stack([train.pid[known], train.clothes[known]], axis=1), axis=0, return_inverse=True)
    if len(np.unique(pairs[:, 0])) == len(pairs):
        raise UserError(
            "method.cal has no effect: no identity of the training images is shown in two known clothes; leave it out"
        )
    classes = np.full(len(train), UNKNOWN)
    classes[known] = place.ravel()
    return torch.from_numpy(classes), torch.from_numpy(pairs[:, 0].copy())


def adversarial_clothes_loss(logits: Tensor, labels: Tensor, identities: Tensor, *, epsilon: float = 0.1) -> Tensor:
    """Return the mean over images of -sum_c q_c log(e^z_c / (e^z_c + sum_n e^z_n)).

    c runs over all clothes of the person and n over those of other people, so that other clothes of the person are not
    in the denominator. q is 1 - epsilon + epsilon / |P| for the clothes that are worn and epsilon / |P| for the others.

    Args:
        logits: (B, K) z, for example 16 x cosine.
        labels: (B,) clothes that are worn, in [0, K).
        identities: (K,) the person of each class of clothes.
        epsilon: weight that is spread over all clothes of the person, in [0, 1].

    Reference: Gu et al., "Clothes-Changing Person Re-identification with RGB Modality Only", CVPR 2022, equation 7.

    """
    logits = to_full_precision(logits)
    same = identities[labels][:, None] == identities[None, :]  # (B, K)
    others = logits.masked_fill(same, -torch.inf).logsumexp(dim=1, keepdim=True)  # (B, 1)
    losses = F.softplus(others - logits)  # -log(e^z / (e^z + sum of the others))
    weights = epsilon * same / same.sum(dim=1, keepdim=True)
    weights = weights + (1 - epsilon) * F.one_hot(labels, logits.shape[1])
    return (weights * losses).sum(dim=1).mean()


class CalSettings(BaseMethodSettings):
    """Clothes-based adversarial loss (Gu et al., CVPR 2022), where the clothes of training images are known."""

    labelled_only: ClassVar[bool] = True

    weight: Positive = 1.0
    feature: VectorName = "after_neck"
    start: Annotated[int, Field(ge=0)] = Field(25, description="epochs before the classifier of clothes is trained")
    scale: Positive = Field(16.0, description="scale of the cosines of features and clothes")
    epsilon: Annotated[float, Field(ge=0, le=1)] = Field(0.1, description="weight spread over all clothes of a person")
    lr: Positive = Field(3.5e-4, description="learning rate of the classifier of clothes (Adam), constant")
    weight_decay: Annotated[float, Field(ge=0)] = Field(5e-4, description="weight decay of the classifier of clothes")

    def check(self, recipe: RecipeView, stage: StageView) -> None:
        """Require epochs after those before the start."""
        if self.start >= stage.epochs:
            raise ValueError(
                f"{self.key(stage)}.start is {self.start}, and stage {stage.title!r} has {stage.epochs} epochs, so it "
                "would have no effect; set start below the number of epochs"
            )


class Cal(Method, settings_class=CalSettings):
    """CAL: in each step the classifier of clothes first, on fixed features, and then the loss of the features by it.

    Reference: Gu et al., "Clothes-Changing Person Re-identification with RGB Modality Only", CVPR 2022.
    Differs from the published code: images of unknown clothes are left out of both.

    """

    settings: CalSettings
    rows: Tensor
    mean: Tensor
    square: Tensor
    step: Tensor

    def __init__(self, settings: CalSettings) -> None:
        super().__init__(settings)
        for name in ("rows", "mean", "square"):  # (K, D) of the classifier, and the moments of its Adam
            self.register_buffer(name, torch.empty(0, 0))
        self.register_buffer("step", torch.zeros((), dtype=torch.int64))
        self._table: tuple[Split, Tensor, Tensor] | None = None

    def on_stage_start(self, ctx: MethodContext) -> None:
        """Make a classifier for the clothes of the stage."""
        _, identities = self._classes(ctx)
        generator = torch.Generator().manual_seed(ctx.seed)
        rows = torch.empty(len(identities), ctx.embedder.dimension).normal_(std=0.001, generator=generator)
        self.rows = rows.to(ctx.device)
        self.mean, self.square = torch.zeros_like(self.rows), torch.zeros_like(self.rows)
        self.step.zero_()

    def losses(self, ctx: MethodContext, batch: Batch, out: Output) -> dict[str, LossTerm]:
        """Train the classifier of clothes by a step, and return the loss of the features; none before the start."""
        if ctx.epoch < self.settings.start:
            return {}
        classes, identities = self._classes(ctx)
        labels = classes[batch.index.to(classes.device)]
        features, labels = ctx.gather(out.vector(self.settings.feature), labels, use="mean")
        known = labels != UNKNOWN
        if not bool(known.any()):
            return {}
        features, labels = features[known], labels[known]
        self._train_classifier(features.detach(), labels)
        logits = self._logits(features, self.rows)
        loss = adversarial_clothes_loss(logits, labels, identities, epsilon=self.settings.epsilon)
        return {"clothes": LossTerm(loss, self.settings.weight)}

    def _train_classifier(self, features: Tensor, labels: Tensor) -> None:
        """Go a step of Adam on the cross-entropy of the clothes, the same in all processes."""
        with torch.enable_grad():
            rows = self.rows.clone().requires_grad_()
            loss = F.cross_entropy(self._logits(features, rows), labels)
            (gradient,) = torch.autograd.grad(loss, rows)
        gradient = gradient + self.settings.weight_decay * self.rows
        self.step += 1
        count, (first, second) = int(self.step), BETAS
        # the forward pass holds the rows of before, so the new ones take their place instead of changing them
        self.mean = self.mean.lerp(gradient, 1 - first)
        self.square = second * self.square + (1 - second) * gradient**2
        scale = (self.square.sqrt() / math.sqrt(1 - second**count)).add(EPS)
        self.rows = self.rows - self.settings.lr / (1 - first**count) * self.mean / scale

    def _logits(self, features: Tensor, rows: Tensor) -> Tensor:
        """Return scale x cosine, (B, K)."""
        return self.settings.scale * F.normalize(to_full_precision(features)) @ F.normalize(rows).T

    def _classes(self, ctx: MethodContext) -> tuple[Tensor, Tensor]:
        """Return `clothes_classes` of the stage on the device, made once."""
        if self._table is None or self._table[0] is not ctx.stage.train:
            classes, identities = clothes_classes(ctx.stage.train)
            self._table = ctx.stage.train, classes.to(ctx.device), identities.to(ctx.device)
        return self._table[1:]
