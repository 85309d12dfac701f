"""Camera proxies: each cluster has one vector per camera that sees it, and images are contrasted with these vectors.

A cluster that a single vector represents is that of its most frequent camera. With one proxy per camera, an image is
also pulled to the same person in the other cameras.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar, Self

import numpy as np
import torch
from pydantic import Field, model_validator
from torch import Tensor
from torch.nn import functional as F

from passerby.distances.cameras import lack_of_cameras
from passerby.errors import UserError
from passerby.losses.camera_proxies import (
    ProxyReduction,
    inter_camera_losses,
    intra_camera_losses,
    online_losses,
    other_camera_losses,
    reduced,
)
from passerby.losses.loss import class_means
from passerby.losses.mining import to_full_precision
from passerby.losses.mix import LossTerm
from passerby.methods.clustered import unit, unlabelled_rows
from passerby.methods.memory import moved_rows
from passerby.methods.method import Method
from passerby.methods.settings import BaseMethodSettings, RecipeView, StageView
from passerby.types import UNKNOWN, Batch, Ints, Output, VectorName

if TYPE_CHECKING:
    from passerby.training.context import MethodContext


@dataclass(frozen=True, eq=False)
class ProxyRows:
    """The proxies of a set of images, one for each pair of a cluster and a camera, by cluster and then by camera.

    Attributes:
        of_image: (N,) the proxy of each image, -1 = none.
        cluster: (P,) the cluster of each proxy.
        camera: (P,) its camera.

    """

    of_image: Ints
    cluster: Ints
    camera: Ints


def number_proxies(labels: Ints, cam: Ints) -> ProxyRows:
    """Return the proxies of images (N,) in clusters, -1 = none, and cameras, -1 = unknown.

    >>> number_proxies(np.array([1, 0, 1, -1, 1]), np.array([2, 0, 0, 0, 2])).of_image.tolist()
    [2, 0, 1, -1, 2]
    """
    is_known = (labels >= 0) & (cam != UNKNOWN)
    pairs, rows = np.unique(np.stack([labels[is_known], cam[is_known]], axis=1), axis=0, return_inverse=True)
    of_image = np.full(len(labels), -1)
    of_image[is_known] = rows.reshape(-1)
    return ProxyRows(of_image, pairs[:, 0], pairs[:, 1])


def require_two_cameras(ctx: MethodContext, *, method: str) -> None:
    """Require unlabelled images of two known cameras or more.

    Raises:
        UserError: there are fewer.

    """
    lack = lack_of_cameras(ctx.stage.train.cam[unlabelled_rows(ctx.stage)])
    if lack:
        raise UserError(
            f"method.{method} compares cameras, and in {ctx.stage.name} {lack}: leave it out, or give images "
            "of two cameras or more, with the number of the camera in their file names"
        )


class CameraProxiesSettings(BaseMethodSettings):
    """Camera proxies: CAP (Wang et al., AAAI 2021), O2CAP (TIP 2022), or the camera term of PPLR (CVPR 2022)."""

    unlabelled_only: ClassVar[bool] = True
    trains_alone: ClassVar[bool] = True

    weight: Annotated[float, Field(gt=0)] = Field(1.0, description="weight of the sum of the losses below")
    intra: Annotated[float, Field(ge=0)] = Field(
        0.0, description="weight of the cross-entropy among the proxies of the image's camera; CAP: 1"
    )
    inter: Annotated[float, Field(ge=0)] = Field(
        1.0, description="weight of the contrast with all proxies of the cluster; CAP: 0.5, O2CAP: 1"
    )
    online: Annotated[float, Field(ge=0)] = Field(
        1.0, description="weight of the contrast with the most similar proxies of several cameras; O2CAP: 1"
    )
    other: Annotated[float, Field(ge=0)] = Field(
        0.0, description="weight of the contrast with the proxies of the cluster in other cameras; PPLR: 0.5"
    )
    from_epoch: Annotated[int, Field(ge=0)] = Field(
        0, description="first epoch, from 0, of all losses but intra; CAP: 5"
    )
    temperature: Annotated[float, Field(gt=0)] = 0.07
    negatives: Annotated[int, Field(ge=1)] = Field(50, description="number of the most similar other proxies")
    positives: Annotated[int, Field(ge=1)] = Field(
        3, description="number of cameras whose most similar proxy is a positive, for online"
    )
    balance: Annotated[float, Field(ge=0, le=1)] = Field(
        0.15, description="share of the image, beside that of its proxy, in the similarity to proxies, for online"
    )
    momentum: Annotated[float, Field(ge=0, le=1)] = Field(
        0.2, description="share of a proxy that stays at an update; 1: proxies are fixed within an epoch, as in PPLR"
    )
    reduction: ProxyReduction = Field(
        "cameras",
        description="cameras: mean over the images of a camera, summed over the cameras of a batch; batch: mean of all",
    )
    feature: VectorName = Field("after_neck", description="vector that is compared, at unit length")

    @property
    def idle(self) -> frozenset[str]:
        """The settings of losses without a weight."""
        only_intra = not (self.inter or self.online or self.other)
        online = () if self.online else ("positives", "balance")
        return frozenset([*online, *(("negatives", "from_epoch") if only_intra else ())])

    @model_validator(mode="after")
    def _something_and_nothing_idle(self) -> Self:
        if not (self.intra or self.inter or self.online or self.other):
            raise ValueError("intra, inter, online and other are all 0, and one of them must have a weight")
        for name in sorted(self.idle):
            if getattr(self, name) != type(self).model_fields[name].default:
                raise ValueError(f"{name} has no effect without the losses that it belongs to")
        return self

    def check(self, recipe: RecipeView, stage: StageView) -> None:
        """Require an epoch with each loss that has a weight, and a loss in each epoch."""
        if self.from_epoch >= stage.epochs:
            raise ValueError(
                f"{self.key(stage)}.from_epoch is {self.from_epoch}, and the stage has {stage.epochs} epochs"
            )
        others = [method for method in stage.method.chosen.values() if method is not self]
        has_loss = self.intra or stage.losses.chosen or any(method.adds_loss != "never" for method in others)
        if self.from_epoch and not has_loss:
            raise ValueError(f"{self.key(stage)}.from_epoch leaves the epochs before it without a loss; set intra")


class CameraProxies(Method, settings_class=CameraProxiesSettings):
    """A memory of one vector per cluster and camera, beside a method that assigns labels.

    Labelled source images, images in no cluster and images of unknown camera have no part in it. Where labels have
    several views, the first one counts.

    Reference: Wang, Lai, Huang, Zhou, Tan, "Camera-aware Proxies for Unsupervised Person Re-Identification", AAAI 2021;
    Wang et al., "Offline-Online Associated Camera-Aware Proxies for Unsupervised Person Re-identification", IEEE TIP
    2022; of `other`: Cho et al., "Part-based Pseudo Label Refinement for Unsupervised Person Re-identification", CVPR
    2022.
    Differs from the papers: batches are dealt by clusters (`data.sampler`), where CAP and O2CAP draw 4 images of each
    of 8 proxies; proxies are updated after the step, and not within the backward pass; of PPLR, whole images
    alone (`pplr.cameras` has stripes too).

    """

    settings: CameraProxiesSettings
    proxies: Tensor
    clusters: Tensor
    cameras: Tensor
    of_image: Tensor

    def __init__(self, settings: CameraProxiesSettings) -> None:
        super().__init__(settings)
        self.register_buffer("proxies", torch.empty(0, 0))  # (P, D) of unit length
        self.register_buffer("clusters", torch.empty(0, dtype=torch.int64))  # (P,)
        self.register_buffer("cameras", torch.empty(0, dtype=torch.int64))  # (P,)
        self.register_buffer("of_image", torch.empty(0, dtype=torch.int64))  # (N,) -1 = none

    def on_stage_start(self, ctx: MethodContext) -> None:
        """Check the cameras.

        Raises:
            UserError: fewer than two cameras of unlabelled images are known.

        """
        require_two_cameras(ctx, method="camera_proxies")

    def on_epoch_start(self, ctx: MethodContext, labels: Ints) -> None:
        """Set the proxies to the mean directions of the images of each cluster and camera.

        Raises:
            UserError: no image of a cluster has a known camera.

        """
        identities = labels if labels.ndim == 1 else labels[:, 0]
        rows = number_proxies(np.where(unlabelled_rows(ctx.stage), identities, -1), ctx.stage.train.cam)
        if not len(rows.cluster):
            raise UserError(f"method.camera_proxies: no image of {ctx.stage.name} in a cluster has a known camera")
        has_proxy = rows.of_image >= 0
        vectors = torch.from_numpy(unit(ctx.vectors().vector(self.settings.feature)[has_proxy]))
        self.proxies = class_means(vectors, torch.from_numpy(rows.of_image[has_proxy])).to(ctx.device)
        columns = (rows.cluster, rows.camera, rows.of_image)
        self.clusters, self.cameras, self.of_image = (torch.from_numpy(each).to(ctx.device) for each in columns)
        _, sizes = np.unique(rows.cluster, return_counts=True)
        figures = {"proxies": float(len(rows.cluster)), "share of clusters in one camera": float((sizes == 1).mean())}
        ctx.log_metrics("camera proxies", figures)

    def losses(self, ctx: MethodContext, batch: Batch, out: Output) -> dict[str, LossTerm]:
        """Return the losses of the images with a proxy."""
        vectors, index = ctx.gather(out.vector(self.settings.feature), batch.index, use="mean")
        settings, rows = self.settings, self.of_image[index]
        weights = {"intra-camera": settings.intra}
        if ctx.epoch >= settings.from_epoch:
            weights |= {"inter-camera": settings.inter, "online": settings.online, "other cameras": settings.other}
        weights = {name: settings.weight * weight for name, weight in weights.items() if weight}
        has_proxy = rows >= 0
        if not bool(has_proxy.any()):
            return {name: LossTerm(vectors.sum() * 0, weight) for name, weight in weights.items()}
        unit_vectors, rows = F.normalize(to_full_precision(vectors[has_proxy])), rows[has_proxy]
        return {
            name: LossTerm(
                reduced(self._losses(name, unit_vectors, rows), self.cameras[rows], reduction=settings.reduction),
                weight,
            )
            for name, weight in weights.items()
        }

    def _losses(self, name: str, vectors: Tensor, rows: Tensor) -> Tensor:
        """Return one loss of images (B, D) with proxies (B,), of each image (B,)."""
        settings, proxies = self.settings, self.proxies
        temperature, negatives = settings.temperature, settings.negatives
        if name == "intra-camera":
            return intra_camera_losses(vectors, rows, proxies, self.cameras, temperature=temperature)
        if name == "inter-camera":
            return inter_camera_losses(
                vectors, rows, proxies, self.clusters, temperature=temperature, negatives=negatives
            )
        if name == "other cameras":
            return other_camera_losses(
                vectors, rows, proxies, self.clusters, self.cameras, temperature=temperature, negatives=negatives
            )
        return online_losses(
            *(vectors, rows, proxies, self.cameras),
            temperature=temperature,
            positives=settings.positives,
            negatives=negatives,
            balance=settings.balance,
        )

    def after_step(self, ctx: MethodContext, batch: Batch, out: Output) -> None:
        """Update the proxies by the vectors of the batch."""
        if self.settings.momentum == 1:
            return
        vectors, index = ctx.gather(out.vector(self.settings.feature), batch.index)
        rows = self.of_image[index]
        vectors, rows = vectors[rows >= 0], rows[rows >= 0]
        self.proxies = moved_rows(self.proxies, vectors, rows, momentum=self.settings.momentum)

    def on_stage_end(self, ctx: MethodContext) -> None:
        """Discard the proxies."""
        self.proxies, self.of_image = self.proxies[:0], self.of_image[:0]
        self.clusters, self.cameras = self.clusters[:0], self.cameras[:0]
