"""One step of training: forward, losses, backward, and the optimiser's step when enough batches are together.

Everything random is a function of (seed, stage, epoch, batch, process), so that a run may stop after any step and go on
as if it had not.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import torch
from torch import Tensor, nn

from passerby.data.transforms import mix_seeds
from passerby.errors import UserError
from passerby.losses.mix import LossTerm, total
from passerby.models.groups import batch_norms
from passerby.optim import learning_rate_at, set_lr
from passerby.training import distributed
from passerby.training.averaging import GradientAveraging
from passerby.training.context import MethodContext
from passerby.training.counters import position_text
from passerby.training.forward import compute_losses, forward
from passerby.training.gradients import gradient_norms
from passerby.training.run_log import GradientNorm, GradientRecord
from passerby.training.setup import Setup
from passerby.training.state import TrainState
from passerby.types import Batch, Output


class TrainingStep:
    """The step of a run; it moves the weights, and leaves counting batches to whoever calls it."""

    def __init__(self, setup: Setup, state: TrainState, context: MethodContext) -> None:
        self.setup, self.state, self.context = setup, state, context
        self.averaging = GradientAveraging()

    def __call__(self, batch: Batch, *, count: int, first_step: Callable[[GradientRecord], None] | None = None) -> None:
        """Do one forward and backward pass, and the optimiser's step when enough batches are together.

        Args:
            batch: on any device.
            count: batches in an epoch.
            first_step: called in the first step of the stage with the gradient norms of the loss terms; None saves that
                work.

        Raises:
            UserError: the loss is not finite, or it reaches nothing that is trained.

        """
        state, at = self.state, self.state.counters
        accumulate = self.setup.recipe.engine.grad_accum_steps
        per_epoch = math.ceil(count / accumulate)
        done = at.epoch * per_epoch + at.iteration // accumulate
        seed = self.setup.recipe.engine.seed
        torch.manual_seed(mix_seeds(seed, at.stage, at.epoch, at.iteration, distributed.rank()))
        state.is_updated = False
        state.embedder.train()
        state.frozen.hold()
        batch = self._to_device(batch)
        with _frozen(self._not_trained(done)):
            out = self._backward(batch, count=count, first_step=first_step)
            if not self._is_last(count):
                self._end_batch(batch, out)
                return
        self._optimise(done, per_epoch=per_epoch)
        state.is_updated = True
        self._end_batch(batch, out)
        state.optimiser.zero_grad(set_to_none=True)  # only now: methods may read the gradients of the step

    def _is_last(self, count: int) -> bool:
        """Whether the optimiser's step follows the present batch of `count` in the epoch."""
        done = self.state.counters.iteration + 1
        return done % self.setup.recipe.engine.grad_accum_steps == 0 or done >= count

    def _backward(self, batch: Batch, *, count: int, first_step: Callable[[GradientRecord], None] | None) -> Output:
        """Add the gradients of a batch, averaged over processes after the last batch of a step; return the output."""
        state, at = self.state, self.state.counters
        state.batch = batch
        computed: list[tuple[Output, dict[str, LossTerm]]] = []

        def compute() -> Tensor:
            out = forward(self.setup, state, batch)
            terms = compute_losses(self.setup, state, batch, out)
            for method in state.active_methods:
                terms |= method.losses(self.context, batch, out)
            computed.append((out, terms))
            return total(terms)

        loss = self.averaging.loss(
            compute,
            (parameter for module in state.modules for parameter in module.parameters()),
            backward="averages" if self._is_last(count) else "accumulates",
        )
        out, terms = computed.pop()
        self._add_losses(loss, terms)
        if not loss.requires_grad:
            raise UserError(
                "none of the losses reaches anything that is trained while parameters are frozen; set "
                "optim.freeze_backbone_steps to 0, shorten `freeze`, or add a loss with a classifier"
            )
        if first_step is not None and at.at_start:
            first_step(self._gradient_norms(terms))
        accumulate = self.setup.recipe.engine.grad_accum_steps
        first = at.iteration // accumulate * accumulate
        together = min(accumulate, count - first)  # the last ones of an epoch may be fewer
        if at.iteration == first:  # not right after the last step: the memory would be given back and faulted in again
            state.optimiser.zero_grad(set_to_none=True)
        state.scaler.scale(loss / together).backward()
        return out

    def _optimise(self, done: int, *, per_epoch: int) -> None:
        """Move the weights after `done` steps, and what follows them."""
        state, settings = self.state, self.state.settings
        set_lr(
            state.optimiser, learning_rate_at(settings.optim, done, steps_per_epoch=per_epoch, epochs=settings.epochs)
        )
        state.scaler.unscale_(state.optimiser)  # methods read the gradients of the step
        state.scaler.step(state.optimiser)
        state.scaler.update()
        with torch.no_grad():
            if state.ema is not None:
                state.ema.update_parameters(state.embedder)

    @torch.no_grad()
    def _end_batch(self, batch: Batch, out: Output) -> None:
        for method in self.state.active_methods:
            method.after_step(self.context, batch, out)
        self.state.batch = None

    def _to_device(self, batch: Batch) -> Batch:
        device = self.setup.device
        layout = torch.channels_last if self.setup.arithmetic.channels_last else torch.contiguous_format

        def move(tensor: Tensor) -> Tensor:
            return tensor.to(device, non_blocking=True)

        weighted = self.state.settings.foreground.use == "pool"  # else the images are changed, and the mask has served
        inputs = (batch.inputs if weighted else replace(batch.inputs, mask=None)).map(move)
        inputs = replace(inputs, images=inputs.images.contiguous(memory_format=layout))
        return Batch(inputs, move(batch.labels), move(batch.index))

    def _not_trained(self, done: int) -> list[nn.Module]:
        """Return what is frozen in the step after `done` ones; of batch norms fix what the stage says."""
        state, optim = self.state, self.state.settings.optim
        trained = [state.embedder, *state.active_methods]  # methods may have networks and necks of their own
        norms = [] if optim.batch_norm == "train" else [norm for module in trained for norm in batch_norms(module)]
        for norm in norms:
            norm.eval()
        backbone = [state.embedder.backbone] if done < optim.freeze_backbone_steps else []
        return [*backbone, *(norms if optim.batch_norm == "freeze_all" else [])]

    def _add_losses(self, loss: Tensor, terms: dict[str, LossTerm]) -> None:
        """Add the terms to the sums of the epoch, unless the loss is not finite; one transfer for all numbers."""
        numbers = [loss, *(term.value for term in terms.values()), *(term.weighted for term in terms.values())]
        total, *figures = torch.stack([number.detach().double() for number in numbers]).tolist()
        values, weighted = figures[: len(terms)], figures[len(terms) :]
        broken = distributed.ranks_where(not math.isfinite(total), self.setup.device)  # or others would wait for it
        if not broken:
            self.state.counters.add_losses(terms, values, weighted)
            return
        listed = ", ".join(f"{name} {value:.4g}" for name, value in zip(terms, values, strict=True))
        where = "" if distributed.world() == 1 else f" of process {broken[0] + 1} of {distributed.world()}"
        raise UserError(
            f"the loss{where} is not finite at {self.state.counters} ({listed}); lower optim.lr or lengthen "
            f"optim.warmup_epochs; the last saved state is kept in {self.setup.folder}"
        )

    def _gradient_norms(self, terms: dict[str, LossTerm]) -> GradientRecord:
        state = self.state
        norms = gradient_norms(terms, list(state.embedder.parameters()))
        records = {name: GradientNorm(norms[name], term.weight) for name, term in terms.items()}
        return GradientRecord(state.counters.stage + 1, state.stage.name, records)


def require_finite_weights(setup: Setup, state: TrainState) -> None:
    """Raise `UserError` rather than save NaN or infinity: a last step can break what no loss is computed from."""
    names = [name for name, p in state.embedder.named_parameters() if not bool(torch.isfinite(p).all())]
    if names:
        at = state.counters
        raise UserError(
            f"{len(names)} of the model's tensors hold NaN or infinity after "
            f"{position_text(stage=at.stage, epoch=at.epoch)} (first: {names[0]}); try "
            f"engine.precision=float32 or a lower optim.lr; the last saved state is kept in {setup.folder}"
        )


@contextmanager
def _frozen(modules: list[nn.Module]) -> Iterator[None]:
    """Freeze modules for a while: no gradients, so the optimiser passes them over, and batch norms fixed."""
    trained = [p for module in modules for p in module.parameters() if p.requires_grad]
    for module in modules:
        module.eval()
    for parameter in trained:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in trained:
            parameter.requires_grad_(True)
