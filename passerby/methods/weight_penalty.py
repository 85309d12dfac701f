"""EWC, SI and MAS as methods: penalties on the change of each weight, by its importance for earlier stages.

Batch-norm statistics and classifiers have no penalty. Reference and importance are flat vectors, one weight after
another.

No strength carries over from one model, optimiser or data set to another: Adam rescales gradients, which changes the
effect of the penalty. At the end of each stage the log has the ratio of penalty and loss; try powers of ten until it is
neither 0 nor far above 1.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, cast

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from passerby.inference.embed import read_inputs
from passerby.losses.mix import LossTerm
from passerby.losses.softmax import Softmax
from passerby.methods.importance import importance_penalty, mean_magnitude, mean_square, path_importance
from passerby.methods.method import Method, frozen
from passerby.methods.settings import Adds, BaseMethodSettings
from passerby.types import Batch, Ints, Output, Stage

if TYPE_CHECKING:
    from passerby.training.context import MethodContext

Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]


def flat(tensors: Iterator[Tensor]) -> Tensor:
    """Return tensors one after another as one vector (W,)."""
    return torch.cat([tensor.reshape(-1) for tensor in tensors])


def image_gradients(
    ctx: MethodContext, stage: Stage, rows: Ints, function: Callable[[Output, int], Tensor]
) -> Iterator[Tensor]:
    """Yield the gradient (W,) of a function of each single image, in float32 and with frozen batch norms.

    Args:
        ctx: context of the run; the gradients are those of the model that is scored.
        stage: stage with the images.
        rows: (N,) rows of the images.
        function: a scalar of the output for one image and the image's row.

    """
    model = frozen(ctx.tested)
    weights = list(model.parameters())
    for weight, trained in zip(weights, ctx.embedder.parameters(), strict=True):
        weight.requires_grad_(trained.requires_grad)
    learning = [weight for weight in weights if weight.requires_grad]
    images = read_inputs(model, stage.train.select(rows), ctx.view(stage.train).part(rows), size=1)
    for row, image in zip(rows.tolist(), images, strict=True):
        value = function(model(image.map(lambda tensor: tensor.to(ctx.device))), row)
        gradients = dict(zip(learning, torch.autograd.grad(value, learning, allow_unused=True), strict=True))
        yield flat(_or_zero(weight, gradients.get(weight)) for weight in weights)


def _or_zero(weight: Tensor, gradient: Tensor | None) -> Tensor:
    return torch.zeros_like(weight) if gradient is None else gradient


def some_rows(stage: Stage, count: int, *, seed: int) -> Ints:
    """Return at most `count` rows of a stage's images, drawn at random without repetition and sorted."""
    drawn = np.random.default_rng(seed).permutation(len(stage.train))[:count]
    return np.sort(drawn)


class WeightPenaltySettings(BaseMethodSettings):
    """Base of the settings of the three penalties."""

    strength: Positive

    @property
    def adds_loss(self) -> Adds:
        """From the second stage on; the first leaves the reference."""
        return "later"

    @property
    def needs_state(self) -> bool:
        """Without the weights of an earlier stage there is no penalty."""
        return True


class WeightPenalty(Method):
    """Base of the three methods: the penalty, and its ratio to the loss."""

    settings: WeightPenaltySettings
    name: str
    factor = 2.0
    """Factor of `importance_penalty`, which has one half, in the penalty."""

    reference: Tensor
    importance: Tensor
    ratio: Tensor

    def __init__(self, settings: WeightPenaltySettings) -> None:
        super().__init__(settings)
        self.register_buffer("reference", torch.empty(0))  # (W,) once a stage is done
        self.register_buffer("importance", torch.empty(0))
        self.register_buffer("ratio", torch.zeros((), dtype=torch.float64))

    @property
    def has_state(self) -> bool:
        """Without reference weights there is no penalty."""
        return bool(len(self.reference))

    @property
    def strength(self) -> float:
        """The weight of the penalty."""
        return self.settings.strength

    def losses(self, ctx: MethodContext, batch: Batch, out: Output) -> dict[str, LossTerm]:
        """Return the penalty; none in the first stage."""
        if not len(self.reference):
            return {}
        penalty = importance_penalty(flat(ctx.embedder.parameters()), self.reference, self.importance)
        return {self.name: LossTerm(self.factor * penalty, self.strength)}

    def after_step(self, ctx: MethodContext, batch: Batch, out: Output) -> None:
        """Update the ratio of the penalty to all other terms in this epoch."""
        if ctx.is_updated and self.name in ctx.sums:
            others = sum(added for name, (_, added, _) in ctx.sums.items() if name != self.name)
            self.ratio.fill_(ctx.sums[self.name][1] / others if others else 0.0)

    def measure_importance(self, ctx: MethodContext, stage: Stage) -> Tensor:
        """Return the importance (W,) of each weight for the stage."""
        raise NotImplementedError

    def on_stage_end(self, ctx: MethodContext) -> None:
        """Add the importance for the stage, and keep the final weights as reference."""
        ratio = {"penalty / loss in the last epoch": float(self.ratio)} if len(self.reference) else {}
        added = self.measure_importance(ctx, ctx.stage)
        self.importance = self.importance_decay * self.importance + added if len(self.importance) else added
        self.reference = flat(ctx.tested.parameters()).detach().clone()
        self.ratio.zero_()
        ctx.log_metrics(self.name, {**ratio, "mean importance": float(self.importance.double().mean())})

    @property
    def importance_decay(self) -> float:
        """Factor of the importance for earlier stages when a stage is added."""
        return 1.0


# ---- by the Fisher information


class EwcSettings(WeightPenaltySettings):
    """Elastic weight consolidation (Kirkpatrick et al., PNAS 2017): importance for the classification; needs labels."""

    labelled_only: ClassVar[bool] = True
    needs_losses: ClassVar[tuple[str, ...]] = ("softmax",)

    strength: Positive = Field(
        1000.0, description="weight of the penalty (lambda); depends on model and data, see the ratio in the log"
    )
    images: Count = Field(200, description="images of a stage, drawn at random, from which the importance is measured")
    labels: Literal["empirical", "sampled"] = Field(
        "empirical", description="labels of the data, or sampled from the predictions (the true Fisher information)"
    )
    decay: Annotated[float, Field(gt=0, le=1)] = Field(
        1.0, description="factor of the earlier importance at each further stage (online EWC)"
    )


class Ewc(WeightPenalty, settings_class=EwcSettings):
    """`mean_square` of the gradients of log p(y|x), image by image.

    Reference: Kirkpatrick et al., "Overcoming catastrophic forgetting in neural networks", PNAS 2017; Schwarz et al.,
    "Progress & Compress: A scalable framework for continual learning", ICML 2018 (one sum for all stages).

    """

    settings: EwcSettings
    name = "ewc"
    factor = 1.0

    @property
    def importance_decay(self) -> float:
        """The decay."""
        return self.settings.decay

    def measure_importance(self, ctx: MethodContext, stage: Stage) -> Tensor:
        """Return the diagonal of the Fisher information."""
        head = cast("Softmax", ctx.losses.losses["softmax"])
        generator = torch.Generator().manual_seed(ctx.seed)

        def log_likelihood(out: Output, row: int) -> Tensor:
            log_p = head.logits(out).float().log_softmax(dim=1)  # (1, C)
            if self.settings.labels == "empirical":
                return log_p[0, int(stage.train.pid[row])]
            return log_p[0, int(torch.multinomial(log_p[0].detach().exp().cpu(), 1, generator=generator))]

        rows = some_rows(stage, self.settings.images, seed=ctx.seed)
        return mean_square(image_gradients(ctx, stage, rows, log_likelihood))


# ---- by the length of the embedding


class MasSettings(WeightPenaltySettings):
    """Memory aware synapses (Aljundi et al., ECCV 2018): importance for the embeddings; needs no labels."""

    strength: Positive = Field(
        1.0, description="weight of the penalty (lambda); depends on model and data, see the ratio in the log"
    )
    images: Count = Field(200, description="images of a stage, drawn at random, from which the importance is measured")


class Mas(WeightPenalty, settings_class=MasSettings):
    """`mean_magnitude` of the gradients of the embedding's squared length, image by image.

    Reference: Aljundi et al., "Memory Aware Synapses", ECCV 2018, equations 2 to 4.

    """

    settings: MasSettings
    name = "mas"

    def measure_importance(self, ctx: MethodContext, stage: Stage) -> Tensor:
        """Return how the squared length of the embedding depends on each weight."""
        rows = some_rows(stage, self.settings.images, seed=ctx.seed)
        return mean_magnitude(image_gradients(ctx, stage, rows, lambda out, _: out.after_neck.square().sum()))


# ---- by the way that the weights went


class SiSettings(WeightPenaltySettings):
    """Synaptic intelligence: weights that made the loss fall stay."""

    strength: Positive = Field(0.1, description="strength c; tune it for each data set by the ratio in the log")
    damping: Positive = Field(0.1, description="xi, the damping for weights with small changes")


class Si(WeightPenalty, settings_class=SiSettings):
    """`path_importance`, summed up while a stage is learnt.

    The gradient is that of all losses without this method's own penalty; the change is whatever the optimiser made of
    it, weight decay and momentum included. Where the stage leaves other weights than the trained ones (a mean of them,
    or weights interpolated with the previous model), the importance is still that of the way to the trained ones.

    Reference: Zenke et al., "Continual Learning Through Synaptic Intelligence", ICML 2017, equations 3 to 5.

    """

    settings: SiSettings
    name = "si"
    path: Tensor
    start: Tensor
    latest: Tensor

    def __init__(self, settings: SiSettings) -> None:
        super().__init__(settings)
        for each in ("path", "start", "latest"):
            self.register_buffer(each, torch.empty(0))

    def on_stage_start(self, ctx: MethodContext) -> None:
        """Start the path at the present weights."""
        self.start = flat(ctx.embedder.parameters()).detach().clone()
        self.latest, self.path = self.start.clone(), torch.zeros_like(self.start)

    def after_step(self, ctx: MethodContext, batch: Batch, out: Output) -> None:
        """Add the contribution of the step to the path integral."""
        super().after_step(ctx, batch, out)
        if not ctx.is_updated:
            return
        now = flat(ctx.embedder.parameters())
        moved, gradient = now - self.latest, flat(_or_zero(w, w.grad) for w in ctx.embedder.parameters())
        if len(self.reference):
            gradient -= self.strength * self.factor * self.importance * (self.latest - self.reference)
        self.path -= torch.where(moved == 0, 0, gradient * moved)  # fp16 leaves out steps whose gradients overflow
        self.latest = now

    def measure_importance(self, ctx: MethodContext, stage: Stage) -> Tensor:
        """Return the contribution of each weight to the decrease of the loss."""
        return path_importance(self.path, self.latest - self.start, damping=self.settings.damping)
