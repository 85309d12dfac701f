"""Part-based pseudo-label refinement: how far to trust a cluster's label is read off whole images and their stripes.

Where a stripe has other neighbours than the whole image, it does not show what the label is about, and its label is
smoothed; and what the stripes say of an image softens the label of the whole.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

from passerby.clustering.algorithms import AnyClustering, DbscanSettings
from passerby.distances.nearest import smallest
from passerby.losses.loss import class_means
from passerby.losses.mix import LossTerm
from passerby.losses.triplet import triplet_loss
from passerby.methods.clustered import Clustered, ClusteredSettings, unit
from passerby.methods.heads import HeadList
from passerby.methods.settings import RecipeView, StageView
from passerby.models.embedder import bnneck
from passerby.types import Batch, Floats, Ints, Output

if TYPE_CHECKING:
    from passerby.training.context import MethodContext

_BLOCK = 1024


def cross_agreement(whole: Floats, part: Floats, *, neighbours: int = 20, device: str = "cpu") -> Floats:
    """Return (N,) the overlap (IoU) in [0, 1] of each image's nearest neighbours by one vector and by another.

    Args:
        whole: (N, D) of unit length.
        part: (N, D) of unit length.
        neighbours: how many, the image itself included.
        device: where they are looked for.

    Reference: Cho et al., "Part-based Pseudo Label Refinement for Unsupervised Person Re-identification", CVPR 2022,
    equation 3.
    """
    one, other = (_nearest(found, min(neighbours, len(found)), device=device) for found in (whole, part))
    both = np.array([np.isin(row, theirs).sum() for row, theirs in zip(one, other, strict=True)], np.float32)
    shares: Floats = both / (2 * one.shape[1] - both)
    return shares


def _nearest(vectors: Floats, count: int, *, device: str) -> Ints:
    """Return (N, count) the rows of the nearest neighbours of each of the vectors (N, D), itself first."""
    rows, blocks = torch.from_numpy(vectors).to(device), range(0, len(vectors), _BLOCK)
    found = [smallest(1 - rows[at : at + _BLOCK] @ rows.T, count, own=at)[0] for at in blocks]
    return np.concatenate(found)


def smoothed_by_agreement(logits: Tensor, labels: Tensor, agreement: Tensor) -> Tensor:
    """Return the mean of C CE(p, y) + (1 - C) KL(u || p), with u the same for all people.

    Args:
        logits: (B, K).
        labels: (B,) int64 in [0, K).
        agreement: (B,) the C of each image, in [0, 1].

    Reference: Cho et al., CVPR 2022, equation 5.
    """
    said = logits.log_softmax(dim=1)
    even = -said.mean(dim=1) - torch.log(torch.tensor(float(logits.shape[1])))
    return (agreement * F.nll_loss(said, labels, reduction="none") + (1 - agreement) * even).mean()


def refined_by_parts(logits: Tensor, parts: Tensor, labels: Tensor, agreement: Tensor, *, trust: float = 0.5) -> Tensor:
    """Return the mean cross-entropy against labels that what the stripes say has softened.

    Args:
        logits: (B, K) of whole images.
        parts: (B, P, K) of their stripes; no gradient goes there.
        labels: (B,) int64 in [0, K).
        agreement: (B, P) in [0, 1]; stripes count by its softmax.
        trust: share of the label itself, in [0, 1].

    Reference: Cho et al., CVPR 2022, equations 6 and 7.
    """
    share = agreement.softmax(dim=1)[:, :, None]  # (B, P, 1)
    told = (share * parts.detach().softmax(dim=2)).sum(dim=1)  # (B, K)
    wanted = trust * F.one_hot(labels, logits.shape[1]).to(told.dtype) + (1 - trust) * told
    return -(wanted * logits.log_softmax(dim=1)).sum(dim=1).mean()


class PplrSettings(ClusteredSettings):
    """PPLR."""

    trains_alone: ClassVar[bool] = True
    needs_stripes: ClassVar[int | None] = 3
    any_stripes: ClassVar[bool] = True

    cluster: AnyClustering = DbscanSettings(eps=0.5)
    neighbours: Annotated[int, Field(ge=2)] = Field(20, description="images whose overlap says what stripes are worth")
    trust: Annotated[float, Field(ge=0, le=1)] = Field(
        0.5, description="share of a cluster's label in a whole's target"
    )
    from_epoch: Annotated[int, Field(ge=0)] = Field(5, description="first epoch that smooths the labels of stripes")
    triplet: Annotated[float, Field(ge=0)] = Field(1.0, description="weight of the soft-margin triplet of whole images")

    def check(self, recipe: RecipeView, stage: StageView) -> None:
        """Require that labels of stripes are ever smoothed, where the epoch is given."""
        super().check(recipe, stage)
        given = self.from_epoch != type(self).model_fields["from_epoch"].default
        if given and self.from_epoch >= stage.epochs:
            raise ValueError(f"method.pplr.from_epoch is {self.from_epoch}, and the stage has {stage.epochs} epochs")


class Pplr(Clustered, settings_class=PplrSettings):
    """PPLR: classifiers of whole images and of stripes that correct each other's labels.

    Reference: Cho et al., "Part-based Pseudo Label Refinement for Unsupervised Person Re-identification", CVPR 2022.
    Differs from the paper: search compares the vectors of whole images. Norms of stripes begin at the statistics of
    the images in clusters, so that classifiers can begin at the means of what they will see.

    """

    settings: PplrSettings
    agreement: Tensor

    def __init__(self, settings: PplrSettings) -> None:
        super().__init__(settings)
        self.register_buffer("agreement", torch.empty(0, 0))  # (N, P)
        self.necks = nn.ModuleList()
        self.heads = HeadList()  # of the whole, then of each stripe

    def on_stage_start(self, ctx: MethodContext) -> None:
        """Give each stripe a neck."""
        super().on_stage_start(ctx)
        count = ctx.embedder.settings.stripes
        assert count is not None, "the recipe is checked"
        self.necks = nn.ModuleList(bnneck(ctx.embedder.dimension) for _ in range(count)).to(ctx.device)

    def on_epoch_start(self, ctx: MethodContext, labels: Ints) -> None:
        """Measure what the stripes are worth, and let all classifiers begin at the mean directions of the clusters."""
        found, known = ctx.vectors(), labels >= 0
        assert found.stripes is not None
        whole = unit(found.vector(self.settings.feature))
        stripes = [found.stripes[:, place] for place in range(found.stripes.shape[1])]
        worth = [
            cross_agreement(whole, unit(stripe), neighbours=self.settings.neighbours, device=self.device)
            for stripe in stripes
        ]
        self.agreement = torch.from_numpy(np.stack(worth, axis=1)).to(ctx.device)
        seen = [torch.from_numpy(one[known]).to(ctx.device) for one in (found.after_neck, *stripes)]
        people = torch.from_numpy(labels[known]).to(ctx.device)
        for place, neck in enumerate(self._all_necks, start=1):
            if not len(self.heads):  # the first epoch of the stage
                _settle(neck, seen[place])
            seen[place] = _normed(neck, seen[place])
        self.heads = HeadList.from_rows([class_means(F.normalize(one), people) for one in seen])
        ctx.log_metrics("pplr", {"mean agreement of stripes": float(self.agreement.mean())})

    def losses(self, ctx: MethodContext, batch: Batch, out: Output) -> dict[str, LossTerm]:
        """Return how well whole images and stripes meet labels that each has corrected for the other."""
        assert out.stripes is not None
        chosen, labels, worth = self.settings, batch.labels, self.agreement[batch.index]
        stripes = [neck(out.stripes[:, place].float()) for place, neck in enumerate(self.necks)]
        first, *others = self.heads
        logits = first(out.after_neck.float())
        parts = torch.stack([head(stripe) for head, stripe in zip(others, stripes, strict=True)], dim=1)  # (B, P, K)
        trusted = worth if ctx.epoch >= chosen.from_epoch else torch.ones_like(worth)
        smoothed = [
            smoothed_by_agreement(parts[:, place], labels, trusted[:, place]) for place in range(parts.shape[1])
        ]
        terms = {
            "whole": LossTerm(refined_by_parts(logits, parts, labels, worth, trust=chosen.trust)),
            "stripes": LossTerm(torch.stack(smoothed).mean()),
        }
        if chosen.triplet:
            features, people = ctx.gather(out.before_neck, labels, use="mining")
            terms["soft-margin triplet"] = LossTerm(triplet_loss(features, people, form="soft"), chosen.triplet)
        return terms

    def on_stage_end(self, ctx: MethodContext) -> None:
        """Let go of necks and classifiers."""
        self.necks, self.heads, self.agreement = nn.ModuleList(), HeadList(), self.agreement[:0]

    def get_extra_state(self) -> list[int]:
        """Return the dimension of each neck."""
        return [neck.num_features for neck in self._all_necks]

    def set_extra_state(self, state: list[int]) -> None:
        """Build the necks."""
        self.necks = nn.ModuleList(bnneck(dimension) for dimension in state)

    @property
    def _all_necks(self) -> list[_BatchNorm]:
        return [neck for neck in self.necks if isinstance(neck, _BatchNorm)]


def _settle(neck: _BatchNorm, vectors: Tensor) -> None:
    """Let a neck that has seen nothing begin at the statistics of vectors (N, D)."""
    assert neck.running_mean is not None
    assert neck.running_var is not None
    neck.running_mean.copy_(vectors.mean(dim=0))
    neck.running_var.copy_(vectors.var(dim=0))


def _normed(neck: _BatchNorm, vectors: Tensor) -> Tensor:
    """Return vectors (N, D) as a neck gives them outside training."""
    return F.batch_norm(vectors, neck.running_mean, neck.running_var, neck.weight, neck.bias, eps=neck.eps).detach()
