"""Learning without forgetting: the model of the stage before says what it makes of the new images.

Three losses, alone or together: `ce_dist` on the softened features, `tr_dist` on the hardest pairs of either model, and
`heads`, the published form, on what the classifiers of earlier stages say.
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

Share = Annotated[float, Field(ge=0)]


class LwfSettings(BaseMethodSettings):
    """Learning without forgetting (Li and Hoiem, ECCV 2016)."""

    uses_previous_model: ClassVar[bool] = True
    transfers: ClassVar[bool] = True
    needs_previous_model: ClassVar[bool] = True

    ce_dist: Share = Field(0.0, description="weight of the softened cross-entropy of features")
    tr_dist: Share = Field(0.0, description="weight of the triplet of whichever model is worse")
    heads: Share = Field(0.0, description="weight of what earlier classifiers say, as published (1.0)")
    temperature: Annotated[float, Field(gt=0)] = Field(10.0, description="for ce_dist")
    scale: Scale = Field(
        "none", description="squared: ce_dist times its temperature squared; without, it is near inert"
    )
    margin: Annotated[float, Field(ge=0)] = Field(0.3, description="for tr_dist, of distances in [0, 2]")
    heads_temperature: Annotated[float, Field(gt=0)] = Field(2.0, description="for heads")
    feature: VectorName = Field("after_neck", description="what ce_dist and tr_dist compare")

    @model_validator(mode="after")
    def _something(self) -> Self:
        if not (self.ce_dist or self.tr_dist or self.heads):
            raise ValueError("give at least one of ce_dist, tr_dist and heads a weight above 0")
        return self

    @property
    def needs_state(self) -> bool:
        """Only `heads` uses what earlier stages left."""
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
        """Require the classifier that `heads` keeps."""
        if self.heads and "softmax" not in stage.losses.chosen:
            raise ValueError("method.lwf.heads keeps the classifier of losses.softmax, and the stage has no such loss")


class Lwf(Method, settings_class=LwfSettings):
    """The losses of `LwfSettings`, from the second stage on."""

    settings: LwfSettings
    above: Tensor

    def __init__(self, settings: LwfSettings) -> None:
        super().__init__(settings)
        self.old = HeadList()  # classifiers of earlier stages, as they were when this one began
        self.kept = HeadList()  # the same, learning on
        # ce_dist of the latest batch without its least value: a divergence (KL); NaN without a batch in this stage
        self.register_buffer("above", torch.full((), torch.nan))

    @property
    def has_state(self) -> bool:
        """Only `heads` asks what earlier stages left."""
        return bool(len(self.kept))

    def on_stage_start(self, ctx: MethodContext) -> None:
        """Start from the earlier classifiers as they are now."""
        self.old = HeadList(frozen(head) for head in self.kept)

    def losses(self, ctx: MethodContext, batch: Batch, out: Output) -> dict[str, LossTerm]:
        """Return the losses that have a weight; none in the first stage."""
        if ctx.previous_model is None:
            return {}
        chosen, earlier = self.settings, ctx.previous_model.output(ctx, batch)
        old, new = (each.vector(chosen.feature) for each in (earlier, out))
        terms = {}
        if chosen.ce_dist:
            loss = softened_cross_entropy(old, new, temperature=chosen.temperature, scale=chosen.scale)
            terms["ce_dist"] = LossTerm(loss, chosen.ce_dist)
            least = entropy(old, temperature=chosen.temperature, scale=chosen.scale)
            self.above.copy_((loss - least).detach())
        if chosen.tr_dist:
            before, now, people = ctx.gather(old, new, batch.identities, use="mining")
            terms["tr_dist"] = LossTerm(worst_triplet(before, now, people, margin=chosen.margin), chosen.tr_dist)
        if chosen.heads:
            for number, (frozen_head, head) in enumerate(zip(self.old, self.kept, strict=True), start=1):
                said, says = frozen_head(earlier.after_neck), head(out.after_neck)
                loss = softened_cross_entropy(said, says, temperature=chosen.heads_temperature)
                terms[f"head {number}"] = LossTerm(loss, chosen.heads)
        return terms

    def interpolate_heads(self, ctx: MethodContext, *, alpha: float) -> None:
        """Set earlier classifiers to alpha x now + (1 - alpha) x before the stage."""
        with torch.no_grad():
            for before, now in zip(self.old.parameters(), self.kept.parameters(), strict=True):
                now.lerp_(before, 1 - alpha)

    def on_stage_end(self, ctx: MethodContext) -> None:
        """Keep the classifier of the stage, and tell what `ce_dist` came to beyond its least value."""
        if not self.above.isnan():
            ctx.log_metrics("lwf", {"ce_dist above its least value": float(self.above)})
        self.above.fill_(torch.nan)
        if not self.settings.heads:
            return
        head = cast("Softmax", ctx.losses.losses["softmax"]).classifier
        self.kept.append(copy.deepcopy(head))
