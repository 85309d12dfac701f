"""Expanding classifier: identities of earlier stages keep their rows without any of their images."""

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


class ExpandingClassifierSettings(BaseMethodSettings):
    """One classifier over the identities of all stages so far."""

    labelled_only: ClassVar[bool] = True
    excludes: ClassVar[tuple[str, ...]] = ("replay",)  # both keep earlier identities in the classifiers

    new: Literal["means", "means_before_neck", "random"] = Field(
        "means",
        description="initial rows of new identities, from the second stage on: their mean vectors of the kind that the "
        "classifier gets, or before the neck (LSTKC), or random ones",
    )

    @property
    def needs_state(self) -> bool:
        """It expands nothing without earlier identities."""
        return True


class ExpandingClassifier(Method, settings_class=ExpandingClassifierSettings):
    """Classifiers with the rows of the new identities first and those of all earlier ones after them.

    A stage whose losses have no classifier, or another one, loses no rows: earlier rows are kept, see `IdentityRows`,
    and the identities of that stage get rows at their mean vectors (none with `new: random`).

    Reference: Xu et al., "LSTKC: Long Short-Term Knowledge Consolidation for Lifelong Person Re-identification",
    AAAI 2024 (published code).
    Differs from the published code: with `new: means` rows start at means after the neck where the classifier gets the
    vectors after the neck; `means_before_neck` is as published.

    """

    settings: ExpandingClassifierSettings

    def __init__(self, settings: ExpandingClassifierSettings) -> None:
        super().__init__(settings)
        self.known = RowStore()  # of each loss with a classifier (C, D): the rows of all identities so far

    @property
    def has_state(self) -> bool:
        """Whether there are rows of earlier identities."""
        return bool(len(self.known))

    def extend_stage(self, ctx: MethodContext, stage: Stage) -> Stage:
        """Return the stage with classes for the earlier identities."""
        return replace(stage, count_old_classes=self.known.count)

    def on_stage_start(self, ctx: MethodContext) -> None:
        """Set the rows of earlier identities to the stored ones, and those of new ones to their initial values."""
        if not self.known.count:
            return
        if self.settings.new != "random":
            for name, head in classifiers(ctx.losses.losses).items():
                means = self._means(ctx, ctx.stage, space=space_of(ctx.losses.losses[name]))
                with torch.no_grad():
                    head.weight[: len(means)] = means
        self.known.adopt(ctx.losses.losses)

    def interpolate_heads(self, ctx: MethodContext, *, alpha: float) -> None:
        """Set the rows of earlier identities to alpha x present + (1 - alpha) x those before the stage."""
        self.known.interpolate(ctx.losses.losses, alpha=alpha)

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
        """Return the initial rows (C, D) of the identities of a stage."""
        before = space == "before_neck" or self.settings.new == "means_before_neck"
        vectors = ctx.vectors_of(stage.train, "before_neck" if before else "after_neck")
        if self.settings.new == "means_before_neck":
            vectors = F.normalize(vectors)
        return class_means(vectors, torch.from_numpy(stage.train.pid).to(ctx.device))


def _heads(ctx: MethodContext) -> nn.ModuleDict:
    """Return the losses that have a classifier."""
    return nn.ModuleDict({name: ctx.losses.losses[name] for name in classifiers(ctx.losses.losses)})
