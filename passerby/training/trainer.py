"""The stages of a run on pytorch-ignite's engine: the stream of batches, and what happens between epochs.

Methods change what is learnt; handlers only watch.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from ignite.engine import Engine, Events

from passerby.data.loading import EpochKey, ImageStore, batches_without_images, training_batches
from passerby.data.transforms import mix_seeds
from passerby.methods.method import END_OF_STAGE
from passerby.models.embedder import Embedder
from passerby.optim import base_lr
from passerby.recipe import Recipe
from passerby.training import distributed
from passerby.training.builder import StageBuilder
from passerby.training.checkpoint import Checkpoint, save_checkpoint
from passerby.training.clock import Clock
from passerby.training.context import MethodContext
from passerby.training.evaluator import Evaluator
from passerby.training.label_assignment import assign_labels
from passerby.training.log_writer import no_log
from passerby.training.plan import count_batches, drawn, plan_epoch
from passerby.training.probe import Arithmetic
from passerby.training.run_log import DrawnRecord, EpochRecord, Record, TermRecord
from passerby.training.setup import Setup, make_setup
from passerby.training.state import TrainState
from passerby.training.step import TrainingStep, require_finite_weights
from passerby.types import Batch, Ints

Watch = Callable[["Trainer", Engine], None]
"""Attaches handlers that look at a stage's engine and change nothing."""


class Trainer:
    """Trains a model stage by stage, and saves and restores where it is.

    Attributes:
        setup: what does not change.
        state: what does.
        evaluator: scores the model.
        context: what methods see.
        builder: begins stages.
        step: one step of training.
        log: called with each record.

    """

    def __init__(self, setup: Setup, embedder: Embedder, *, log: Callable[[Record], None] = no_log) -> None:
        self.setup, self.log = setup, log
        if setup.recipe.engine.compile:
            embedder.compile_training()
        self.state = TrainState(setup.recipe, embedder, setup.stages[0])
        self.evaluator = Evaluator(setup)
        self.context = MethodContext(setup, self.state, self.evaluator, log)
        self.builder = StageBuilder(setup, self.state, self.context)
        self.step = TrainingStep(setup, self.state, self.context)
        self._drawn: dict[str, DrawnRecord] = {}

    def open_stage(self, number: int) -> None:
        """Begin a stage; the model is kept."""
        self.builder.open(number)

    def restore(self, checkpoint: Checkpoint) -> None:
        """Go back to where a checkpoint was written; raise `UserError` where it does not fit."""
        self.builder.restore(checkpoint)
        if checkpoint.threads is not None:
            self.setup.threads.go_on_with(checkpoint.threads)

    def save(self) -> None:
        """Write `last.pt`, from which the run goes on bit for bit; all processes call it."""
        state, setup = self.state.state_dict(), self.setup
        if distributed.rank() != 0:
            return
        checkpoint = Checkpoint(
            **state,
            threads=setup.threads.settled,
            precision=setup.arithmetic.precision,
            channels_last=setup.arithmetic.channels_last,
            images=setup.images,
            machine=setup.machine,
            cameras=self.state.embedder.cameras.to_plain() or None,
        )
        save_checkpoint(checkpoint, setup.folder / "last.pt")

    def assign_labels(self) -> Ints:
        """Return the labels of the present epoch, (N,) or (N, V) int64, -1 = not to be used."""
        return assign_labels(self.builder)

    # ---- a stage

    def run_stage(
        self, *, stop: Callable[[], bool], watch: Sequence[Watch] = (), epoch_done: Callable[[EpochRecord], None]
    ) -> bool:
        """Train the present stage from where it stands.

        Args:
            stop: asked after every step; true breaks the stage off there.
            watch: handlers to attach.
            epoch_done: called with the record of every finished epoch, after the state has moved on to the next.

        Returns:
            Whether the stage came to its end.

        """
        setup, state, settings = self.setup, self.state, self.state.settings
        store = self._open_images() if settings.reads_images else None
        count, accumulate = count_batches(state.stage, settings.data.sampler), setup.recipe.engine.grad_accum_steps

        first_step = self.log if settings.reads_images else None  # the gradients of the model, which has none else

        def step(_: Engine, batch: Batch) -> None:
            with setup.threads.step(len(batch)):
                self.step(batch, count=count, first_step=first_step)

        engine = Engine(step)
        engine.logger.setLevel(logging.CRITICAL)  # an error is told once, by whoever called
        clock = Clock()
        clock.attach(engine)

        @engine.on(Events.ITERATION_COMPLETED)
        def _advance() -> None:
            state.counters.end_batch()
            done = state.counters.iteration
            if done % accumulate == 0 and done < count and stop():
                engine.terminate()

        @engine.on(Events.EPOCH_COMPLETED)
        def _close_epoch() -> None:
            require_finite_weights(setup, state)
            record = self._record(clock, count=count)
            state.counters.end_epoch()
            distributed.share_state([*state.modules, *state.followers])
            epoch_done(record)
            if stop() or state.over:
                engine.terminate()

        for attach in watch:
            attach(self, engine)
        epoch = state.counters.epoch
        engine.state.epoch_length, engine.state.max_epochs = count, settings.epochs
        engine.state.iteration, engine.state.epoch = epoch * count + state.counters.iteration, epoch
        if not state.over:
            with closing(self._stream(store)) as batches:  # or loader processes outlive the stage
                engine.run(batches, max_epochs=settings.epochs, epoch_length=count)
        return state.over

    def _open_images(self) -> ImageStore:
        """Return the training images of the stage, all of which can be read."""
        settings, train = self.state.settings, self.state.stage.train
        masks = None if settings.foreground.use == "none" else train.mask_path
        store = ImageStore(train.path, self.setup.recipe.input, cache=settings.data.cache, masks=masks)
        store.require_readable()
        return store

    def _stream(self, store: ImageStore | None) -> Generator[Batch, None, None]:
        """Yield batches without end; the labels and the plan of an epoch are made when its first batch is asked for."""
        recipe, state = self.setup.recipe, self.state
        data, seed = state.settings.data, recipe.engine.seed
        columns = data.sampler.columns(rank=distributed.rank(), world=distributed.world())
        while True:
            labels, at = self.assign_labels(), state.counters
            generator = np.random.default_rng([seed, at.stage, at.epoch])
            identities = labels if labels.ndim == 1 else labels[:, 0]
            plan = plan_epoch(state.stage, identities, generator, sampler=data.sampler)
            self._drawn = drawn(plan, state.stage)
            cam = state.stage.train.cam_row
            if store is None:
                yield from batches_without_images(plan, labels=labels, cam=cam, columns=columns, first=at.iteration)
                continue
            yield from training_batches(
                store,
                plan,
                labels=labels,
                cam=cam,
                settings=data,
                place=EpochKey(seed, at.stage, at.epoch),
                columns=columns,
                first=at.iteration,
                foreground=state.settings.foreground,
            )

    def _record(self, clock: Clock, *, count: int) -> EpochRecord:
        state, seconds = self.state, clock.seconds
        return EpochRecord(
            stage=state.counters.stage + 1,
            title=state.stage.name,
            epoch=state.counters.epoch + 1,
            epochs=state.settings.epochs,
            lr=base_lr(state.optimiser),
            terms={
                name: TermRecord(value / count, weighted / count, weight)
                for name, (value, weighted, weight) in state.counters.sums.items()
            },
            images_per_second=clock.images / seconds,
            busy=1 - clock.waited / seconds,
            seconds=seconds,
            drawn=self._drawn,
        )

    # ---- its end

    def end_stage(self) -> float:
        """Go through the end of a stage with its methods, once, save it, and return the seconds that it took.

        The kinds of `END_OF_STAGE` follow one another; nothing is saved in between, so a resume begins with the first.
        """
        if self.state.counters.ended or not self.state.active_methods:
            return 0.0
        began = time.perf_counter()
        self.state.frozen.release()  # methods keep what later stages need, which may train everything
        for phase in END_OF_STAGE:
            self.go_through(phase)
        self.state.counters.end_stage()
        self.save()
        return time.perf_counter() - began

    def go_through(self, phase: str) -> None:
        """Call `on_stage_end` of the methods whose end of a stage is of one kind of `END_OF_STAGE`."""
        at, seed = self.state.counters, self.setup.recipe.engine.seed
        for method in self.state.active_methods:  # each with a seed of its own, whichever methods there are beside it
            torch.manual_seed(mix_seeds(seed, at.stage, at.epoch))
            if method.settings.end == phase:
                method.on_stage_end(self.context)


def make_trainer(
    recipe: Recipe,
    folder: Path,
    *,
    weights: Literal["as the recipe says", "from a checkpoint"] = "as the recipe says",
    arithmetic: Arithmetic | None = None,
    log: Callable[[Record], None] = no_log,
) -> Trainer:
    """Read the data, build the model, and check what can be checked before the first step.

    Args:
        recipe: what runs.
        folder: where it writes.
        weights: whether the model is about to be filled from a checkpoint.
        arithmetic: precision and layout that a run that is resumed has computed in.
        log: called with each record.

    Raises:
        UserError: data or weights that are not there, or settings that this machine or this data cannot serve.

    """
    return Trainer(*make_setup(recipe, folder, weights=weights, arithmetic=arithmetic), log=log)
