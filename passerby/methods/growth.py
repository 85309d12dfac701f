"""Classifiers that grow: people of earlier stages keep their rows although none of their images is there any more."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from passerby.losses.loss import class_means, classifiers
from passerby.methods.identity_rows import IdentityRows, RowStore, Space, space_of
from passerby.methods.method import Method
from passerby.methods.settings import BaseMethodSettings
from passerby.types import Stage

if TYPE_CHECKING:
    from passerby.training.context import MethodContext


class GrowSettings(BaseMethodSettings):
    """One classifier over the people of all stages so far."""

    labelled_only: ClassVar[bool] = True
    excludes: ClassVar[tuple[str, ...]] = ("replay",)  # both keep earlier identities in the classifiers

    new: Literal["means", "means_before_neck", "random"] = Field(
        "means",
        description="where the rows of new people begin, from the second stage on: at their mean vectors, of the kind "
        "that the classifier sees, or before the neck (LSTKC)",
    )

    @property
    def needs_state(self) -> bool:
        """Without earlier identities nothing grows."""
        return True


class Grow(Method, settings_class=GrowSettings):
    """Classifiers with the new people first and all earlier ones after them.

    A stage whose losses have no classifier, or another one, loses nobody: earlier rows are kept, see `IdentityRows`,
    and the people of that stage get rows at their mean vectors (none with `new: random`).

    Reference: Xu et al., "LSTKC: Long Short-Term Knowledge Consolidation for Lifelong Person Re-identification",
    AAAI 2024 (published code).
    Differs from the published code: with `new: means` rows begin at means after the neck where the classifier stands
    there; `means_before_neck` begins them as LSTKC does.

    """

    settings: GrowSettings

    def __init__(self, settings: GrowSettings) -> None:
        super().__init__(settings)
        self.known = RowStore()  # of each loss with a classifier (C, D): the rows of all people so far

    @property
    def has_state(self) -> bool:
        """Without earlier people nothing grows."""
        return bool(len(self.known))

    def extend_stage(self, ctx: MethodContext, stage: Stage) -> Stage:
        """Ask for classifiers that know the earlier people too."""
        return replace(stage, absent=self.known.count)

    def on_stage_start(self, ctx: MethodContext) -> None:
        """Give earlier people their rows, and new ones a beginning."""
        if not self.known.count:
            return
        if self.settings.new != "random":
            for name, head in classifiers(ctx.losses.losses).items():
                means = self._means(ctx, ctx.stage, space=space_of(ctx.losses.losses[name]))
                with torch.no_grad():
                    head.weight[: len(means)] = means
        self.known.adopt(ctx.losses.losses)

    def interpolate_heads(self, ctx: MethodContext, *, alpha: float) -> None:
        """Set the rows of earlier people to alpha x now + (1 - alpha) x before the stage; new people keep theirs."""
        self.known.blend(ctx.losses.losses, alpha=alpha)

    def on_stage_end(self, ctx: MethodContext) -> None:
        """Keep all rows."""
        count = ctx.stage.train.count_identities
        identities = torch.arange(count + self.known.count, device=ctx.device)
        self.known = self.known.renewed(_heads(ctx), identities=identities, is_earlier=identities >= count)
        if self.settings.new == "random":
            return
        for rows in self.known.values():
            assert isinstance(rows, IdentityRows)
            if not bool(rows.is_known[:count].all()):
                rows.weight[:count] = self._means(ctx, ctx.stage, space=rows.space)
                rows.is_known[:count] = True

    def _means(self, ctx: MethodContext, stage: Stage, *, space: Space) -> Tensor:
        """Return where the rows of the people of a stage begin (C, D)."""
        before = space == "before_neck" or self.settings.new == "means_before_neck"
        seen = ctx.vectors_of(stage.train, "before_neck" if before else "after_neck")
        return class_means(F.normalize(seen) if self.settings.new == "means_before_neck" else seen, _people(ctx, stage))


def _heads(ctx: MethodContext) -> nn.ModuleDict:
    """Return the losses that have a classifier."""
    return nn.ModuleDict({name: ctx.losses.losses[name] for name in classifiers(ctx.losses.losses)})


def _people(ctx: MethodContext, stage: Stage) -> Tensor:
    return torch.from_numpy(stage.train.pid).to(ctx.device)
