"""Mutual mean teaching: two networks learn from clusters, and each from the mean teacher of the other.

A network fits the wrong labels of clusters too; the soft labels of the other network's mean teacher are more stable.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

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


def soft_cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    """Return the mean cross-entropy of logits (B, C) against the softmax of a teacher's logits (B, C)."""
    return -(target.float().softmax(dim=1) * logits.float().log_softmax(dim=1)).sum(dim=1).mean()


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


def soft_triplet(x: Tensor, target: Tensor, labels: Tensor) -> Tensor:
    """Return the mean cross-entropy of the soft-margin triplet of x against that of a teacher.

    That triplet is -log(exp(n) / (exp(p) + exp(n))), see `losses.triplet`. The pairs are the hardest of x, for the
    teacher too. Anchors without another image of their identity or without any other identity are left out.

    Args:
        x: (B, D) of the network that learns.
        target: (B, D) of the teacher.
        labels: (B,).

    Reference: Ge et al., "Mutual Mean-Teaching: Pseudo Label Refinery for Unsupervised Domain Adaptation on Person
    Re-identification", ICLR 2020, equation 8.
    """
    pairs, valid = hardest_pairs(x, labels), complete_anchors(labels)
    losses = -(nearness(target.detach(), *pairs).exp() * nearness(x, *pairs)).sum(dim=1)  # (B,)
    return losses[valid].sum() / valid.sum().clamp_min(1)


def warm_decay(step: int, *, decay: float = 0.999) -> float:
    """Return the decay of a mean teacher at update number `step` (from 0): min(1 - 1 / (t + 1), decay).

    >>> [warm_decay(step) for step in (0, 9, 5000)]
    [0.0, 0.9, 0.999]
    """
    return min(1 - 1 / (step + 1), decay)


def decay_of_stage(batches: int) -> float:
    """Return the decay of mean teachers that are means over a 32nd of the batches of a stage, at most 0.999.

    That is the published share: 1,000 of 40 x 800 batches. With 0.999 the teachers of a stage of few batches would be
    means over all of it, its beginning included.

    >>> decay_of_stage(40 * 800), round(decay_of_stage(12 * 40), 3), decay_of_stage(20)
    (0.999, 0.933, 0.0)
    """
    return min(0.999, max(0.0, 1 - 32 / batches))


class MmtSettings(ClusteredSettings):
    """Mutual mean teaching (Ge et al., ICLR 2020)."""

    trains_alone: ClassVar[bool] = True
    end: ClassVar[End] = "replaces"

    cluster: AnyClustering = KmeansSettings()
    second: str | None = Field(
        None, description="run or file with the initial weights of the second network; null: those of the first"
    )
    smoothing: Annotated[float, Field(ge=0, lt=1)] = Field(0.1, description="label smoothing of the pseudo-labels")
    soft_softmax: Annotated[float, Field(gt=0, lt=1)] = Field(
        0.5, description="share of the soft labels of the other network's teacher in the classification"
    )
    soft_triplet: Annotated[float, Field(gt=0, lt=1)] = Field(
        0.8, description="share of the soft triplet of the other network's teacher in the triplets"
    )
    decay: Annotated[float, Field(gt=0, lt=1)] | Literal["auto"] = Field(
        "auto",
        description="EMA decay of both mean teachers; auto: means over a 32nd of a stage, 0.999 at most",
    )

    def check(self, recipe: RecipeView, stage: StageView) -> None:
        """Refuse settings that have no effect on the second network."""
        super().check(recipe, stage)
        if stage.optim.ema_decay is not None:
            raise ValueError(
                "method.mmt has mean teachers of its own, of which one replaces the trained weights; leave out "
                "optim.ema_decay"
            )
        for name in ("freeze_backbone_steps", "batch_norm", "groups", "layer_decay"):
            if getattr(stage.optim, name) != type(stage.optim).model_fields[name].default:
                raise ValueError(f"optim.{name} has no effect on the second network of method.mmt; leave it out")
        if stage.freeze:
            raise ValueError("freeze has no effect on the second network of method.mmt; leave it out")


class Mmt(Clustered, settings_class=MmtSettings):
    """MMT: the run's network and a second one, each with a mean teacher and a classifier.

    The mean teacher of the first network replaces the trained weights at the end of the stage.

    Reference: Ge et al., "Mutual Mean-Teaching: Pseudo Label Refinery for Unsupervised Domain Adaptation on Person
    Re-identification", ICLR 2020.
    Differs from the paper: both networks get the same augmented images, the second one mirrored, where the paper
    augments twice. Without `second` both start from the same weights, where the paper has two source models. The stage
    keeps the first mean teacher, where the paper tests both and keeps the better one; during the stage the first
    network itself is tested.

    """

    settings: MmtSettings
    step: Tensor

    def __init__(self, settings: MmtSettings) -> None:
        super().__init__(settings)
        self.students = nn.ModuleList()  # the second network; the first is the model of the run
        self.teachers = nn.ModuleList()
        self.heads = HeadList()  # of the two students, then of the two teachers
        self.register_buffer("step", torch.zeros((), dtype=torch.int64))

    def on_stage_start(self, ctx: MethodContext) -> None:
        """Create the second network and both teachers."""
        super().on_stage_start(ctx)
        self.step.zero_()
        second = self.settings.second
        self._make_networks(ctx, second=None if second is None else _read_second(second, ctx.embedder))

    def _make_networks(self, ctx: MethodContext, *, second: dict[str, Tensor] | None = None) -> None:
        """Copy the run's network into a second student, with other weights where there are any, and two teachers."""
        student = copy.deepcopy(ctx.embedder).train()
        if second is not None:
            load_state(student, second, source=f"method.mmt.second: {self.settings.second}")
        self.students = nn.ModuleList([student])
        self.teachers = nn.ModuleList(_mean_teacher_of(net) for net in (ctx.embedder, student))

    def vectors_to_cluster(self, ctx: MethodContext) -> Floats:
        """Return the mean (N, D) of the vectors of both teachers."""
        first, second = (unit(ctx.vectors(teacher).vector(self.settings.feature)) for teacher in self._mean_teachers)
        mean: Floats = (first + second) / np.float32(2)
        return self.evened(mean, ctx.stage.train.cam)

    def on_epoch_start(self, ctx: MethodContext, labels: Ints) -> None:
        """Start all classifiers at the mean directions of the clusters."""
        known = labels >= 0
        identities = torch.from_numpy(labels[known])
        vectors = [ctx.vectors(teacher).after_neck[known] for teacher in self._mean_teachers]
        means = [class_means(torch.from_numpy(unit(each)), identities) for each in vectors]
        rows = F.normalize(means[0] + means[1]).to(ctx.device)
        self.heads = HeadList.from_rows([rows] * 4, learning=2)

    def losses(self, ctx: MethodContext, batch: Batch, out: Output) -> dict[str, LossTerm]:
        """Return the losses of both networks against the clusters, and against the teacher of the other network."""
        settings, labels = self.settings, batch.labels
        students, teachers = self._outputs(ctx, batch, out)
        logits = [head(each.after_neck.float()) for head, each in zip(self.heads[:2], students, strict=True)]
        # each network learns from the teacher of the other one
        targets = [head(each.after_neck.float()) for head, each in zip(self.heads[2:], teachers, strict=True)][::-1]
        hard = [smoothed_cross_entropy(each, labels, smoothing=settings.smoothing) for each in logits]
        soft = [soft_cross_entropy(each, target) for each, target in zip(logits, targets, strict=True)]
        features = (each.before_neck for each in (*students, *teachers))
        *vectors, identities = ctx.gather(*features, labels, use="mining")
        hard_triplets = [triplet_loss(each, identities, form="soft") for each in vectors[:2]]
        pairs = zip(vectors[:2], vectors[3:1:-1], strict=True)  # each with the teacher of the other
        soft_triplets = [soft_triplet(each, target, identities) for each, target in pairs]
        return {
            "hard labels": LossTerm(hard[0] + hard[1], 1 - settings.soft_softmax),
            "soft labels": LossTerm(soft[0] + soft[1], settings.soft_softmax),
            "hard triplet": LossTerm(hard_triplets[0] + hard_triplets[1], 1 - settings.soft_triplet),
            "soft triplet": LossTerm(soft_triplets[0] + soft_triplets[1], settings.soft_triplet),
        }

    def _outputs(self, ctx: MethodContext, batch: Batch, out: Output) -> tuple[list[Output], list[Output]]:
        """Return the outputs of both networks and of both teachers for a batch; the second ones get it mirrored."""
        mirrored = batch.inputs.mirrored()
        with ctx.autocast():
            second = self.students[0](mirrored)
            with torch.no_grad():
                teachers = [self.teachers[0](batch.inputs), self.teachers[1](mirrored)]
        return [out, second], teachers

    def after_step(self, ctx: MethodContext, batch: Batch, out: Output) -> None:
        """Update the weights of the teachers; they keep batch-norm statistics of their own."""
        if not ctx.is_updated:
            return
        settled = decay_of_stage(ctx.stage_batches) if self.settings.decay == "auto" else self.settings.decay
        decay = warm_decay(int(self.step), decay=settled)
        pairs = [(ctx.embedder, self.teachers[0]), (self.students[0], self.teachers[1])]
        for net, mean in [*pairs, *zip(self.heads[:2], self.heads[2:], strict=True)]:
            for now, before in zip(net.parameters(), mean.parameters(), strict=True):
                before.lerp_(now, 1 - decay)
        self.step += 1

    def on_stage_end(self, ctx: MethodContext) -> None:
        """Replace the weights by those of the first teacher, and discard the networks."""
        for model in ctx.models:
            model.load_state_dict(self.teachers[0].state_dict())
        self.students, self.teachers, self.heads = nn.ModuleList(), nn.ModuleList(), HeadList()

    def get_extra_state(self) -> list[str] | None:
        """Return the settings of the networks; None where there are none."""
        return describe_network(self._mean_teachers[0]) if len(self.teachers) else None

    def set_extra_state(self, state: list[str] | None) -> None:
        """Build the networks."""
        if state is not None:
            student = network_of(state).train()
            self.students, self.teachers = (
                nn.ModuleList([student]),
                nn.ModuleList(_mean_teacher_of(student) for _ in range(2)),
            )

    @property
    def _mean_teachers(self) -> list[Embedder]:
        teachers = [teacher for teacher in self.teachers if isinstance(teacher, Embedder)]
        assert len(teachers) == 2
        return teachers


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


def _mean_teacher_of(net: nn.Module) -> nn.Module:
    """Return a copy without gradients, whose batch-norm statistics are still updated."""
    return copy.deepcopy(net).train().requires_grad_(False)
