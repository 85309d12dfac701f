"""Learning without forgetting: distillation from the model of the stage before, on the new images.

Three losses, alone or together: `ce_dist` on the softened features, `tr_dist` on the hardest pairs of either model, and
`heads`, the published form, on the logits of the classifiers of earlier stages.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Annotated, ClassVar, Self, cast

import torch
from pydantic import Field, model_validator
from torch import Tensor

from passerby.losses.mix import LossTerm
from passerby.losses.softmax import Softmax
from passerby.methods.distillation import Scale, entropy, softened_cross_entropy, worst_triplet
from passerby.methods.heads import HeadList
from passerby.methods.method import Method, frozen
from passerby.methods.settings import BaseMethodSettings, RecipeView, StageView
from passerby.types import Batch, Output, VectorName

if TYPE_CHECKING:
    from passerby.training.context import MethodContext

NonNegative = Annotated[float, Field(ge=0)]


class LwfSettings(BaseMethodSettings):
    """Learning without forgetting (Li and Hoiem, ECCV 2016)."""

    uses_previous_model: ClassVar[bool] = True
    transfers: ClassVar[bool] = True
    needs_previous_model: ClassVar[bool] = True

    ce_dist: NonNegative = Field(0.0, description="weight of the softened cross-entropy of features")
    tr_dist: NonNegative = Field(0.0, description="weight of the triplet with the harder pairs of both models")
    heads: NonNegative = Field(
        0.0, description="weight of the distillation of the logits of earlier classifiers, as published (1.0)"
    )
    temperature: Annotated[float, Field(gt=0)] = Field(10.0, description="temperature of ce_dist")
    scale: Scale = Field(
        "none", description="squared: ce_dist times its temperature squared; with none it has almost no effect"
    )
    margin: Annotated[float, Field(ge=0)] = Field(0.3, description="margin of tr_dist, of distances in [0, 2]")
    heads_temperature: Annotated[float, Field(gt=0)] = Field(2.0, description="temperature of heads")
    feature: VectorName = Field("after_neck", description="vector that ce_dist and tr_dist compare")

    @model_validator(mode="after")
    def _has_effect(self) -> Self:
        if not (self.ce_dist or self.tr_dist or self.heads):
            raise ValueError("give at least one of ce_dist, tr_dist and heads a weight above 0")
        return self

    @property
    def needs_state(self) -> bool:
        """Only `heads` needs classifiers of earlier stages."""
        return bool(self.heads)

    @property
    def reads_memory(self) -> bool:
        """Only `heads` compares with classifiers of earlier stages."""
        return bool(self.heads)

    @property
    def acts_at_end(self) -> bool:
        """Only `heads` keeps a classifier."""
        return bool(self.heads)

    def check(self, recipe: RecipeView, stage: StageView) -> None:
        """Require a softmax loss for `heads`, which keeps its classifier."""
        if self.heads and "softmax" not in stage.losses.chosen:
            raise ValueError("method.lwf.heads keeps the classifier of losses.softmax, and the stage has no such loss")


class Lwf(Method, settings_class=LwfSettings):
    """The losses of `LwfSettings`, from the second stage on."""

    settings: LwfSettings
    divergence: Tensor

    def __init__(self, settings: LwfSettings) -> None:
        super().__init__(settings)
        self.old_heads = HeadList()  # classifiers of earlier stages, as they were at the start of this one
        self.heads = HeadList()  # the same, still trained
        # ce_dist of the latest batch minus its least value, a KL divergence; NaN without a batch in this stage
        self.register_buffer("divergence", torch.full((), torch.nan))

    @property
    def has_state(self) -> bool:
        """Whether there are classifiers of earlier stages."""
        return bool(len(self.heads))

    def on_stage_start(self, ctx: MethodContext) -> None:
        """Keep the present classifiers of earlier stages as the targets."""
        self.old_heads = HeadList(frozen(head) for head in self.heads)

    def losses(self, ctx: MethodContext, batch: Batch, out: Output) -> dict[str, LossTerm]:
        """Return the losses that have a weight; none in the first stage."""
        if ctx.previous_model is None:
            return {}
        settings, earlier, terms = self.settings, ctx.previous_model.output(ctx, batch), {}
        old, new = (each.vector(settings.feature) for each in (earlier, out))
        if settings.ce_dist:
            loss = softened_cross_entropy(old, new, temperature=settings.temperature, scale=settings.scale)
            terms["ce_dist"] = LossTerm(loss, settings.ce_dist)
            least = entropy(old, temperature=settings.temperature, scale=settings.scale)
            self.divergence.copy_((loss - least).detach())
        if settings.tr_dist:
            before, now, identities = ctx.gather(old, new, batch.identities, use="mining")
            triplet = worst_triplet(before, now, identities, margin=settings.margin)
            terms["tr_dist"] = LossTerm(triplet, settings.tr_dist)
        if settings.heads:
            terms |= self._head_losses(earlier, out)
        return terms

    def _head_losses(self, earlier: Output, out: Output) -> dict[str, LossTerm]:
        """Return the distillation of the logits of each earlier classifier."""
        temperature, weight, terms = self.settings.heads_temperature, self.settings.heads, {}
        for number, (old, new) in enumerate(zip(self.old_heads, self.heads, strict=True), start=1):
            loss = softened_cross_entropy(old(earlier.after_neck), new(out.after_neck), temperature=temperature)
            terms[f"head {number}"] = LossTerm(loss, weight)
        return terms

    def interpolate_heads(self, ctx: MethodContext, *, alpha: float) -> None:
        """Set earlier classifiers to alpha x present + (1 - alpha) x those before the stage."""
        with torch.no_grad():
            for before, now in zip(self.old_heads.parameters(), self.heads.parameters(), strict=True):
                now.lerp_(before, 1 - alpha)

    def on_stage_end(self, ctx: MethodContext) -> None:
        """Keep the classifier of the stage, and log `ce_dist` minus its least value."""
        if not self.divergence.isnan():
            ctx.log_metrics("lwf", {"ce_dist above its least value": float(self.divergence)})
        self.divergence.fill_(torch.nan)
        if not self.settings.heads:
            return
        head = cast("Softmax", ctx.losses.losses["softmax"]).classifier
        self.heads.append(copy.deepcopy(head))
