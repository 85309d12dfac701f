"""Self-similarity grouping: images are clustered three times, by the whole body and by its upper and lower half.

Its semi-supervised form also has a few images labelled by an oracle, and spreads these labels to the nearest images.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar, Self

import numpy as np
import torch
from pydantic import Field, model_validator
from torch import Tensor

from passerby.clustering.algorithms import AnyClustering, DbscanSettings
from passerby.clustering.clusters import Clusters, numbered, require_usable
from passerby.clustering.graph import mixed_with_source
from passerby.clustering.graph_settings import GraphClustering
from passerby.clustering.precomputed import NOISE
from passerby.distances.sparse import SparseRows
from passerby.errors import UserError
from passerby.losses.mining import Distance
from passerby.losses.mix import LossTerm
from passerby.losses.triplet import triplet_loss
from passerby.methods.active_labels import Oracle, count_spread, draw_queries, merge_by_identity, spread_to_nearest
from passerby.methods.clustered import Clustered, ClusteredSettings, number_after_labelled, unlabelled_rows
from passerby.methods.settings import RecipeView, StageView
from passerby.types import UNKNOWN, Batch, Floats, Ints, Output, Stage, VectorName

if TYPE_CHECKING:
    from passerby.training.context import MethodContext

STRIPES = 2
"""Upper and lower half."""


def away_from_source(vectors: Floats, source: Floats, *, device: str = "cpu") -> Floats:
    """Return (M,) the distance of each image from its nearest one in the source, from 0 to 1 = the farthest of all.

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
    feature: VectorName = Field("before_neck", description="feature of the whole body that is clustered")
    source: Annotated[float, Field(ge=0, lt=1)] = Field(
        0.1,
        description="share of the distance from the source images, where a stage has some, in all distances (lambda)",
    )
    margin: Annotated[float, Field(ge=0)] = 0.5
    distance: Distance = "euclidean"
    weight: Annotated[float, Field(gt=0)] = 1.0
    oracle: Oracle = Field(
        "none", description="SSG++: an oracle labels one image of each cluster, or as many images drawn at random"
    )
    oracle_after: Annotated[int, Field(ge=0)] = Field(
        5, description="number of epochs after which the oracle labels images, once"
    )

    @property
    def idle(self) -> frozenset[str]:
        """The epochs before the oracle, where there is none."""
        return frozenset({"oracle_after"}) if self.oracle == "none" else frozenset()

    @model_validator(mode="after")
    def _nothing_idle(self) -> Self:
        if "oracle_after" in self.idle and self.oracle_after != type(self).model_fields["oracle_after"].default:
            raise ValueError("oracle_after has no effect with oracle: none")
        if not isinstance(self.cluster, GraphClustering):
            if self.source != type(self).model_fields["source"].default:
                raise ValueError(f"source changes distances on the graph, and cluster is {self.cluster.kind}")
            if self.oracle != "none":
                raise ValueError(f"oracle needs the nearest images on the graph, and cluster is {self.cluster.kind}")
        return self

    def check(self, recipe: RecipeView, stage: StageView) -> None:
        """Require an epoch after the labels of the oracle, and source images where their distance counts."""
        super().check(recipe, stage)
        if self.oracle != "none" and self.oracle_after >= stage.epochs:
            raise ValueError(f"method.ssg.oracle_after is {self.oracle_after}, and the stage has {stage.epochs} epochs")
        if not stage.source and self.source != type(self).model_fields["source"].default:
            raise ValueError("method.ssg.source has no effect: the stage has no source data sets")


class Ssg(Clustered, settings_class=SsgSettings):
    """Self-similarity grouping: a label for the whole body and one for each half; an image without one is left out.

    The vectors of the whole body after and before the neck learn by the first label, each half by its own. With an
    oracle all four also learn by a further label, the identity, of the images that have one.

    Reference: Fu et al., "Self-similarity Grouping: A Simple Unsupervised Cross Domain Adaptation Approach for Person
    Re-identification", ICCV 2019.
    Differs from the paper: positives are found by label, where its code takes them by their place in the batch;
    vectors are normalised before they are compared; the vector after the neck is this model's own; search compares
    the vectors of whole images, where the paper concatenates those of all parts; the distance from the source
    (lambda, 0.1) needs labelled data sets under `source`, which are then trained on as well, and which the shipped
    recipes `uda/...-ssg` do not have; an image with an identity that is in no cluster joins that of its identity, so
    that batches contain it; an image without a common neighbour with a queried one gets no identity.

    """

    settings: SsgSettings
    queried: Tensor

    def __init__(self, settings: SsgSettings) -> None:
        super().__init__(settings)
        self.register_buffer("queried", torch.empty(0, dtype=torch.int64))  # (A,) rows among the unlabelled images

    def on_stage_start(self, ctx: MethodContext) -> None:
        """Reset clusters and labels of the oracle.

        Raises:
            UserError: no image has a label for the oracle to give.

        """
        super().on_stage_start(ctx)
        self.queried = torch.empty(0, dtype=torch.int64)
        if self.settings.oracle != "none" and (ctx.stage.truth[unlabelled_rows(ctx.stage)] == UNKNOWN).all():
            raise UserError(f"method.ssg.oracle: no image of {ctx.stage.name} has a known identity; set it to none")

    def pseudo_labels(self, ctx: MethodContext) -> Ints:
        """Return (N, 3) clusters of whole, upper and lower body, or (N, 4) with the identity after oracle labels."""
        vectors = ctx.vectors()
        assert vectors.stripes is not None
        cam, whole = ctx.stage.train.cam, self.vectors_to_cluster(ctx)
        halves = [self.evened(vectors.stripes[:, stripe], cam) for stripe in range(STRIPES)]
        results = [self.cluster_images(ctx, part, view=view) for view, part in enumerate([whole, *halves])]
        columns = np.stack([clusters.labels for clusters, _ in results], axis=1)  # (M, 3)
        columns[(columns == NOISE).any(axis=1)] = NOISE
        self._require_common(columns[:, 0])
        figures: dict[str, float] = {}
        if self.settings.oracle != "none" and ctx.epoch >= self.settings.oracle_after:
            columns, figures = self._with_oracle(ctx, ctx.stage, columns, results[0][1])
        ctx.log_metrics("ssg", {"share left out": float((columns[:, 0] == NOISE).mean()), **figures})
        columns[:, 0] = numbered(columns[:, 0])
        return np.stack([number_after_labelled(ctx.stage, column) for column in columns.T], axis=1)

    def neighbours(self, vectors: Floats, known: Floats, *, cam: Ints | None = None) -> SparseRows | None:
        """Return the graph of vectors (M, D), with their distances from the source (S, D) where there is one."""
        graph = super().neighbours(vectors, known, cam=cam)
        if graph is None or not len(known):
            return graph
        return mixed_with_source(
            graph, away_from_source(vectors, known, device=self.device), share=self.settings.source
        )

    def losses(self, ctx: MethodContext, batch: Batch, out: Output) -> dict[str, LossTerm]:
        """Return the triplets of the embedding and of each feature, by their own labels."""
        assert out.stripes is not None
        gathered = ctx.gather(out.after_neck, out.before_neck, out.stripes, batch.labels, use="mining")
        after, whole, stripes, labels = gathered
        vectors = {
            "after_neck": (after, 0),
            "whole": (whole, 0),
            "upper": (stripes[:, 0], 1),
            "lower": (stripes[:, 1], 2),
        }
        values = {name: self._triplets(x, labels[:, column]) for name, (x, column) in vectors.items()}
        if labels.shape[1] > 1 + STRIPES:
            values["oracle"] = torch.stack([self._triplets(x, labels[:, -1]) for x, _ in vectors.values()]).sum()
        return {f"ssg {name}": LossTerm(value, self.settings.weight) for name, value in values.items()}

    def _triplets(self, x: Tensor, labels: Tensor) -> Tensor:
        return known_triplets(x, labels, margin=self.settings.margin, distance=self.settings.distance)

    def _require_common(self, labels: Ints) -> None:
        try:
            require_usable(Clusters(labels), max_noise_ratio=self.settings.max_noise_ratio)
        except UserError as error:
            raise UserError(
                f"of the images that are in clusters by whole, upper and lower body alike: {error}"
            ) from error

    def _with_oracle(
        self, ctx: MethodContext, stage: Stage, columns: Ints, graph: SparseRows | None
    ) -> tuple[Ints, dict[str, float]]:
        """Return the clusters (M, 3) merged by the labels of the oracle, with a column of identities, and figures."""
        assert graph is not None
        truth = stage.truth[unlabelled_rows(stage)]
        queried = self._query(ctx, columns[:, 0], truth)
        if not len(queried):
            return columns, {"labels queried": 0.0}
        names, identities = np.unique(truth[queried], return_inverse=True)
        count = count_spread(ctx.epoch, epochs=stage.epochs, unlabelled=len(truth) - len(queried))
        spread = spread_to_nearest(graph, queried, identities, count=count)
        merged = merge_by_identity(columns[:, 0], queried, spread)
        checked = (spread != UNKNOWN) & (truth != UNKNOWN)
        figures = {
            "labels queried": float(len(queried)),
            "identities queried": float(len(names)),
            "images with an identity": float((spread != UNKNOWN).sum()),
            "share of them correct": float((names[spread[checked]] == truth[checked]).mean()),
        }
        return np.column_stack([merged, columns[:, 1:], spread]), figures

    def _query(self, ctx: MethodContext, labels: Ints, truth: Ints) -> Ints:
        """Return the rows (A,) of the images that the oracle labels, which are drawn once."""
        if not len(self.queried) and (oracle := self.settings.oracle) != "none":
            generator = np.random.default_rng([ctx.seed, ctx.epoch])
            rows = draw_queries(labels, generator, known=truth != UNKNOWN, oracle=oracle)
            self.queried = torch.from_numpy(rows).to(self.queried.device)
        return self.queried.cpu().numpy()
