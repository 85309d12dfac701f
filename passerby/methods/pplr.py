"""Part-based pseudo-label refinement: pseudo-labels are smoothed by the agreement of whole images and their stripes.

A stripe with other neighbours than the whole image carries little about the label, so its label is smoothed; and the
predictions of the stripes refine the label of the whole image.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, ClassVar

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

from passerby.clustering.algorithms import AnyClustering, DbscanSettings
from passerby.distances.nearest import smallest
from passerby.losses.camera_proxies import other_camera_losses
from passerby.losses.loss import class_means
from passerby.losses.mining import to_full_precision
from passerby.losses.mix import LossTerm
from passerby.losses.triplet import triplet_loss
from passerby.methods.camera_proxies import number_proxies, require_two_cameras
from passerby.methods.clustered import Clustered, ClusteredSettings, unit, unlabelled_rows
from passerby.methods.heads import HeadList
from passerby.methods.settings import RecipeView, StageView
from passerby.models.embedder import bnneck
from passerby.types import UNKNOWN, Batch, Floats, Ints, Output

if TYPE_CHECKING:
    from passerby.training.context import MethodContext

_BLOCK = 1024
TEMPERATURE = 0.07
"""Divisor of the cosines with camera proxies, as published."""


def cross_agreement(whole: Floats, part: Floats, *, neighbours: int = 20, device: str = "cpu") -> Floats:
    """Return (N,) the overlap (IoU) in [0, 1] of each image's nearest neighbours by one vector and by another.

    Args:
        whole: (N, D) of unit length.
        part: (N, D) of unit length.
        neighbours: number of neighbours, the image itself included.
        device: device of the matrix products.

    Reference: Cho et al., "Part-based Pseudo Label Refinement for Unsupervised Person Re-identification", CVPR 2022,
    equation 3.
    """
    first, second = (_nearest(each, min(neighbours, len(each)), device=device) for each in (whole, part))
    shared = np.array([np.isin(row, other).sum() for row, other in zip(first, second, strict=True)], np.float32)
    overlaps: Floats = shared / (2 * first.shape[1] - shared)  # intersection / union
    return overlaps


def _nearest(vectors: Floats, count: int, *, device: str) -> Ints:
    """Return (N, count) the rows of the nearest neighbours of vectors (N, D), each row itself first."""
    rows, blocks = torch.from_numpy(vectors).to(device), range(0, len(vectors), _BLOCK)
    nearest = [smallest(1 - rows[at : at + _BLOCK] @ rows.T, count, own=at)[0] for at in blocks]
    return np.concatenate(nearest)


def smoothed_by_agreement(logits: Tensor, labels: Tensor, agreement: Tensor) -> Tensor:
    """Return the mean of C CE(p, y) + (1 - C) KL(u || p), with u uniform over all identities.

    Args:
        logits: (B, K).
        labels: (B,) int64 in [0, K).
        agreement: (B,) the C of each image, in [0, 1].

    Reference: Cho et al., CVPR 2022, equation 5.
    """
    log_p = logits.log_softmax(dim=1)
    uniform = -log_p.mean(dim=1) - torch.log(torch.tensor(float(logits.shape[1])))  # KL(u || p)
    return (agreement * F.nll_loss(log_p, labels, reduction="none") + (1 - agreement) * uniform).mean()


def refined_by_parts(logits: Tensor, parts: Tensor, labels: Tensor, agreement: Tensor, *, trust: float = 0.5) -> Tensor:
    """Return the mean cross-entropy against labels refined by the predictions of the stripes.

    Args:
        logits: (B, K) of whole images.
        parts: (B, P, K) of their stripes; no gradient goes there.
        labels: (B,) int64 in [0, K).
        agreement: (B, P) in [0, 1]; its softmax weights the stripes.
        trust: share of the pseudo-label, in [0, 1].

    Reference: Cho et al., CVPR 2022, equations 6 and 7.
    """
    weights = agreement.softmax(dim=1)[:, :, None]  # (B, P, 1)
    ensemble = (weights * parts.detach().softmax(dim=2)).sum(dim=1)  # (B, K)
    target = trust * F.one_hot(labels, logits.shape[1]).to(ensemble.dtype) + (1 - trust) * ensemble
    return -(target * logits.log_softmax(dim=1)).sum(dim=1).mean()


class PplrSettings(ClusteredSettings):
    """Part-based pseudo-label refinement (Cho et al., CVPR 2022)."""

    trains_alone: ClassVar[bool] = True
    needs_stripes: ClassVar[int | None] = 3
    any_stripes: ClassVar[bool] = True

    cluster: AnyClustering = DbscanSettings(eps=0.5)
    neighbours: Annotated[int, Field(ge=2)] = Field(20, description="nearest neighbours whose overlap is the agreement")
    trust: Annotated[float, Field(ge=0, le=1)] = Field(
        0.5, description="share of the pseudo-label in the refined label of a whole image"
    )
    from_epoch: Annotated[int, Field(ge=0)] = Field(
        5, description="first epoch, from 0, in which the labels of stripes are smoothed"
    )
    triplet: Annotated[float, Field(ge=0)] = Field(1.0, description="weight of the soft-margin triplet of whole images")
    camera_weight: Annotated[float, Field(ge=0)] = Field(
        0.0,
        description="weight of the contrast of whole images, and of stripes, with the proxies of their cluster in "
        "other cameras; the form of PPLR with cameras: 0.5, on MSMT17 1",
    )

    def check(self, recipe: RecipeView, stage: StageView) -> None:
        """Require an epoch that smooths the labels of stripes, where its number is set."""
        super().check(recipe, stage)
        is_set = self.from_epoch != type(self).model_fields["from_epoch"].default
        if is_set and self.from_epoch >= stage.epochs:
            raise ValueError(f"method.pplr.from_epoch is {self.from_epoch}, and the stage has {stage.epochs} epochs")


class Pplr(Clustered, settings_class=PplrSettings):
    """PPLR: classifiers of whole images and of stripes that refine each other's labels.

    Reference: Cho et al., "Part-based Pseudo Label Refinement for Unsupervised Person Re-identification", CVPR 2022.
    Differs from the paper: search compares the vectors of whole images. Batch norms of stripes start with the
    statistics of the images in clusters, so that classifiers can start at the means of their inputs.

    """

    settings: PplrSettings
    agreement: Tensor
    proxies: Tensor
    proxy_cluster: Tensor
    proxy_camera: Tensor
    of_image: Tensor

    def __init__(self, settings: PplrSettings) -> None:
        super().__init__(settings)
        self.register_buffer("agreement", torch.empty(0, 0))  # (N, P)
        self.register_buffer("proxies", torch.empty(0, 0, 0))  # (1 + P, R, D) of whole images, then of each stripe
        self.register_buffer("proxy_cluster", torch.empty(0, dtype=torch.int64))  # (R,)
        self.register_buffer("proxy_camera", torch.empty(0, dtype=torch.int64))  # (R,)
        self.register_buffer("of_image", torch.empty(0, dtype=torch.int64))  # (N,) row of the proxies, -1 = none
        self.necks = nn.ModuleList()
        self.heads = HeadList()  # of the whole, then of each stripe

    def on_stage_start(self, ctx: MethodContext) -> None:
        """Give each stripe a neck.

        Raises:
            UserError: cameras are to be compared, and fewer than two of unlabelled images are known.

        """
        super().on_stage_start(ctx)
        if self.settings.camera_weight:
            require_two_cameras(ctx, method="pplr.camera_weight")
        count = ctx.embedder.settings.stripes
        assert count is not None, "the recipe is checked"
        self.necks = nn.ModuleList(bnneck(ctx.embedder.dimension) for _ in range(count)).to(ctx.device)

    def on_epoch_start(self, ctx: MethodContext, labels: Ints) -> None:
        """Measure the agreement of the stripes, and start all classifiers at the mean directions of the clusters."""
        vectors, known = ctx.vectors(), labels >= 0
        assert vectors.stripes is not None
        raw = [torch.from_numpy(vectors.stripes[:, place]).to(ctx.device) for place in range(len(self.necks))]
        rows = torch.from_numpy(known).to(ctx.device)
        if not len(self.heads):  # the first epoch of the stage
            for neck, stripe in zip(self._all_necks, raw, strict=True):
                _set_statistics(neck, stripe[rows])
        stripes = [_normalised(neck, stripe) for neck, stripe in zip(self._all_necks, raw, strict=True)]
        self.agreement = self._agreement(ctx, stripes).to(ctx.device)
        inputs = [torch.from_numpy(vectors.after_neck).to(ctx.device), *stripes]
        identities = torch.from_numpy(labels[known]).to(ctx.device)
        self.heads = HeadList.from_rows([class_means(F.normalize(each[rows]), identities) for each in inputs])
        if self.settings.camera_weight:
            self._set_proxies(ctx, inputs, labels=labels)
        ctx.log_metrics("pplr", {"mean agreement of stripes": float(self.agreement.mean())})

    def _agreement(self, ctx: MethodContext, stripes: Sequence[Tensor]) -> Tensor:
        """Return (N, P) the agreement of each stripe (N, D) with the vectors of whole images that are clustered."""
        cam, neighbours = ctx.stage.train.cam, self.settings.neighbours
        whole = unit(self.vectors_to_cluster(ctx))
        parts = [unit(self.evened(stripe.cpu().numpy(), cam)) for stripe in stripes]
        columns = [cross_agreement(whole, part, neighbours=neighbours, device=self.device) for part in parts]
        return torch.from_numpy(np.stack(columns, axis=1))

    def _set_proxies(self, ctx: MethodContext, inputs: Sequence[Tensor], *, labels: Ints) -> None:
        """Set the proxies of the epoch to the mean directions of each input (N, D) by cluster and camera."""
        rows = number_proxies(np.where(unlabelled_rows(ctx.stage), labels, UNKNOWN), ctx.stage.train.cam)
        columns = (rows.cluster, rows.camera, rows.of_image)
        self.proxy_cluster, self.proxy_camera, self.of_image = (
            torch.from_numpy(each).to(ctx.device) for each in columns
        )
        has_proxy = self.of_image >= 0
        of_image = self.of_image[has_proxy]
        self.proxies = torch.stack([class_means(F.normalize(each[has_proxy]), of_image) for each in inputs])

    def losses(self, ctx: MethodContext, batch: Batch, out: Output) -> dict[str, LossTerm]:
        """Return the losses of whole images and of stripes, with labels that each refines for the other."""
        assert out.stripes is not None
        settings, labels, agreement = self.settings, batch.labels, self.agreement[batch.index]
        stripes = [neck(out.stripes[:, place].float()) for place, neck in enumerate(self.necks)]
        first, *others = self.heads
        logits = first(out.after_neck.float())
        parts = torch.stack([head(stripe) for head, stripe in zip(others, stripes, strict=True)], dim=1)  # (B, P, K)
        trust = agreement if ctx.epoch >= settings.from_epoch else torch.ones_like(agreement)
        smoothed = [smoothed_by_agreement(parts[:, place], labels, trust[:, place]) for place in range(parts.shape[1])]
        terms = {
            "whole": LossTerm(refined_by_parts(logits, parts, labels, agreement, trust=settings.trust)),
            "stripes": LossTerm(torch.stack(smoothed).mean()),
        }
        if settings.camera_weight and len(self.proxy_cluster):  # else no image of a cluster has a known camera
            terms["other cameras"] = LossTerm(
                self._camera_loss(batch, [out.after_neck, *stripes]), settings.camera_weight
            )
        if settings.triplet:
            features, identities = ctx.gather(out.before_neck, labels, use="mining")
            terms["soft-margin triplet"] = LossTerm(triplet_loss(features, identities, form="soft"), settings.triplet)
        return terms

    def _camera_loss(self, batch: Batch, inputs: Sequence[Tensor]) -> Tensor:
        """Return the contrast of whole images (B, D) plus the mean of that of their stripes, each the mean over B."""
        rows = self.of_image[batch.index]
        columns = (self.proxy_cluster, self.proxy_camera)
        losses = []
        for vectors, proxies in zip(inputs, self.proxies, strict=True):
            directions = F.normalize(to_full_precision(vectors))
            each = other_camera_losses(directions, rows.clamp(min=0), proxies, *columns, temperature=TEMPERATURE)
            losses.append(each.masked_fill(rows < 0, 0).mean())
        return losses[0] + torch.stack(losses[1:]).mean()

    def on_stage_end(self, ctx: MethodContext) -> None:
        """Discard necks, classifiers and proxies."""
        self.necks, self.heads, self.agreement = nn.ModuleList(), HeadList(), self.agreement[:0]
        self.proxies, self.of_image = self.proxies[:, :0], self.of_image[:0]
        self.proxy_cluster, self.proxy_camera = self.proxy_cluster[:0], self.proxy_camera[:0]

    def get_extra_state(self) -> list[int]:
        """Return the dimension of each neck."""
        return [neck.num_features for neck in self._all_necks]

    def set_extra_state(self, state: list[int]) -> None:
        """Build the necks."""
        self.necks = nn.ModuleList(bnneck(dimension) for dimension in state)

    @property
    def _all_necks(self) -> list[_BatchNorm]:
        return [neck for neck in self.necks if isinstance(neck, _BatchNorm)]


def _set_statistics(neck: _BatchNorm, vectors: Tensor) -> None:
    """Set the statistics of an untrained neck to those of vectors (N, D)."""
    assert neck.running_mean is not None
    assert neck.running_var is not None
    neck.running_mean.copy_(vectors.mean(dim=0))
    neck.running_var.copy_(vectors.var(dim=0))


def _normalised(neck: _BatchNorm, vectors: Tensor) -> Tensor:
    """Return vectors (N, D) normalised by a neck as in evaluation."""
    return F.batch_norm(vectors, neck.running_mean, neck.running_var, neck.weight, neck.bias, eps=neck.eps).detach()
