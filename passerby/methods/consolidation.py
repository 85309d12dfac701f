"""Three simple ways to keep a model near the earlier one: by its features, its neighbourhoods, or its weights.

`feature` and `affinity` are losses against the model of the stage before; `average` interpolates the weights of before
and after the stage. Affinity with averaging is a strong baseline without any stored image.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from passerby.losses.mix import LossTerm
from passerby.methods.distillation import affinity, affinity_divergence, feature_gap, rectified_affinity
from passerby.methods.heads import HasEarlierHeads
from passerby.methods.method import Method
from passerby.methods.settings import BaseMethodSettings, End, RecipeView, StageView
from passerby.types import Batch, Output, VectorName

if TYPE_CHECKING:
    from passerby.training.context import MethodContext

Positive = Annotated[float, Field(gt=0)]


class DistillationSettings(BaseMethodSettings):
    """A distance of the vectors of a batch from those of the model of the stage before."""

    uses_previous_model: ClassVar[bool] = True
    transfers: ClassVar[bool] = True
    needs_previous_model: ClassVar[bool] = True

    weight: Positive = 1.0
    feature: VectorName = "before_neck"


class Distillation(Method):
    """Base of the methods with one loss between the vectors of two models, from the second stage on."""

    settings: DistillationSettings
    name: ClassVar[str]

    def losses(self, ctx: MethodContext, batch: Batch, out: Output) -> dict[str, LossTerm]:
        """Return the loss; none in the first stage."""
        if ctx.previous_model is None:
            return {}
        vectors = (each.vector(self.settings.feature) for each in (ctx.previous_model.output(ctx, batch), out))
        return {self.name: LossTerm(self.compare(ctx, batch, *vectors), self.settings.weight)}

    def compare(self, ctx: MethodContext, batch: Batch, old: Tensor, new: Tensor) -> Tensor:
        """Return the distance () of the vectors (B, D) of the present model from those of the previous one."""
        raise NotImplementedError


class FeatureSettings(DistillationSettings):
    """Feature distillation: the vectors of new images stay where the earlier model has them."""

    distance: Literal["cosine", "mse"] = "cosine"


class FeatureDistillation(Distillation, settings_class=FeatureSettings):
    """`feature_gap` from the second stage on."""

    settings: FeatureSettings
    name = "feature"

    def compare(self, ctx: MethodContext, batch: Batch, old: Tensor, new: Tensor) -> Tensor:
        """Return the mean change of the vectors."""
        return feature_gap(old, new, distance=self.settings.distance)


class AffinitySettings(DistillationSettings):
    """Affinity distillation: the neighbourhoods of a batch stay as the earlier model has them."""

    temperature: Positive = 0.1
    rectified: bool = Field(False, description="correct wrong affinities of the previous model (LSTKC)")
    images: Literal["all", "transferred"] = Field(
        "all", description="transferred: only those that dask makes of the batch (the alignment of DKP++)"
    )

    def check(self, recipe: RecipeView, stage: StageView) -> None:
        """Require a method that transfers images where only these are compared."""
        if self.images == "transferred" and not any(each.makes_images for each in stage.method.chosen.values()):
            raise ValueError(
                f"{self.key(stage)}.images: transferred needs a method that makes such images, and stage "
                f"{stage.title!r} has none; add method.dask, or use images: all"
            )


class AffinityDistillation(Distillation, settings_class=AffinitySettings):
    """`affinity_divergence` from the second stage on.

    Reference: Xu et al., "LSTKC: Long Short-Term Knowledge Consolidation for Lifelong Person Re-identification",
    AAAI 2024.

    """

    settings: AffinitySettings
    name = "affinity"

    def losses(self, ctx: MethodContext, batch: Batch, out: Output) -> dict[str, LossTerm]:
        """Return the loss; none in the first stage, and none of images that are left out."""
        is_left_out = self.settings.images == "transferred" and not ctx.is_transferred
        return {} if is_left_out else super().losses(ctx, batch, out)

    def compare(self, ctx: MethodContext, batch: Batch, old: Tensor, new: Tensor) -> Tensor:
        """Return the divergence of the affinities within the gathered batch."""
        temperature = self.settings.temperature
        old, new, identities = ctx.gather(old, new, batch.identities, use="mining")
        target = affinity(old, temperature=temperature)
        if self.settings.rectified:
            target = rectified_affinity(target, affinity(new, temperature=temperature), identities)
        return affinity_divergence(target, new, temperature=temperature)


# ---- averages of weights


def interpolate_weights(new: nn.Module, old: nn.Module, *, alpha: float) -> None:
    """Set `new` to alpha x new + (1 - alpha) x old, batch-norm statistics included; integers stay as they are.

    Args:
        new: module that is changed in place.
        old: module of the same architecture.
        alpha: weight of `new`, in [0, 1].

    Reference: Wortsman et al., "Robust fine-tuning of zero-shot models", CVPR 2022, equation 1.

    """
    earlier = old.state_dict()
    with torch.no_grad():
        for name, value in new.state_dict().items():
            if value.is_floating_point():
                value.lerp_(earlier[name].to(value.device), 1 - alpha)


def affinity_agreement(old: Tensor, new: Tensor, *, temperature: float = 0.01, rows: int = 1024) -> float:
    """Return 1 - mean_i sum_j |A_new - A_old| between the neighbourhoods of two models, within [0, 1].

    Args:
        old: (N, D) vectors of the earlier model.
        new: (N, D') of the present one.
        temperature: of the affinities, in which an image is not its own neighbour.
        rows: number of rows at a time, which bounds the memory.

    Reference: Xu et al., LSTKC, AAAI 2024 (the adaptive alpha).
    Differs from the published code: without the image itself, which would be its whole neighbourhood at this
    temperature, and clamped, since the sum reaches 2.

    """
    blocks = _neighbourhoods(old, new, temperature=temperature, rows=rows)
    total = sum(float((before - now).abs().sum()) for before, now in blocks)
    return min(1.0, max(0.0, 1 - total / len(old)))


def neighbour_agreement(old: Tensor, new: Tensor, *, scale: float = 400.0, rows: int = 1024) -> float:
    """Return mean_i sum_j P_new,ij P_old,ij, P = softmax over j != i of scale x cosine: a number in [0, 1].

    At a large scale the softmax is nearly one-hot, and this is the share of images whose nearest neighbour is the same
    in both models. Images that are nearly equal, such as frames of a video, bring it near 1.

    Args:
        old: (N, D) vectors of the earlier model.
        new: (N, D') of the present one.
        scale: of the cosines.
        rows: number of rows at a time, which bounds the memory.

    Reference: Xu et al., LSTKC++, TPAMI 2025 (the adaptive alpha).

    >>> neighbour_agreement(torch.eye(4)[[0, 0, 1, 1]], torch.eye(4)[[2, 2, 3, 3]])
    1.0
    """
    blocks = _neighbourhoods(old, new, temperature=1 / scale, rows=rows)
    return sum(float((before * now).sum()) for before, now in blocks) / len(old)


def _neighbourhoods(old: Tensor, new: Tensor, *, temperature: float, rows: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the affinities (rows, N) of both models, without the image itself, some rows at a time."""
    old, new = F.normalize(old.float()), F.normalize(new.float())
    for start in range(0, len(old), rows):
        block = torch.arange(start, min(start + rows, len(old)), device=old.device)
        pair = []
        for vectors in (old, new):
            cosines = vectors[block] @ vectors.T / temperature  # (rows, N)
            cosines[torch.arange(len(block)), block] = -torch.inf
            pair.append(cosines.softmax(dim=1))
        yield pair[0], pair[1]


class AverageSettings(BaseMethodSettings):
    """Interpolation of the weights of before and after each stage."""

    uses_previous_model: ClassVar[bool] = True
    needs_previous_model: ClassVar[bool] = True
    end: ClassVar[End] = "interpolates"

    alpha: Annotated[float, Field(gt=0, lt=1)] | Literal["adaptive"] = Field(
        0.5, description="weight of the new model; adaptive: the larger, the less neighbourhoods have changed (LSTKC)"
    )


class Average(Method, settings_class=AverageSettings):
    """`interpolate_weights` with the model of the stage before, at the end of every stage but the first.

    The final model of the stage is interpolated, a mean teacher where there is one, and so is the EMA of the weights
    where there is one. Classifiers of earlier stages that other methods keep are interpolated with the same alpha: the
    rows of earlier identities, and whole earlier classifiers.

    """

    settings: AverageSettings

    def on_stage_end(self, ctx: MethodContext) -> None:
        """Interpolate the weights, and the classifiers of earlier stages."""
        if ctx.previous_model is None:
            return
        alpha = self.settings.alpha
        if alpha == "adaptive":
            models = (ctx.previous_model.embedder, ctx.tested)
            alpha = affinity_agreement(*(ctx.vectors_of(ctx.stage.train, "before_neck", model=each) for each in models))
        for model in ctx.models:
            interpolate_weights(model, ctx.previous_model.embedder, alpha=alpha)
        for method in ctx.active_methods:
            if isinstance(method, HasEarlierHeads):
                method.interpolate_heads(ctx, alpha=alpha)
        ctx.log_metrics("average", {"alpha": alpha})
