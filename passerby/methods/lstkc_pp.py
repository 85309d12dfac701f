"""LSTKC++: two earlier models teach, and two fusions of weights end a stage.

Names, as in the paper: N is the model as a stage trained it, I the fused model that is tested and goes on, the
short-term teacher the N of the stage before, and the long-term teacher G the fusion of all before that. Training goes
on from I; the teachers are N and G, which are never I from the third stage on.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, ClassVar, TypedDict

import numpy as np
from pydantic import Field
from torch import Tensor

from passerby.distances.pairwise import Metric, pairwise
from passerby.losses.loss import classifiers, identity_rows
from passerby.losses.mix import LossTerm
from passerby.methods.consolidation import interpolate_weights, neighbour_agreement
from passerby.methods.distillation import affinity, affinity_divergence, complementary_affinity
from passerby.methods.expanding_classifier import ExpandingClassifier
from passerby.methods.heads import HasEarlierHeads
from passerby.methods.identity_rows import IdentityRows, RowStore, space_of
from passerby.methods.method import Method, PreviousModel, frozen
from passerby.methods.settings import BaseMethodSettings, End, RecipeView, StageView
from passerby.metrics.ranking import average_precision, rank_matches
from passerby.metrics.relevance import relevance
from passerby.models.embedder import Embedder, describe_network, network_of
from passerby.types import UNKNOWN, Batch, Floats, Output, Split, VectorName

if TYPE_CHECKING:
    from passerby.training.context import MethodContext

Positive = Annotated[float, Field(gt=0)]

SHARES = tuple(number / 10 for number in range(11))
"""The weights of G that are tried in the fusion of both teachers."""


class LstkcPlusPlusSettings(BaseMethodSettings):
    """LSTKC++ (Xu et al., TPAMI 2025): two teachers, and fusions whose weights follow from the training images."""

    transfers: ClassVar[bool] = True
    needs_previous_model: ClassVar[bool] = True
    labelled_only: ClassVar[bool] = True
    end: ClassVar[End] = "interpolates"
    excludes: ClassVar[tuple[str, ...]] = ("average",)  # both fuse the weights at the end of a stage

    weight: Positive = 1.0
    feature: VectorName = "before_neck"
    temperature: Positive = Field(0.1, description="temperature of the affinities")
    scale: Positive = Field(400.0, description="scale of the cosines whose agreement is alpha, the weight of the new")
    distance: Metric = Field(
        "euclidean",
        description="distance of the mAP on training images that fuses the teachers; euclidean: of raw features",
    )

    @property
    def reads_memory(self) -> bool:
        """The losses compare with both teachers."""
        return True

    def check(self, recipe: RecipeView, stage: StageView) -> None:
        """Require that the stages with the method follow one another, since each teaches the next."""
        kinds = [{type(method) for method in each.method.chosen.values()} for each in recipe.stages]
        present = [type(self) in each for each in kinds]
        first, last = present.index(True), len(present) - present[::-1].index(True)
        if not all(present[first:last]):
            gap = present.index(False, first)
            raise ValueError(
                f"{self.key(stage)} teaches each stage by the model of the stage before, and stage {gap + 1} of "
                f"{len(present)} leaves it out; name it in all stages from {first + 1} to {last}"
            )


class _Networks(TypedDict):
    """The teachers as plain data, for a resume."""

    short: list[str] | None
    long: list[str] | None


class LstkcPlusPlus(Method, settings_class=LstkcPlusPlusSettings):
    """Affinities of both teachers, each where it is right, and fusions of the weights.

    After stage 2, G = N_1 and I_2 = alpha N_2 + (1 - alpha) N_1. After a later stage t, G becomes
    b G + (1 - b) N_(t-1), with the b of 0, 0.1, ..., 1 whose mAP on the training images of stage t is the best (the
    smallest of equals), and I_t = alpha N_t + (1 - alpha) G. Alpha is the agreement of N_t and G on the neighbours of
    these images. Batch-norm statistics are fused like weights, integer counters are copied. With `grow` the rows of the
    identities that both know are fused, the others stay as they are.

    Without state of an earlier stage, as after `init_from` of a run without the method, the model of the stage before
    is the short-term teacher.

    Reference: Xu et al., "Long Short-Term Knowledge Decomposition and Consolidation for Lifelong Person
    Re-Identification" (LSTKC++), TPAMI 2025.
    Differs from the published code: integer counters of batch norms are copied, not averaged; images of unknown camera
    count as of a camera of their own, and where no image has a match from another camera, any other image may match.

    """

    settings: LstkcPlusPlusSettings

    def __init__(self, settings: LstkcPlusPlusSettings) -> None:
        super().__init__(settings)
        self.short: PreviousModel | None = None
        self.long: PreviousModel | None = None
        self.short_rows, self.long_rows = RowStore(), RowStore()  # their classifiers, with `grow`

    @property
    def has_state(self) -> bool:
        """Whether there is a short-term teacher."""
        return self.short is not None

    def on_stage_start(self, ctx: MethodContext) -> None:
        """Take the model of the stage before as the short-term teacher, where no stage has left one."""
        if self.short is None and ctx.has_past:
            self.short = PreviousModel(ctx.tested)
            for method in ctx.active_methods:
                if isinstance(method, ExpandingClassifier):
                    self.short_rows = frozen(method.known)

    def losses(self, ctx: MethodContext, batch: Batch, out: Output) -> dict[str, LossTerm]:
        """Return the divergence from the affinities of the teachers; none in the first stage."""
        if self.short is None:
            return {}
        outputs = [each.output(ctx, batch) for each in (self.short, self.long) if each is not None]
        vectors = [each.vector(self.settings.feature) for each in (out, *outputs)]
        new, *old, identities = ctx.gather(*vectors, batch.identities, use="mining")
        temperature = self.settings.temperature
        affinities = [affinity(each, temperature=temperature) for each in old]
        target = complementary_affinity(affinities[0], affinities[-1], identities)  # one teacher counts twice
        return {"teachers": LossTerm(affinity_divergence(target, new, temperature=temperature), self.settings.weight)}

    # ---- the end of a stage

    def on_stage_end(self, ctx: MethodContext) -> None:
        """Fuse the teachers, fuse the model with them, and keep the model as it was trained."""
        trained, rows = PreviousModel(ctx.tested), self._rows(ctx)
        if self.short is None:
            self.short, self.short_rows = trained, rows
            return
        metrics = self._fuse_teachers(ctx, self.short)
        assert self.long is not None
        vectors = [self._vectors(ctx, each.embedder) for each in (self.long, trained)]
        alpha = neighbour_agreement(*vectors, scale=self.settings.scale)
        for model in ctx.models:
            interpolate_weights(model, self.long.embedder, alpha=alpha)
        for method in ctx.active_methods:
            if isinstance(method, ExpandingClassifier):
                self.long_rows.interpolate(ctx.losses.losses, alpha=alpha)
            elif isinstance(method, HasEarlierHeads):
                method.interpolate_heads(ctx, alpha=alpha)
        self.short, self.short_rows = trained, rows
        ctx.log_metrics("lstkc_pp", {"alpha": alpha, **metrics})

    def _fuse_teachers(self, ctx: MethodContext, short: PreviousModel) -> dict[str, float]:
        """Renew the long-term teacher by the short-term one, and return the weight and its mAP in percent."""
        if self.long is None:
            self.long, self.long_rows = short, self.short_rows
            return {}
        vectors = (self._vectors(ctx, self._mixture(share)).cpu().numpy() for share in SHARES)
        maps = [training_map(each, ctx.stage.train, distance=self.settings.distance) for each in vectors]
        share = SHARES[int(np.argmax(maps))]
        self.long_rows = _mixed_rows(self.long_rows, self.short_rows, share=share)
        self.long = PreviousModel(self._mixture(share))
        return {"b": share, "training mAP of b": 100 * max(maps)}

    def _mixture(self, share: float) -> Embedder:
        """Return share x long-term + (1 - share) x short-term teacher."""
        assert self.long is not None
        assert self.short is not None
        mixed = frozen(self.long.embedder)
        interpolate_weights(mixed, self.short.embedder, alpha=share)
        return mixed

    def _vectors(self, ctx: MethodContext, model: Embedder) -> Tensor:
        return ctx.vectors_of(ctx.stage.train, self.settings.feature, model=model)

    def _rows(self, ctx: MethodContext) -> RowStore:
        """Return the rows of all identities in the classifiers; none without `grow`, whose order they have."""
        if not any(isinstance(method, ExpandingClassifier) for method in ctx.active_methods):
            return RowStore()
        losses, rows = ctx.losses.losses, identity_rows(ctx.losses.losses)
        return RowStore({name: IdentityRows(rows[name], space_of(losses[name])) for name in classifiers(losses)})

    # ---- in and out

    def get_extra_state(self) -> _Networks:
        """Return the settings of both networks."""
        short, long = (None if each is None else describe_network(each.embedder) for each in (self.short, self.long))
        return _Networks(short=short, long=long)

    def set_extra_state(self, state: _Networks) -> None:
        """Build the networks."""
        self.short, self.long = (
            None if each is None else PreviousModel(network_of(each)) for each in (state["short"], state["long"])
        )


def training_map(vectors: Floats, train: Split, *, distance: Metric) -> float:
    """Return the mAP, in [0, 1], of each training image searched in all others, by the standard camera rule.

    Args:
        vectors: (N, D) float32.
        train: the images (N), whose identities are known. One of unknown camera counts as of a camera of its own; where
            no image has a match from another camera, all count so.
        distance: what orders the images.

    """
    alone = train.cam.max(initial=0) + 1 + np.arange(len(train))
    source = pairwise(vectors, vectors, metric=distance)
    for cam in (np.where(train.cam == UNKNOWN, alone, train.cam), alone):
        shown = replace(train, cam=cam)
        ranking = rank_matches(source, relevance(shown, shown))
        if ranking.valid.any():
            return float(np.nanmean(average_precision(ranking)))
    return 0.0


def _mixed_rows(long: RowStore, short: RowStore, *, share: float) -> RowStore:
    """Return share x long + (1 - share) x short for the identities of `long`, the last ones of `short`."""
    mixed = {}
    for name, rows in long.items():
        assert isinstance(rows, IdentityRows)
        newer = short.rows_for(name, rows.space)
        weight = rows.weight if newer is None else rows.weight.lerp(newer.weight[-len(rows) :], 1 - share)
        mixed[name] = IdentityRows(weight, rows.space, rows.is_known)
    return RowStore(mixed)
