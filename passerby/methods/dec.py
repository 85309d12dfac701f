"""Deep embedded clustering: images are softly assigned to centres, and the assignments are sharpened."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, Self

import numpy as np
import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from passerby.clustering.algorithms import KmeansSettings
from passerby.errors import UserError
from passerby.losses.mining import to_full_precision
from passerby.losses.mix import LossTerm
from passerby.methods.clustered import unit, unlabelled_rows
from passerby.methods.method import Method
from passerby.methods.settings import BaseMethodSettings
from passerby.types import Batch, Doubles, Floats, Ints, Output, VectorName

if TYPE_CHECKING:
    from passerby.training.context import MethodContext

SMALLEST = 1e-12


def log_assignment(z: Tensor, centres: Tensor, *, alpha: float = 1.0) -> Tensor:
    """Return (B, K) log q: the soft assignment of each image to each centre, by Student's t of the distance.

    q_ij is (1 + |z_i - c_j|^2 / alpha) ^ (-(alpha + 1) / 2), divided by its sum over the centres.

    Args:
        z: (B, D).
        centres: (K, D).
        alpha: degrees of freedom, > 0; more of them make near and far differ more.

    Reference: Xie, Girshick, Farhadi, "Unsupervised Deep Embedding for Clustering Analysis", ICML 2016, equation 1.

    >>> log_assignment(torch.zeros(1, 1), torch.tensor([[0.0], [1.0]])).exp()
    tensor([[0.6667, 0.3333]])
    """
    z, centres = to_full_precision(z), to_full_precision(centres)
    products = z @ centres.T
    squared = z.square().sum(dim=1, keepdim=True) + centres.square().sum(dim=1) - 2 * products  # (B, K)
    return F.log_softmax(-(alpha + 1) / 2 * torch.log1p(squared.clamp_min(0) / alpha), dim=1)


def target_distribution(q: Tensor) -> Tensor:
    """Return (N, K) p: the squared assignments divided by the sum of each centre, each row summing to 1.

    Args:
        q: (N, K) assignments, of a batch or of a whole set.

    Reference: Xie et al., ICML 2016, equation 3.

    >>> target_distribution(torch.tensor([[0.75, 0.25], [0.25, 0.75]]))
    tensor([[0.9000, 0.1000],
            [0.1000, 0.9000]])
    """
    shares = q.square() / q.sum(dim=0).clamp_min(SMALLEST)
    return shares / shares.sum(dim=1, keepdim=True).clamp_min(SMALLEST)


def dec_loss(log_q: Tensor, p: Tensor) -> Tensor:
    """Return the divergence KL(P || Q) of assignments from their target, its mean over the images.

    Args:
        log_q: (B, K) logarithms of assignments.
        p: (B, K) targets, without a gradient.

    Reference: Xie et al., ICML 2016, equation 2.
    Differs from the paper: divided by B.
    """
    return F.kl_div(log_q, p.detach(), reduction="batchmean")


def reseeded(centres: Tensor, z: Tensor) -> tuple[Tensor, int]:
    """Return the centres (K, D), with empty ones moved onto the farthest images, and the number of these.

    Args:
        centres: (K, D).
        z: (N, D), N >= K.

    >>> reseeded(torch.tensor([[0.0], [9.0]]), torch.tensor([[0.0], [1.0], [3.0]]))
    (tensor([[0.],
            [3.]]), 1)
    """
    distance, nearest = torch.cdist(z, centres).min(dim=1)
    empty = torch.bincount(nearest, minlength=len(centres)) == 0
    count = int(empty.sum())
    moved = centres.clone()
    moved[empty] = z[distance.argsort(descending=True, stable=True)[:count]]
    return moved, count


def principal_axes(vectors: Floats, count: int) -> tuple[Floats, Floats]:
    """Return the mean (D,) of vectors (N, D) and their `count` axes of largest variance (D, count), largest first."""
    mean: Doubles = vectors.mean(axis=0, dtype=np.float64)
    around = vectors - mean
    _, axes = np.linalg.eigh(around.T @ around)  # ascending
    return mean.astype(np.float32), np.ascontiguousarray(axes[:, ::-1][:, :count], dtype=np.float32)


class DecSettings(BaseMethodSettings):
    """Deep embedded clustering (Xie et al., ICML 2016): soft assignments to centres are sharpened."""

    unlabelled_only: ClassVar[bool] = True
    trains_alone: ClassVar[bool] = True

    weight: Annotated[float, Field(gt=0)] = Field(1.0, description="weight of the clustering loss")
    k: Annotated[int, Field(ge=2)] | None = Field(
        None, description="number of centres of k-means in the first epoch; null = the clusters of every epoch"
    )
    restarts: Annotated[int, Field(ge=1)] = Field(20, description="restarts of k-means")
    alpha: Annotated[float, Field(gt=0)] = Field(1.0, description="degrees of freedom of Student's t")
    scope: Literal["dataset", "batch"] = Field(
        "dataset", description="images whose assignments make the target distribution"
    )
    centres: Literal["learn", "fixed"] = Field("learn", description="whether centres are trained within an epoch")
    feature: VectorName = Field("after_neck", description="vector that is assigned, at unit length")
    dimension: Annotated[int, Field(ge=2)] | None = Field(
        None, description="number of principal axes on which vectors are projected first; null = no projection"
    )
    scale: Annotated[float, Field(gt=0)] = Field(
        5.0, description="factor of the projected vectors, since Student's t has a width of 1"
    )

    @property
    def idle(self) -> frozenset[str]:
        """The restarts, where there is no k-means."""
        return frozenset({"restarts"}) if self.k is None else frozenset()

    @model_validator(mode="after")
    def _nothing_idle(self) -> Self:
        if "restarts" in self.idle and self.restarts != type(self).model_fields["restarts"].default:
            raise ValueError("restarts has no effect without k")
        return self


class Dec(Method, settings_class=DecSettings):
    """Deep embedded clustering beside a method that assigns labels, whose clusters are the centres unless `k` is set.

    Labelled source images have no part in it. The targets of a whole data set are made at the start of
    every epoch and held until the next: 4 N K bytes.

    Reference: Xie, Girshick, Farhadi, "Unsupervised Deep Embedding for Clustering Analysis", ICML 2016.
    Differs from the paper: there is no autoencoder; vectors have length 1 and are stretched, since at the length of
    re-identification features every image is as good as equally far from all centres; images that the labels leave out
    are not assigned; a centre without images is put where images are farthest from any; targets are made once per epoch
    over the whole set, or in each batch over the batch (`scope`), and not after so many steps; a stage has the epochs
    that it is given, and does not stop when less than 0.1 % of the labels change.

    """

    settings: DecSettings
    centres: nn.Parameter
    target: Tensor
    is_assigned: Tensor
    mean: Tensor
    axes: Tensor

    def __init__(self, settings: DecSettings) -> None:
        super().__init__(settings)
        self._set_centres(torch.empty(0, 0))
        self.register_buffer("target", torch.empty(0, 0))  # (N, K) where the scope is the whole set
        self.register_buffer("is_assigned", torch.empty(0, dtype=torch.bool))  # (N,)
        self.register_buffer("mean", torch.empty(0))  # (D,)
        self.register_buffer("axes", torch.empty(0, 0))  # (D, d)

    def on_stage_start(self, ctx: MethodContext) -> None:
        """Check the number of principal axes.

        Raises:
            UserError: the vectors have fewer dimensions.

        """
        count, available = self.settings.dimension, ctx.embedder.dimension
        if count is not None and count > available:
            raise UserError(
                f"method.dec.dimension is {count}, and the vectors of this model have {available} dimensions"
            )

    def get_extra_state(self) -> bool:
        """Return whether the centres are trained; empty ones are not."""
        return self.centres.requires_grad

    def set_extra_state(self, state: bool) -> None:
        """Train the centres, or not."""
        self.centres.requires_grad_(state)

    @property
    def no_weight_decay(self) -> list[nn.Parameter]:
        """The centres, which need not be near 0."""
        return [self.centres]

    def on_epoch_start(self, ctx: MethodContext, labels: Ints) -> None:
        """Set the centres, move those without images, and set the targets of the epoch."""
        identities = labels if labels.ndim == 1 else labels[:, 0]
        rows = (identities >= 0) & unlabelled_rows(ctx.stage)
        vectors = unit(ctx.vectors().vector(self.settings.feature)[rows])
        if self.settings.k is None or not len(self.centres):
            self._project_by(vectors, ctx.device)
            self._set_centres(self._means(vectors, identities[rows], ctx))
        z = self._projected(torch.from_numpy(vectors).to(ctx.device))
        if len(z) < len(self.centres):
            raise UserError(
                f"method.dec has {len(self.centres):,} centres, and only {len(z):,} images are in clusters; choose a "
                "smaller method.dec.k, or clusters that leave fewer images out"
            )
        with torch.no_grad():
            moved, count = reseeded(self.centres, z)
            self.centres.copy_(moved)
            q = log_assignment(z, self.centres, alpha=self.settings.alpha).exp()
        self.is_assigned = torch.from_numpy(rows).to(ctx.device)
        if self.settings.scope == "dataset":
            self.target = q.new_zeros(len(rows), len(self.centres))
            self.target[self.is_assigned] = target_distribution(q)
        figures = {"centres": float(len(self.centres)), "put elsewhere": float(count)}
        ctx.log_metrics("dec", {**figures, "mean largest assignment": float(q.amax(dim=1).mean())})

    def losses(self, ctx: MethodContext, batch: Batch, out: Output) -> dict[str, LossTerm]:
        """Return the divergence of the assignments of the batch from their targets."""
        vectors = out.vector(self.settings.feature)
        vectors, index = ctx.gather(vectors, batch.index, use="mean")
        assigned = self.is_assigned[index]
        if not bool(assigned.any()):
            return {"dec": LossTerm(vectors.sum() * 0, self.settings.weight)}
        z = self._projected(F.normalize(to_full_precision(vectors[assigned])))
        log_q = log_assignment(z, self.centres, alpha=self.settings.alpha)
        whole = self.settings.scope == "dataset"
        p = self.target[index[assigned]] if whole else target_distribution(log_q.detach().exp())
        return {"dec": LossTerm(dec_loss(log_q, p), self.settings.weight)}

    def on_stage_end(self, ctx: MethodContext) -> None:
        """Discard centres and targets."""
        self._set_centres(torch.empty(0, 0))
        self.target, self.is_assigned = torch.empty(0, 0), torch.empty(0, dtype=torch.bool)
        self.mean, self.axes = torch.empty(0), torch.empty(0, 0)

    def _project_by(self, vectors: Floats, device: torch.device) -> None:
        if self.settings.dimension is not None:
            mean, axes = principal_axes(vectors, self.settings.dimension)
            self.mean, self.axes = torch.from_numpy(mean).to(device), torch.from_numpy(axes).to(device)

    def _projected(self, vectors: Tensor) -> Tensor:
        """Return vectors (B, D) of unit length as they are assigned, (B, d)."""
        z = vectors if self.settings.dimension is None else (vectors - self.mean) @ self.axes
        return z * self.settings.scale

    def _means(self, vectors: Floats, labels: Ints, ctx: MethodContext) -> Tensor:
        """Return the means (K, d) of the clusters of labels (M,), or of those of k-means where `k` is set."""
        if self.settings.k is not None:
            kmeans = KmeansSettings(k=self.settings.k, restarts=self.settings.restarts, seed=ctx.seed % 2**32)
            labels = kmeans.fit(vectors, device=str(ctx.device)).labels
        clusters = torch.from_numpy(np.unique(labels, return_inverse=True)[1]).to(ctx.device)
        z = self._projected(torch.from_numpy(vectors).to(ctx.device))
        sums = z.new_zeros(int(clusters.max()) + 1, z.shape[1]).index_add(0, clusters, z)
        return sums / torch.bincount(clusters)[:, None]

    def _set_centres(self, centres: Tensor) -> None:
        """Set the centres (K, d); empty ones are not trained, so that a resumed optimiser has the same parameters."""
        learns = self.settings.centres == "learn" and centres.numel() > 0
        self.centres = nn.Parameter(centres, requires_grad=learns)
