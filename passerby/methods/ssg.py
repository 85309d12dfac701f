"""Self-similarity grouping: people are found three times, by the whole body and by its two halves, each by itself.

Its semi-supervised form also asks who is in a few images, and spreads the answers from the nearest images outwards.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar, Self

import numpy as np
import torch
from pydantic import Field, model_validator
from torch import Tensor

from passerby.clustering.algorithms import (
    AnyClustering,
    Clusters,
    DbscanSettings,
    GraphClustering,
    numbered,
    require_usable,
)
from passerby.clustering.graph import mixed_with_source
from passerby.clustering.precomputed import NOISE
from passerby.distances.sparse import SparseRows
from passerby.errors import UserError
from passerby.losses.mining import Distance
from passerby.losses.mix import LossTerm
from passerby.losses.triplet import triplet_loss
from passerby.methods.asking import Ask, chosen_to_ask, count_to_name, merged_by_name, named_by_nearest
from passerby.methods.clustered import Clustered, ClusteredSettings, beside_known, hidden_rows
from passerby.methods.settings import RecipeView, StageView
from passerby.types import UNKNOWN, Batch, Floats, Ints, Output, Stage, VectorName

if TYPE_CHECKING:
    from passerby.training.context import MethodContext

STRIPES = 2
"""Upper and lower half."""


def away_from_source(vectors: Floats, source: Floats, *, device: str = "cpu") -> Floats:
    """Return (M,) how far each image is from its nearest one in the source, from 0 to 1 = the farthest of all.

    1 - exp(-d^2), with d the Euclidean distance to the nearest, divided by the largest of all.

    Args:
        vectors: (M, D) of unit length; longer ones would all be at 1.
        source: (S, D) of unit length, S >= 1.
        device: where the matrix products are computed.

    Reference: Fu et al., "Self-similarity Grouping: A Simple Unsupervised Cross Domain Adaptation Approach for Person
    Re-identification", ICCV 2019, section 3.3.
    Differs from its code: the vector of an image alone is normalised, where the code normalises the sum of those of
    the image and of its mirror image.

    >>> away_from_source(np.eye(2, dtype=np.float32), np.array([[1.0, 0.0]], np.float32)).tolist()
    [0.0, 1.0]
    """
    known = torch.from_numpy(source).to(device)
    cosines = [(rows.to(device) @ known.T).amax(dim=1) for rows in torch.from_numpy(vectors).split(512)]
    away = -np.expm1(-np.maximum(2 - 2 * torch.cat(cosines).cpu().numpy(), 0))
    scaled: Floats = (away / max(float(away.max()), 1e-12)).astype(np.float32)
    return scaled


def known_triplets(x: Tensor, labels: Tensor, *, margin: float = 0.5, distance: Distance = "euclidean") -> Tensor:
    """Return the batch-hard triplet loss of the images whose label is known; 0 when there is none.

    Args:
        x: (B, D) features.
        labels: (B,) -1 = unknown.
        margin: in units of `distance`, >= 0.
        distance: see `Distance`.

    Reference: Hermans et al., "In Defense of the Triplet Loss for Person Re-Identification", arXiv 2017, equation 5.
    """
    known = labels >= 0
    if not bool(known.any()):
        return x.sum() * 0
    return triplet_loss(x[known], labels[known], margin=margin, distance=distance)


class SsgSettings(ClusteredSettings):
    """Self-similarity grouping: clusters of whole bodies and of their halves, by batch-hard triplets."""

    trains_alone: ClassVar[bool] = True
    needs_stripes: ClassVar[int | None] = STRIPES
    views: ClassVar[tuple[str, ...]] = ("clusters", "clusters of upper halves", "clusters of lower halves")

    cluster: AnyClustering = DbscanSettings(eps="share", k1=20, form="reranking")
    feature: VectorName = Field("before_neck", description="what is clustered of the whole body")
    source: Annotated[float, Field(ge=0, lt=1)] = Field(
        0.1,
        description="share of the distance from known people, where there are some beside, in all distances (lambda)",
    )
    margin: Annotated[float, Field(ge=0)] = 0.5
    distance: Distance = "euclidean"
    weight: Annotated[float, Field(gt=0)] = 1.0
    ask: Ask = Field("none", description="SSG++: ask who is in one image per cluster, or in as many images at random")
    ask_after: Annotated[int, Field(ge=0)] = Field(5, description="epochs before the images are asked about, once")

    @property
    def idle(self) -> frozenset[str]:
        """When to ask, where nothing is asked."""
        return frozenset({"ask_after"}) if self.ask == "none" else frozenset()

    @model_validator(mode="after")
    def _nothing_idle(self) -> Self:
        if "ask_after" in self.idle and self.ask_after != type(self).model_fields["ask_after"].default:
            raise ValueError("ask_after has no effect with ask: none")
        if not isinstance(self.cluster, GraphClustering):
            if self.source != type(self).model_fields["source"].default:
                raise ValueError(f"source changes distances on the graph, and cluster is {self.cluster.kind}")
            if self.ask != "none":
                raise ValueError(f"ask looks for the nearest images on the graph, and cluster is {self.cluster.kind}")
        return self

    def check(self, recipe: RecipeView, stage: StageView) -> None:
        """Require that the oracle is asked in time, and that there is a source to be far from."""
        super().check(recipe, stage)
        if self.ask != "none" and self.ask_after >= stage.epochs:
            raise ValueError(f"method.ssg.ask_after is {self.ask_after}, and the stage has {stage.epochs} epochs")
        if not stage.source and self.source != type(self).model_fields["source"].default:
            raise ValueError("method.ssg.source has no effect: the stage has no source data sets")


class Ssg(Clustered, settings_class=SsgSettings):
    """Self-similarity grouping: a label for the whole body and one for each half; an image without one is left out.

    The embedding and the feature of the whole learn by the first label, each half by its own. Where images were asked
    about, all four also learn by a further label, that of the person, of the images that have one.

    Reference: Fu et al., "Self-similarity Grouping: A Simple Unsupervised Cross Domain Adaptation Approach for Person
    Re-identification", ICCV 2019.
    Differs from the paper: positives are found by label, where its code takes them by their place in the batch;
    vectors are normalised before they are compared; the embedding is this model's own; people are searched by the
    embedding of the whole image, where the paper puts the vectors of all parts side by side; the distance from the
    source (lambda, 0.1) needs labelled data sets under `source`, which are then learnt from as well, and which the
    shipped targets `uda/...-ssg` do not have, so that there it has no part; a named image that is in no cluster joins
    its person's, so that batches show it; an image that has no neighbour in common with an asked one gets no name.

    """

    settings: SsgSettings
    asked: Tensor

    def __init__(self, settings: SsgSettings) -> None:
        super().__init__(settings)
        self.register_buffer("asked", torch.empty(0, dtype=torch.int64))  # (A,) rows among the unknown images

    def on_stage_start(self, ctx: MethodContext) -> None:
        """Forget the clusters and the answers of another stage.

        Raises:
            UserError: there is nobody to ask.

        """
        super().on_stage_start(ctx)
        self.asked = torch.empty(0, dtype=torch.int64)
        if self.settings.ask != "none" and (ctx.stage.truth[hidden_rows(ctx.stage)] == UNKNOWN).all():
            raise UserError(f"method.ssg.ask: nothing is known of the people of {ctx.stage.name}; set it to none")

    def pseudo_labels(self, ctx: MethodContext) -> Ints:
        """Return (N, 3) clusters by whole, upper and lower body, or (N, 4) with the person, once images were asked."""
        found = ctx.vectors()
        assert found.stripes is not None
        cam, whole = ctx.stage.train.cam, self.looked_at(ctx)
        halves = [self.evened(found.stripes[:, stripe], cam) for stripe in range(STRIPES)]
        grouped = [self.grouped(ctx, vectors, view=view) for view, vectors in enumerate([whole, *halves])]
        columns = np.stack([clusters.labels for clusters, _ in grouped], axis=1)  # (M, 3)
        columns[(columns == NOISE).any(axis=1)] = NOISE
        self._require_common(columns[:, 0])
        figures: dict[str, float] = {}
        if self.settings.ask != "none" and ctx.epoch >= self.settings.ask_after:
            columns, figures = self._with_answers(ctx, ctx.stage, columns, grouped[0][1])
        ctx.log_metrics("ssg", {"share left out": float((columns[:, 0] == NOISE).mean()), **figures})
        columns[:, 0] = numbered(columns[:, 0])
        return np.stack([beside_known(ctx.stage, column) for column in columns.T], axis=1)

    def neighbours(self, vectors: Floats, known: Floats) -> SparseRows | None:
        """Return the graph of vectors (M, D), with how far they are from the source (S, D) where there is one."""
        graph = super().neighbours(vectors, known)
        if graph is None or not len(known):
            return graph
        return mixed_with_source(
            graph, away_from_source(vectors, known, device=self.device), share=self.settings.source
        )

    def losses(self, ctx: MethodContext, batch: Batch, out: Output) -> dict[str, LossTerm]:
        """Return the triplets of the embedding and of each feature, by their own labels."""
        assert out.stripes is not None
        joined = ctx.gather(out.after_neck, out.before_neck, out.stripes, batch.labels, use="mining")
        after, whole, stripes, labels = joined
        seen = {"after_neck": after, "whole": whole, "upper": stripes[:, 0], "lower": stripes[:, 1]}
        columns = (0, 0, 1, 2)
        values = {
            name: self._triplets(x, labels[:, column]) for (name, x), column in zip(seen.items(), columns, strict=True)
        }
        if labels.shape[1] > 1 + STRIPES:
            values["asked"] = torch.stack([self._triplets(x, labels[:, -1]) for x in seen.values()]).sum()
        return {f"ssg {name}": LossTerm(value, self.settings.weight) for name, value in values.items()}

    def _triplets(self, x: Tensor, labels: Tensor) -> Tensor:
        return known_triplets(x, labels, margin=self.settings.margin, distance=self.settings.distance)

    def _require_common(self, labels: Ints) -> None:
        try:
            require_usable(Clusters(labels), outliers=self.settings.outliers)
        except UserError as error:
            raise UserError(
                f"of the images that are in clusters by whole, upper and lower body alike: {error}"
            ) from error

    def _with_answers(
        self, ctx: MethodContext, stage: Stage, columns: Ints, graph: SparseRows | None
    ) -> tuple[Ints, dict[str, float]]:
        """Return the clusters (M, 3) merged by what was asked, with a column of names, and what there is to tell."""
        assert graph is not None
        truth = stage.truth[hidden_rows(stage)]
        asked = self._asked(ctx, columns[:, 0], truth)
        if not len(asked):
            return columns, {"labels asked": 0.0}
        people, names = np.unique(truth[asked], return_inverse=True)
        count = count_to_name(ctx.epoch, epochs=stage.epochs, unlabelled=len(truth) - len(asked))
        named = named_by_nearest(graph, asked, names, count=count)
        merged = merged_by_name(columns[:, 0], asked, named)
        believed = (named != UNKNOWN) & (truth != UNKNOWN)
        figures = {
            "labels asked": float(len(asked)),
            "people among them": float(len(people)),
            "images named": float((named != UNKNOWN).sum()),
            "of them right": float((people[named[believed]] == truth[believed]).mean()),
        }
        return np.column_stack([merged, columns[:, 1:], named]), figures

    def _asked(self, ctx: MethodContext, labels: Ints, truth: Ints) -> Ints:
        """Return the rows (A,) of the images asked about, which are chosen once."""
        if not len(self.asked) and self.settings.ask != "none":
            generator = np.random.default_rng([ctx.seed, ctx.epoch])
            rows = chosen_to_ask(labels, generator, known=truth != UNKNOWN, ask=self.settings.ask)
            self.asked = torch.from_numpy(rows).to(self.asked.device)
        return self.asked.cpu().numpy()
