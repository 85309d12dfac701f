"""One stage on pytorch-ignite's engine: the step, the endless stream of batches, and what happens between epochs.

Methods change what is learnt; handlers only watch. Everything random is a function of (seed, stage, epoch, batch), so a
run may stop after any step and go on as if it had not.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager
from typing import cast

import numpy as np
import torch
from ignite.engine import Engine, Events
from torch import Tensor, nn

from passerby.data.loading import ImageStore, Place, training_batches
from passerby.data.samplers import columns_of_rank
from passerby.data.transforms import mix_seeds
from passerby.errors import UserError
from passerby.losses.mix import LossTerm, total
from passerby.methods.method import END_OF_STAGE
from passerby.models.groups import batch_norms
from passerby.optim import rate, set_rate
from passerby.train import distributed
from passerby.train.gradients import gradient_norms
from passerby.train.labelling import choose_labels
from passerby.train.plan import count_batches, drawn, plan_epoch
from passerby.train.run import Run
from passerby.train.run_log import EpochRecord, GradientNorm, GradientRecord, TermRecord
from passerby.types import Batch, Output

Watch = Callable[[Run, Engine], None]
"""Attaches handlers that look at a stage's engine and change nothing."""


class Clock:
    """How long an epoch took, and how much of that was waiting for images."""

    def __init__(self) -> None:
        self.began = self.asked = time.perf_counter()
        self.waited = 0.0
        self.images = 0

    def attach(self, engine: Engine) -> None:
        """Follow an engine's batches."""
        engine.add_event_handler(Events.EPOCH_STARTED, self._begin)
        engine.add_event_handler(Events.GET_BATCH_STARTED, self._ask)
        engine.add_event_handler(Events.GET_BATCH_COMPLETED, self._get)

    def _begin(self) -> None:
        self.__init__()  # type: ignore[misc]

    def _ask(self) -> None:
        self.asked = time.perf_counter()

    def _get(self, engine: Engine) -> None:
        self.waited += time.perf_counter() - self.asked
        batch = cast("Batch", engine.state.batch)
        self.images += len(batch.images) * distributed.world()


def run_stage(
    run: Run,
    *,
    stop: Callable[[], bool],
    watch: list[Watch],
    first_step: Callable[[GradientRecord], None],
    epoch_done: Callable[[EpochRecord], None],
) -> bool:
    """Train the present stage from where it stands.

    Args:
        run: its state, moved along.
        stop: asked after every step; true breaks the stage off there.
        watch: handlers to attach.
        first_step: called in the stage's first step with the gradient norm of each loss term.
        epoch_done: called with the record of every finished epoch, after the run's state has moved on to the next.

    Returns:
        Whether the stage came to its end.

    """
    settings = run.recipe.stages[run.stage_number]
    data = run.recipe.data
    masks = None if run.recipe.foreground.use == "none" else run.stage.train.mask_path
    store = ImageStore(run.stage.train.path, run.recipe.input, cache=data.cache, masks=masks)
    store.require_readable()
    count = count_batches(run.stage, data)

    def step(_: Engine, batch: Batch) -> None:
        with run.threads.step(len(batch.images)):
            train_step(run, batch, count=count, first_step=first_step)

    engine = Engine(step)
    engine.logger.setLevel(logging.CRITICAL)  # an error is told once, by whoever called
    clock = Clock()
    clock.attach(engine)

    @engine.on(Events.ITERATION_COMPLETED)
    def _advance() -> None:
        run.iteration += 1
        between_steps = run.iteration % run.recipe.engine.grad_accum_steps == 0
        if between_steps and run.iteration < count and stop():
            engine.terminate()

    @engine.on(Events.EPOCH_COMPLETED)
    def _close_epoch() -> None:
        _require_finite_weights(run)
        record = _record(run, clock, settings.epochs, count)
        run.epoch, run.iteration, run.labels, run.sums = run.epoch + 1, 0, None, {}
        distributed.share_state([*run.modules, *run.followers])
        epoch_done(record)
        if stop() or run.over:
            engine.terminate()

    for attach in watch:
        attach(run, engine)
    engine.state.epoch_length, engine.state.max_epochs = count, settings.epochs
    engine.state.iteration, engine.state.epoch = run.epoch * count + run.iteration, run.epoch
    if not run.over:
        with closing(_stream(run, store)) as batches:  # or loader processes outlive the stage
            engine.run(batches, max_epochs=settings.epochs, epoch_length=count)
    return run.over


def end_stage(run: Run) -> float:
    """Go through the end of a stage with its methods, once, and return the seconds it took; what they leave is saved.

    The phases of `END_OF_STAGE` follow one another; nothing is saved in between, so a resume begins with the first.
    """
    if run.ended or not run.active_methods:
        return 0.0
    began = time.perf_counter()
    for phase in END_OF_STAGE:
        go_through(run, phase)
    run.ended = True
    run.save()
    return time.perf_counter() - began


def go_through(run: Run, phase: str) -> None:
    """Let all methods of a stage do what they do in one phase of `END_OF_STAGE`."""
    for method in run.active_methods:  # each with a seed of its own, whichever methods there are beside it
        torch.manual_seed(mix_seeds(run.recipe.engine.seed, run.stage_number, run.epoch))
        getattr(method, phase)(run)


def _stream(run: Run, store: ImageStore) -> Generator[Batch, None, None]:
    """Yield batches without end; the labels and the plan of an epoch are made when its first batch is asked for."""
    data, seed = run.recipe.data, run.recipe.engine.seed
    columns = columns_of_rank(data.identities, data.instances, rank=distributed.rank(), world=distributed.world())
    while True:
        labels = choose_labels(run)
        place = Place(seed, run.stage_number, run.epoch)
        generator = np.random.default_rng([seed, run.stage_number, run.epoch])
        key = labels if labels.ndim == 1 else labels[:, 0]
        plan = plan_epoch(run.stage, key, generator, settings=data)
        run.drawn = drawn(plan, run.stage)
        yield from training_batches(
            store,
            plan,
            labels=labels,
            cam=run.stage.train.cam,
            settings=data,
            place=place,
            columns=columns,
            first=run.iteration,
            foreground=run.recipe.foreground,
        )


def train_step(
    run: Run, batch: Batch, *, count: int, first_step: Callable[[GradientRecord], None] | None = None
) -> None:
    """Do one forward and backward pass, and the optimiser's step when enough batches are together.

    Args:
        run: its state.
        batch: on any device.
        count: batches in an epoch.
        first_step: called in the stage's first step with the gradient norm of each loss term; None skips that work.

    Raises:
        UserError: the loss is not finite, or nothing that learns has a part in it.

    """
    engine, settings = run.recipe.engine, run.recipe.stages[run.stage_number]
    per_epoch = math.ceil(count / engine.grad_accum_steps)
    done = run.epoch * per_epoch + run.iteration // engine.grad_accum_steps
    torch.manual_seed(mix_seeds(engine.seed, run.stage_number, run.epoch, run.iteration, distributed.rank()))
    run.embedder.train()
    batch = _to_device(batch, run)
    with _standing_still(_still(run, done)):
        out = _backward(run, batch, count=count, first_step=first_step)
        if (run.iteration + 1) % engine.grad_accum_steps and run.iteration + 1 < count:
            _tell(run, batch, out)
            return
        distributed.average_gradients(p for module in run.modules for p in module.parameters())
    set_rate(run.optimiser, rate(settings.optim, done, steps_per_epoch=per_epoch, epochs=settings.epochs))
    run.scaler.unscale_(run.optimiser)  # methods read the gradients of the step
    run.scaler.step(run.optimiser)
    run.scaler.update()
    with torch.no_grad():
        if run.averaged is not None:
            run.averaged.update_parameters(run.embedder)
        for method in run.active_methods:
            method.after_step(run)
    _tell(run, batch, out)
    run.optimiser.zero_grad(set_to_none=True)  # only now: methods may look at the gradients of the step


@torch.no_grad()
def _tell(run: Run, batch: Batch, out: Output) -> None:
    """Let methods remember a batch."""
    for method in run.active_methods:
        method.after_batch(run, batch, out)


def _still(run: Run, done: int) -> list[nn.Module]:
    """Return what does not learn in the step after `done` ones; of batch norms fix what the stage says."""
    optim = run.recipe.stages[run.stage_number].optim
    learning = [run.embedder, *run.active_methods]  # methods may have networks and necks of their own
    norms = [] if optim.batch_norm == "train" else [norm for module in learning for norm in batch_norms(module)]
    for norm in norms:
        norm.eval()
    backbone = [run.embedder.backbone] if done < optim.freeze_backbone_steps else []
    return [*backbone, *(norms if optim.batch_norm == "freeze_all" else [])]


@contextmanager
def _standing_still(modules: list[nn.Module]) -> Iterator[None]:
    """Keep modules as they are for a while: no gradients, so the optimiser passes them over, and batch norms fixed."""
    learning = [p for module in modules for p in module.parameters() if p.requires_grad]
    for module in modules:
        module.eval()
    for parameter in learning:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in learning:
            parameter.requires_grad_(True)


def _backward(run: Run, batch: Batch, *, count: int, first_step: Callable[[GradientRecord], None] | None) -> Output:
    """Add the gradients of a batch and return what the model answered."""
    engine = run.recipe.engine
    for method in run.active_methods:
        method.before_batch(run, batch)
    out = run.forward(batch)
    terms = run.compute_losses(batch, out)
    for method in run.active_methods:
        terms |= method.losses(run, batch, out)
    loss = total(terms)
    _remember(run, loss, terms)
    if not loss.requires_grad:
        raise UserError(
            "optim.freeze_backbone_steps: while the backbone stands still, none of the losses reaches anything that "
            "learns; set it to 0 or add a loss with a classifier"
        )
    if first_step is not None and run.epoch == run.iteration == 0:
        first_step(_gradients(run, terms))
    begun = run.iteration // engine.grad_accum_steps * engine.grad_accum_steps
    together = min(engine.grad_accum_steps, count - begun)  # the last ones of an epoch may be fewer
    if (
        run.iteration == begun
    ):  # not right after the last step: the memory would go back to the system and be faulted in
        run.optimiser.zero_grad(set_to_none=True)
    run.scaler.scale(loss / together).backward()
    return out


def _to_device(batch: Batch, run: Run) -> Batch:
    layout = torch.channels_last if run.channels_last else torch.contiguous_format

    def move(tensor: Tensor) -> Tensor:
        return tensor.to(run.device, non_blocking=True)

    weighted = run.recipe.foreground.use == "pool"  # otherwise the images have been changed, and the mask has served
    mask = move(batch.mask) if weighted and batch.mask is not None else None
    images = move(batch.images).contiguous(memory_format=layout)
    return Batch(images, move(batch.labels), move(batch.cam), move(batch.index), mask)


def _remember(run: Run, loss: Tensor, terms: dict[str, LossTerm]) -> None:
    """Add the terms to the sums of the epoch, unless the loss is not finite; one transfer for all numbers."""
    numbers = [loss, *(term.value for term in terms.values()), *(term.weighted for term in terms.values())]
    found, *figures = torch.stack([number.detach().double() for number in numbers]).tolist()
    values, weighted = figures[: len(terms)], figures[len(terms) :]
    broken = distributed.ranks_where(not math.isfinite(found), run.device)  # or the others would wait for this process
    if not broken:
        for (name, term), value, added in zip(terms.items(), values, weighted, strict=True):
            before = run.sums.get(name, [0.0, 0.0])
            run.sums[name] = [before[0] + value, before[1] + added, term.weight]
        return
    told = ", ".join(f"{name} {value:.4g}" for name, value in zip(terms, values, strict=True))
    where = "" if distributed.world() == 1 else f" of process {broken[0] + 1} of {distributed.world()}"
    raise UserError(
        f"the loss{where} is not finite at stage {run.stage_number + 1}, epoch {run.epoch + 1}, batch "
        f"{run.iteration + 1} ({told}); lower optim.lr or lengthen optim.warmup_epochs; the last saved state is kept "
        f"in {run.folder}"
    )


def _require_finite_weights(run: Run) -> None:
    """Keep an epoch that ended in NaN or infinity from being saved: a last step can break what no loss saw any more."""
    names = [name for name, p in run.embedder.named_parameters() if not bool(torch.isfinite(p).all())]
    if names:
        raise UserError(
            f"{len(names)} of the model's tensors hold NaN or infinity after stage {run.stage_number + 1}, epoch "
            f"{run.epoch + 1} (first: {names[0]}); try engine.precision=float32 or a lower optim.lr; the last saved "
            f"state is kept in {run.folder}"
        )


def _gradients(run: Run, terms: dict[str, LossTerm]) -> GradientRecord:
    norms = gradient_norms(terms, list(run.embedder.parameters()))
    recorded = {name: GradientNorm(norms[name], term.weight) for name, term in terms.items()}
    return GradientRecord(run.stage_number + 1, run.stage.name, recorded)


def _record(run: Run, clock: Clock, epochs: int, count: int) -> EpochRecord:
    seconds = time.perf_counter() - clock.began
    return EpochRecord(
        stage=run.stage_number + 1,
        title=run.stage.name,
        epoch=run.epoch + 1,
        epochs=epochs,
        lr=float(run.optimiser.param_groups[0]["lr"]),
        terms={
            name: TermRecord(value / count, weighted / count, weight)
            for name, (value, weighted, weight) in run.sums.items()
        },
        images_per_second=clock.images / seconds,
        busy=1 - clock.waited / seconds,
        seconds=seconds,
        drawn=run.drawn,
    )
