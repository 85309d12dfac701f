"""DKP: each image is a Gaussian around its vector, and a Gaussian of each identity is all that later stages keep.

A head predicts a standard deviation for each image. Samples of these distributions are classified and compared with the
vectors of the batch. At the end of a stage its identities become prototypes, a mean and a deviation each; in the next
stage the similarities within a batch follow those between the relations of its images to samples of the prototypes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar, Self, TypedDict

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from passerby.data.transforms import mix_seeds
from passerby.errors import UserError
from passerby.inference.embed import map_images
from passerby.losses.mining import to_full_precision
from passerby.losses.mix import LossTerm
from passerby.methods.consolidation import interpolate_weights
from passerby.methods.distillation import affinity
from passerby.methods.method import Method, frozen
from passerby.methods.settings import BaseMethodSettings, RecipeView, StageView
from passerby.models.embedder import Embedder
from passerby.models.groups import batch_statistics
from passerby.models.pooling import Pool
from passerby.types import Batch, Inputs, Output

if TYPE_CHECKING:
    from passerby.training.context import MethodContext

NonNegative = Annotated[float, Field(ge=0)]

FLOOR = 1e-4
"""The smallest standard deviation."""


# ---- distributions of images


def draw_samples(means: Tensor, deviations: Tensor, noise: Tensor) -> Tensor:
    """Return samples of Gaussians with independent dimensions, of unit length.

    Args:
        means: (B, D) of unit length, or (I, D) means of prototypes.
        deviations: (B, D) standard deviations, >= 0.
        noise: (..., B, D) of the standard normal distribution.

    Returns:
        (..., B, D): the directions of means + noise x deviations.

    >>> draw_samples(torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]]), torch.tensor([[5.0, 1.0]]))
    tensor([[0.7071, 0.7071]])
    """
    return F.normalize(means + noise * deviations, dim=-1)


def set_triplet(samples: Tensor, means: Tensor, labels: Tensor) -> Tensor:
    """Return the mean over samples of softplus(p - n), p and n the distances of the farthest and nearest mean.

    Each sample is an anchor: p is the distance from the farthest mean of its identity, its own image's included, and n
    from the nearest mean of another identity. A batch of one identity gives 0.

    Args:
        samples: (S, B, D) of unit length, S of each image.
        means: (B, D) of unit length.
        labels: (B,) identities.

    Reference: Xu et al., "Distribution-aware Knowledge Prototyping for Non-exemplar Lifelong Person Re-identification"
    (DKP), CVPR 2024 (published code).

    >>> x = torch.eye(2)
    >>> round(set_triplet(x[None], x, torch.tensor([0, 1])).item(), 4)  # ln(1 + exp(0 - sqrt(2)))
    0.2176
    """
    cosines = samples @ means.T  # (S, B, B)
    distances = (2 - 2 * cosines).clamp_min(1e-12).sqrt()  # of vectors of unit length
    same = labels[:, None] == labels[None, :]  # (B, B)
    positive = distances.masked_fill(~same, -torch.inf).amax(dim=2)  # (S, B)
    negative = distances.masked_fill(same, torch.inf).amin(dim=2)  # (S, B)
    return F.softplus(positive - negative).mean()


class DeviationHead(nn.Module):
    """Standard deviations of images from their maps: a convolution, GeM pooling, a linear layer.

    Args:
        channels: C of the maps.
        dimension: length D of the vectors.
        kernel: (height, width) of the convolution, without padding.

    Reference: Xu et al., DKP, CVPR 2024 (published code).
    Differs from the published code: the convolution has 1 x 1 cells by default, where the published 8 x 8 have 67
    million weights for 1,024 channels.

    """

    def __init__(self, channels: int, dimension: int, kernel: tuple[int, int]) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, kernel, bias=False)
        self.pool = Pool("gem")
        self.linear = nn.Linear(channels, dimension)

    @property
    def shape(self) -> list[int]:
        """C, D, and the height and width of the convolution."""
        return [self.conv.in_channels, self.linear.out_features, *self.conv.kernel_size]

    @classmethod
    def of(cls, shape: list[int]) -> Self:
        """Build a head from the `shape` of another one, without values."""
        channels, dimension, height, width = shape
        with torch.device("meta"):
            return cls(channels, dimension, (height, width))

    def forward(self, out: Output, mask: Tensor | None = None) -> Tensor:
        """Map an output to standard deviations (B, D), in [1e-4, 1 + 1e-4]; a mask (B, 1, H, W) weights the pooling."""
        pooled: Tensor = self.pool(self.conv(to_full_precision(out.map)), mask)
        return F.normalize(self.linear(pooled + FLOOR)).relu() + FLOOR


# ---- prototypes


def make_prototypes(means: Tensor, deviations: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and standard deviation (I, D) of each identity's mixture of Gaussians.

    The variance is the mean of the variances of the images plus the variance of their means.

    Args:
        means: (N, D).
        deviations: (N, D).
        labels: (N,) int64, all of 0..I-1.

    Reference: Xu et al., DKP, CVPR 2024 (instance-level to identity-level distribution).

    >>> make_prototypes(torch.tensor([[1.0], [3.0]]), torch.zeros(2, 1), torch.tensor([0, 0]))
    (tensor([[2.]]), tensor([[1.]]))
    """
    counts = labels.bincount()[:, None]  # (I, 1)

    def mean(x: Tensor) -> Tensor:
        return x.new_zeros(len(counts), x.shape[1]).index_add(0, labels, x) / counts

    centres = mean(means)
    variances = mean(deviations.square()) + mean((means - centres[labels]).square())
    return centres, variances.sqrt()


def relation_divergence(x: Tensor, prototypes: Tensor, *, temperature: float = 0.1) -> Tensor:
    """Return KL(affinities of relations | affinities of x), the relation of an image being its softmax over prototypes.

    Two images are near by their relations where both resemble the same earlier identities. Gradients flow through both
    affinities, since both depend on x.

    Args:
        x: (B, D).
        prototypes: (I, D) of unit length.
        temperature: of the relations and of both affinities, T > 0.

    Reference: Xu et al., DKP, CVPR 2024 (prototype-based knowledge transfer; published code).

    """
    directions = F.normalize(x)
    relations = (directions @ prototypes.T / temperature).softmax(dim=1)  # (B, I)
    target = affinity(relations, temperature=temperature)
    log_affinity = (directions @ directions.T / temperature).log_softmax(dim=1)
    return F.kl_div(log_affinity, target, reduction="batchmean")


# ---- settings


class DkpSettings(BaseMethodSettings):
    """Distribution-aware knowledge prototyping (DKP, Xu et al., CVPR 2024; DKP++, Zhou et al., TPAMI 2025)."""

    labelled_only: ClassVar[bool] = True
    transfers: ClassVar[bool] = True
    needs_losses: ClassVar[tuple[str, ...]] = ("softmax",)

    samples: Annotated[int, Field(ge=1)] = Field(6, description="samples of the distribution of each image")
    softmax: NonNegative = Field(
        0.857,
        description="weight of losses.softmax of the samples; published: the mean over each image and its 6 samples, "
        "so 6/7 with losses.softmax.weight 1/7",
    )
    triplet: NonNegative = Field(1.5, description="weight of the triplet of the samples against the vectors")
    joint: NonNegative = Field(
        0.0,
        description="weight of the triplet of the samples of images and of what dask makes of them; DKP++: 0.75",
    )
    relation: NonNegative = Field(
        0.1, description="weight of the similarities by the prototypes of the last stage; DKP++: 1.5"
    )
    temperature: Annotated[float, Field(gt=0)] = Field(0.1, description="temperature of relations and affinities")
    kernel: Annotated[int, Field(ge=1)] = Field(
        1, description="cells, each way, of the convolution that predicts deviations; published: 8 on a map of 16 x 8"
    )

    @model_validator(mode="after")
    def _has_effect(self) -> Self:
        if not (self.softmax or self.triplet or self.joint):
            raise ValueError("give at least one of softmax and triplet a weight above 0, or the samples have no effect")
        return self

    @property
    def reads_memory(self) -> bool:
        """Only the relations compare with prototypes."""
        return bool(self.relation)

    def check(self, recipe: RecipeView, stage: StageView) -> None:
        """Require what `joint` compares with."""
        if self.joint and not any(method.makes_images for method in stage.method.chosen.values()):
            raise ValueError(
                f"{self.key(stage)}.joint compares images with their transfers, and no method of stage "
                f"{stage.title!r} makes any; add method.dask, or set joint to 0"
            )


class _Heads(TypedDict):
    """The shapes of the heads, as plain data, for a resume."""

    head: list[int] | None
    earlier: list[int] | None


class Dkp(Method, settings_class=DkpSettings):
    """Losses of the samples of each image, and of the relations to the identities of the stage before.

    With `dask` the same losses but the relations are added of the transferred images, and `joint` compares the samples
    of an image and of its transfer, and the vector of the image, with the vectors of the transfers. The alignment of
    DKP++ is `affinity` with `images: transferred`, the averaged weights are `average`, the expanding classifier `grow`.

    Reference: Xu et al., "Distribution-aware Knowledge Prototyping for Non-exemplar Lifelong Person Re-identification"
    (DKP), CVPR 2024; Zhou et al., "Distribution-aware Knowledge Aligning and Prototyping for Non-exemplar Lifelong
    Person Re-Identification" (DKP++), TPAMI 2025.
    Differs from the published code: the mean is the feature of the network before the neck, where the published one is
    a linear layer on the third stage of a ResNet without its fourth one; vectors keep their length before the neck,
    where the published ones have length 1; the neck normalises samples by their own statistics, apart from
    the vectors, and its running ones do not follow them; prototypes are taken in `eval` mode.

    """

    settings: DkpSettings
    means: Tensor
    deviations: Tensor

    def __init__(self, settings: DkpSettings) -> None:
        super().__init__(settings)
        self.head: DeviationHead | None = None
        self.earlier: DeviationHead | None = None  # as it was before the stage
        self.register_buffer("means", torch.empty(0, 0))  # (I, D) of the identities of the stage before
        self.register_buffer("deviations", torch.empty(0, 0))  # (I, D)
        self._sampled: tuple[Tensor, Tensor] | None = None  # samples (S, B, D) and vectors (B, D) of the present batch

    def on_stage_start(self, ctx: MethodContext) -> None:
        """Build the head in the first stage, and keep a copy of it in later ones."""
        if self.head is not None:
            self.earlier = frozen(self.head)
            return
        if ctx.has_past and self.settings.relation:
            raise UserError(
                f"method.dkp: no stage before {ctx.stage.name!r} left prototypes, so there are no earlier identities "
                "to compare with; name the method in an earlier stage, or set relation to 0"
            )
        self.head = self._new(ctx)

    def _new(self, ctx: MethodContext) -> DeviationHead:
        """Make a head whose first weights depend on the stage alone."""
        model, kernel = ctx.embedder, self.settings.kernel
        height, width = (kernel, kernel) if kernel == 1 else _map_size(model)
        if kernel > height:
            raise UserError(f"method.dkp.kernel: {kernel} does not fit a map of {height} x {width} cells; use 1")
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(mix_seeds(ctx.seed, 1))
            head = DeviationHead(model.backbone.channels, model.dimension, (kernel, min(kernel, width)))
        return head.to(ctx.device)

    # ---- losses

    def losses(self, ctx: MethodContext, batch: Batch, out: Output) -> dict[str, LossTerm]:
        """Return the losses of the samples, and from the second stage on that of the relations."""
        settings = self.settings
        assert self.head is not None
        vectors, deviations, labels = ctx.gather(
            to_full_precision(out.before_neck), self.head(out, batch.inputs.mask), batch.identities, use="mining"
        )
        means = F.normalize(vectors)
        noise = self._noise(ctx, settings.samples, len(means), means.shape[1], of=0).to(means)
        samples = draw_samples(means, deviations, noise)  # (S, B, D)
        terms = {}
        if settings.softmax:
            terms["dkp softmax"] = LossTerm(self._classify(ctx, samples, vectors, out, labels), settings.softmax)
        if settings.triplet:
            terms["dkp triplet"] = LossTerm(set_triplet(samples, means, labels), settings.triplet)
        if ctx.is_transferred:
            return terms | self._joint(samples, means, labels)
        if settings.joint:
            self._sampled = samples, means
        if settings.relation and len(self.means):
            noise = self._noise(ctx, *self.means.shape, of=1).to(means)
            prototypes = draw_samples(self.means, self.deviations, noise)
            divergence = relation_divergence(vectors, prototypes, temperature=settings.temperature)
            terms["dkp relation"] = LossTerm(divergence, settings.relation)
        return terms

    def _joint(self, samples: Tensor, means: Tensor, labels: Tensor) -> dict[str, LossTerm]:
        """Return the triplet of all samples of images and transfers against the vectors of the transfers."""
        if self._sampled is None:
            return {}
        earlier, vectors = self._sampled
        union = torch.cat([samples, vectors[None], earlier])  # (2S + 1, B, D)
        return {"dkp joint": LossTerm(set_triplet(union, means, labels), self.settings.joint)}

    def _classify(self, ctx: MethodContext, samples: Tensor, vectors: Tensor, out: Output, labels: Tensor) -> Tensor:
        """Return losses.softmax () of the samples, which have the lengths of the vectors (B, D) of their images."""
        scaled = (samples * vectors.detach().norm(dim=1, keepdim=True)).flatten(0, 1)  # (S B, D)
        neck = ctx.embedder.neck
        with batch_statistics(neck):
            after_neck = neck(scaled)
        projected = None if out.projected is None else scaled[:, -out.projected.shape[1] :]
        shown = Output(scaled, after_neck, out.map, projected=projected)
        loss: Tensor = ctx.losses.losses["softmax"](shown, labels.repeat(len(samples)))
        return loss

    def _noise(self, ctx: MethodContext, *shape: int, of: int) -> Tensor:
        """Draw from the standard normal distribution, alike in all processes."""
        seed = mix_seeds(ctx.seed, ctx.epoch, ctx.iteration, of, int(ctx.is_transferred))
        return torch.randn(shape, generator=torch.Generator().manual_seed(seed))

    def after_step(self, ctx: MethodContext, batch: Batch, out: Output) -> None:
        """Let go of the samples of the batch."""
        self._sampled = None

    # ---- the end of a stage

    def interpolate_heads(self, ctx: MethodContext, *, alpha: float) -> None:
        """Set the head to alpha x itself + (1 - alpha) x what it was before the stage."""
        if self.head is not None and self.earlier is not None:
            interpolate_weights(self.head, self.earlier, alpha=alpha)

    def on_stage_end(self, ctx: MethodContext) -> None:
        """Replace the prototypes by those of the identities of the stage, and log how wide the distributions are."""
        train = ctx.stage.train.select(ctx.stage.is_new.nonzero()[0])
        model, head = ctx.tested, self.head
        assert head is not None

        def read(inputs: Inputs) -> Tensor:
            out: Output = model(inputs)
            return torch.stack([F.normalize(to_full_precision(out.before_neck)), head(out, inputs.mask)], dim=1)

        found = torch.from_numpy(map_images(read, model, train, precision=ctx.precision, view=ctx.view(train)))
        labels = torch.from_numpy(train.pid).unique(return_inverse=True)[1]
        self.means, self.deviations = (
            each.to(ctx.device) for each in make_prototypes(found[:, 0], found[:, 1], labels)
        )
        spreads = {"deviation of images": found[:, 1], "deviation of prototypes": self.deviations}
        ctx.log_metrics("dkp", {name: float(each.norm(dim=1).mean()) for name, each in spreads.items()})

    # ---- in and out

    def get_extra_state(self) -> _Heads:
        """Return the shapes of the heads."""
        head, earlier = (None if each is None else each.shape for each in (self.head, self.earlier))
        return _Heads(head=head, earlier=earlier)

    def set_extra_state(self, state: _Heads) -> None:
        """Build the heads."""
        self.head = None if state["head"] is None else DeviationHead.of(state["head"])
        self.earlier = None if state["earlier"] is None else frozen(DeviationHead.of(state["earlier"]))


def _map_size(model: Embedder) -> tuple[int, int]:
    """Return the height and width of the maps of a model."""
    was_training, image = model.training, torch.zeros(1, 3, *model.input.size, device=model.mean.device)
    model.eval()
    with torch.no_grad():
        out: Output = model(model.backbone.inputs_of(image))
    model.train(was_training)
    return out.map.shape[2], out.map.shape[3]
