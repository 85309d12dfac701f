"""Mutual mean teaching: two networks learn from clusters and from the running mean of each other.

The wrong label of a cluster is learnt by heart by one network; the mean of the other network over time is a softer and
steadier opinion.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from passerby.clustering.algorithms import AnyClustering, KmeansSettings
from passerby.errors import UserError
from passerby.losses.loss import class_means
from passerby.losses.mining import complete_anchors, pair_distances
from passerby.losses.mix import LossTerm
from passerby.losses.softmax import smoothed_cross_entropy
from passerby.losses.triplet import triplet_loss
from passerby.methods.clustered import Clustered, ClusteredSettings, unit
from passerby.methods.heads import HeadList
from passerby.methods.settings import End, RecipeView, StageView
from passerby.models.embedder import Embedder, describe_network, load_embedder, load_state, network_of
from passerby.settings import first_difference
from passerby.types import Batch, Floats, Ints, Output

if TYPE_CHECKING:
    from passerby.training.context import MethodContext


def soft_cross_entropy(logits: Tensor, said: Tensor) -> Tensor:
    """Return the mean cross-entropy of logits (B, C) against the softmax of what a teacher said (B, C)."""
    return -(said.float().softmax(dim=1) * logits.float().log_softmax(dim=1)).sum(dim=1).mean()


def hardest_pairs(x: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Return for each anchor the row of its farthest positive and that of its nearest negative, (B,) each.

    Args:
        x: (B, D).
        labels: (B,); an anchor counts as its own positive, and its negative means nothing where there is none.

    """
    distances = pair_distances(x.detach())
    same = labels[:, None] == labels[None, :]  # (B, B)
    return (
        distances.masked_fill(~same, -torch.inf).argmax(dim=1),
        distances.masked_fill(same, torch.inf).argmin(dim=1),
    )


def nearness(x: Tensor, positive: Tensor, negative: Tensor) -> Tensor:
    """Return (B, 2) the logarithms of exp(n) / (exp(p) + exp(n)) and of exp(p) / (exp(p) + exp(n)) of each anchor.

    Args:
        x: (B, D).
        positive: (B,) row of each anchor's positive, at distance p.
        negative: (B,) row of each anchor's negative, at distance n.

    """
    distances, rows = pair_distances(x), torch.arange(len(x), device=x.device)
    return torch.stack([distances[rows, negative], distances[rows, positive]], dim=1).log_softmax(dim=1)


def soft_triplet(x: Tensor, taught: Tensor, labels: Tensor) -> Tensor:
    """Return the mean cross-entropy of the soft-margin triplet of x against that of a teacher.

    That triplet is -log(exp(n) / (exp(p) + exp(n))), see `losses.triplet`. The pairs are the hardest of x; the teacher
    is asked about the same. Anchors without another image of theirs or without any other identity take no part.

    Args:
        x: (B, D) of the network that learns.
        taught: (B, D) of the teacher.
        labels: (B,).

    Reference: Ge et al., "Mutual Mean-Teaching: Pseudo Label Refinery for Unsupervised Domain Adaptation on Person
    Re-identification", ICLR 2020, equation 8.
    """
    pairs, valid = hardest_pairs(x, labels), complete_anchors(labels)
    losses = -(nearness(taught.detach(), *pairs).exp() * nearness(x, *pairs)).sum(dim=1)  # (B,)
    return losses[valid].sum() / valid.sum().clamp_min(1)


def kept_of_mean(step: int, *, decay: float = 0.999) -> float:
    """Return how much of a mean teacher stays at its update number `step` (from 0): min(1 - 1 / (t + 1), decay).

    >>> [kept_of_mean(step) for step in (0, 9, 5000)]
    [0.0, 0.9, 0.999]
    """
    return min(1 - 1 / (step + 1), decay)


class MmtSettings(ClusteredSettings):
    """MMT."""

    trains_alone: ClassVar[bool] = True
    end: ClassVar[End] = "replaces"

    cluster: AnyClustering = KmeansSettings()
    second: str | None = Field(
        None, description="run in which the second network began; null: as the first, and only mirror images differ"
    )
    smoothing: Annotated[float, Field(ge=0, lt=1)] = Field(0.1, description="of the labels that clusters give")
    soft_softmax: Annotated[float, Field(gt=0, lt=1)] = Field(
        0.5, description="share of the other's teacher in the classification"
    )
    soft_triplet: Annotated[float, Field(gt=0, lt=1)] = Field(
        0.8, description="share of the other's teacher in the triplets"
    )
    decay: Annotated[float, Field(gt=0, lt=1)] = Field(0.999, description="share of a teacher that stays at each step")

    def check(self, recipe: RecipeView, stage: StageView) -> None:
        """Refuse what does not reach the second network."""
        super().check(recipe, stage)
        if stage.optim.ema_decay is not None:
            raise ValueError(
                "method.mmt keeps running means of its own and leaves one of them; leave out optim.ema_decay"
            )
        for name in ("freeze_backbone_steps", "batch_norm", "groups", "layer_decay"):
            if getattr(stage.optim, name) != type(stage.optim).model_fields[name].default:
                raise ValueError(f"method.mmt trains a second network, which optim.{name} does not reach; leave it out")
        if stage.freeze:
            raise ValueError("method.mmt trains a second network, which freeze does not reach; leave it out")


class Mmt(Clustered, settings_class=MmtSettings):
    """MMT: the run's network and a second one, each with a running mean and a classifier of its own.

    The stage leaves the running mean of the first network.

    Reference: Ge et al., "Mutual Mean-Teaching: Pseudo Label Refinery for Unsupervised Domain Adaptation on Person
    Re-identification", ICLR 2020.
    Differs from the paper: both networks see the same augmented images, the second one mirrored, where the paper
    augments twice. Without `second` both begin alike, where the paper has two source models. The stage leaves the
    first mean, where the paper tests both and keeps the better one; while the stage goes on, the first network itself
    is tested.

    """

    settings: MmtSettings
    step: Tensor

    def __init__(self, settings: MmtSettings) -> None:
        super().__init__(settings)
        self.students = nn.ModuleList()  # the second one; the first is the run's
        self.teachers = nn.ModuleList()
        self.heads = HeadList()  # of the two students, then of the two teachers
        self.register_buffer("step", torch.zeros((), dtype=torch.int64))

    def on_stage_start(self, ctx: MethodContext) -> None:
        """Make the second network and both teachers."""
        super().on_stage_start(ctx)
        self.step.zero_()
        second = self.settings.second
        self._make_networks(ctx, second=None if second is None else _read_second(second, ctx.embedder))

    def _make_networks(self, ctx: MethodContext, *, second: dict[str, Tensor] | None = None) -> None:
        """Make copies of the run's network, the second student and its mean with other weights where there are some."""
        student = copy.deepcopy(ctx.embedder).train()
        if second is not None:
            load_state(student, second, source=f"method.mmt.second: {self.settings.second}")
        self.students = nn.ModuleList([student])
        self.teachers = nn.ModuleList(_mean_of(net) for net in (ctx.embedder, student))

    def looked_at(self, ctx: MethodContext) -> Floats:
        """Return the mean (N, D) of what both teachers make of the images."""
        found = [unit(ctx.vectors(teacher).vector(self.settings.feature)) for teacher in self._means]
        mean: Floats = (found[0] + found[1]) / np.float32(2)
        return self.evened(mean, ctx.stage.train.cam)

    def on_epoch_start(self, ctx: MethodContext, labels: Ints) -> None:
        """Let all classifiers begin at the mean directions of the clusters."""
        known = labels >= 0
        people, vectors = torch.from_numpy(labels[known]), [ctx.vectors(teacher) for teacher in self._means]
        means = [class_means(torch.from_numpy(unit(found.after_neck[known])), people) for found in vectors]
        rows = F.normalize(means[0] + means[1]).to(ctx.device)
        self.heads = HeadList.from_rows([rows] * 4, learning=2)

    def losses(self, ctx: MethodContext, batch: Batch, out: Output) -> dict[str, LossTerm]:
        """Return how both networks meet the clusters, and each the teacher of the other."""
        chosen, labels = self.settings, batch.labels
        outs, taught = self._seen(ctx, batch, out)
        logits = [head(found.after_neck.float()) for head, found in zip(self.heads[:2], outs, strict=True)]
        said = [head(found.after_neck.float()) for head, found in zip(self.heads[2:], taught, strict=True)][::-1]
        hard = [smoothed_cross_entropy(one, labels, smoothing=chosen.smoothing) for one in logits]
        soft = [soft_cross_entropy(one, other) for one, other in zip(logits, said, strict=True)]
        *features, people = ctx.gather(*(found.before_neck for found in (*outs, *taught)), labels, use="mining")
        mined = [triplet_loss(one, people, form="soft") for one in features[:2]]
        pairs = zip(features[:2], features[3:1:-1], strict=True)  # each with the teacher of the other
        asked = [soft_triplet(one, other, people) for one, other in pairs]
        return {
            "hard labels": LossTerm(hard[0] + hard[1], 1 - chosen.soft_softmax),
            "soft labels": LossTerm(soft[0] + soft[1], chosen.soft_softmax),
            "hard triplet": LossTerm(mined[0] + mined[1], 1 - chosen.soft_triplet),
            "soft triplet": LossTerm(asked[0] + asked[1], chosen.soft_triplet),
        }

    def _seen(self, ctx: MethodContext, batch: Batch, out: Output) -> tuple[list[Output], list[Output]]:
        """Return what both networks and both teachers make of a batch; the second ones see its mirror image."""
        mirrored = batch.inputs.mirrored()
        with ctx.autocast():
            other = self.students[0](mirrored)
            with torch.no_grad():
                taught = [self.teachers[0](batch.inputs), self.teachers[1](mirrored)]
        return [out, other], taught

    def after_step(self, ctx: MethodContext, batch: Batch, out: Output) -> None:
        """Move the teachers towards their networks; statistics of norms are the teachers' own."""
        if not ctx.is_updated:
            return
        kept = kept_of_mean(int(self.step), decay=self.settings.decay)
        pairs = [(ctx.embedder, self.teachers[0]), (self.students[0], self.teachers[1])]
        for net, mean in [*pairs, *zip(self.heads[:2], self.heads[2:], strict=True)]:
            for now, before in zip(net.parameters(), mean.parameters(), strict=True):
                before.lerp_(now, 1 - kept)
        self.step += 1

    def on_stage_end(self, ctx: MethodContext) -> None:
        """Leave the running mean of the first network and let go of all others."""
        for model in ctx.models:
            model.load_state_dict(self.teachers[0].state_dict())
        self.students, self.teachers, self.heads = nn.ModuleList(), nn.ModuleList(), HeadList()

    def get_extra_state(self) -> list[str] | None:
        """Return the settings of the networks; None where there are none."""
        return describe_network(self._means[0]) if len(self.teachers) else None

    def set_extra_state(self, state: list[str] | None) -> None:
        """Build the networks."""
        if state is not None:
            student = network_of(state).train()
            self.students, self.teachers = nn.ModuleList([student]), nn.ModuleList(_mean_of(student) for _ in range(2))

    @property
    def _means(self) -> list[Embedder]:
        found = [teacher for teacher in self.teachers if isinstance(teacher, Embedder)]
        assert len(found) == 2
        return found


def _read_second(second: str, first: Embedder) -> dict[str, Tensor]:
    """Return the weights of a run or of a file, which must be a network for the same images."""
    path = Path(second)
    embedder = load_embedder(path / "embedder.safetensors" if path.is_dir() else path)
    if difference := first_difference(embedder.input, first.input):
        name, value, present = difference
        raise UserError(
            f"method.mmt.second: the network of {second} was shown images with input.{name} {value!r}, this recipe "
            f"has {present!r}; both networks see the same images"
        )
    return embedder.state_dict()


def _mean_of(net: nn.Module) -> nn.Module:
    """Return a copy that no gradient reaches; its norms go on counting."""
    return copy.deepcopy(net).train().requires_grad_(False)
