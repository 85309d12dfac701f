"""Pseudo-labels from the vectors of a teacher that only runs, in place of those of the model in training."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from passerby.methods.clustered import Clustered, ClusteredSettings, unit
from passerby.methods.distil import Distil, DistilSettings
from passerby.methods.settings import RecipeView, StageView
from passerby.types import Floats

if TYPE_CHECKING:
    from passerby.training.context import MethodContext


class TaughtSettings(ClusteredSettings):
    """Clustering of the unlabelled images by the vectors of the model, or of a teacher."""

    embedder: Literal["model", "teacher"] = Field(
        "model", description="source of the vectors that are clustered: the model in training, or the teacher of distil"
    )

    @property
    def clusters_teacher(self) -> bool:
        """Whether the vectors of the teacher are clustered."""
        return self.embedder == "teacher"

    def check(self, recipe: RecipeView, stage: StageView) -> None:
        """Require a teacher where it is asked for."""
        super().check(recipe, stage)
        has_teacher = any(isinstance(settings, DistilSettings) for settings in stage.method.chosen.values())
        if self.clusters_teacher and not has_teacher:
            raise ValueError(
                f"{self.key(stage)}.embedder: teacher clusters the vectors of the teacher of method.distil, and the "
                "stage has no method.distil; add it, or leave embedder at model"
            )


class Taught(Clustered):
    """Base of the methods that may cluster the vectors of a teacher, which are the same in all epochs."""

    settings: TaughtSettings

    def vectors_to_cluster(self, ctx: MethodContext) -> Floats:
        """Return the vectors (N, D) that are clustered."""
        if not self.settings.clusters_teacher:
            return super().vectors_to_cluster(ctx)
        (distil,) = (method for method in ctx.active_methods if isinstance(method, Distil))
        return self.evened(unit(distil.embedded.cpu().numpy()), ctx.stage.train.cam)
