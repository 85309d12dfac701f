"""`train`: a recipe and a folder in, a trained and scored model out; safe to interrupt at any moment."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

from passerby.errors import OtherProcessError, UserError
from passerby.files import atomic_write, write_json
from passerby.plugins import require_used
from passerby.recipe import Recipe, recipe_from_text
from passerby.threads import ThreadChange, in_use
from passerby.training import distributed, run_log
from passerby.training.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from passerby.training.compatibility import require_stage
from passerby.training.environment import environment
from passerby.training.lifelong import LifelongRecorder
from passerby.training.log_writer import LogWriter
from passerby.training.results import Result
from passerby.training.resume import absolute, allow_changes, other_machine, require_same_images
from passerby.training.run_lock import run_lock
from passerby.training.run_log import EpochRecord, Record, ThreadRecord
from passerby.training.scoring import Scoring, say_once
from passerby.training.signals import interruptible
from passerby.training.start_messages import missing_folders_hint, position_of, require_free, start_messages
from passerby.training.trainer import Trainer, Watch, make_trainer


class Interrupted(KeyboardInterrupt):
    """Training was interrupted by Ctrl-C; the run is saved."""


def train(
    recipe: Recipe,
    folder: Path,
    *,
    start: Literal["fresh", "resume"] = "fresh",
    watch: Sequence[Watch] = (),
    listen: Sequence[Callable[[Record], None]] = (),
    say: Callable[[str], None] | None = None,
) -> list[Result]:
    """Run a recipe and write the run folder.

    Args:
        recipe: what to run.
        folder: where to write; made if need be.
        start: `fresh` refuses a folder that holds a run, `resume` goes on with it.
        watch: handlers for each stage's engine, which change nothing.
        listen: called with each journal record, in the writing process only.
        say: called with sentences a person should see before the first step, in the writing process only.

    Raises:
        UserError: anything that the person can mend; what is already written stays.
        OtherProcessError: another process of the run failed first, when `torchrun` started this one.
        Interrupted: Ctrl-C; the state is saved first.

    """
    joined = distributed.start()
    try:
        with run_lock(folder):
            trainer, checkpoint, sentences = _prepare(recipe, folder, start, LogWriter(folder, listen))
            with in_use(trainer.setup.threads):
                return _Session(trainer, watch, say or (lambda _: None)).run(checkpoint, sentences)
    except Interrupted:
        raise
    except KeyboardInterrupt as interruption:  # between stages, or while scoring: nothing is in the middle of a step
        if not (folder / "last.pt").exists():
            raise
        raise Interrupted(f"stopped; all finished epochs are saved in {folder}") from interruption
    except Exception as error:
        if joined:
            _require_first_failure(error, folder)
        raise
    finally:
        if joined:
            distributed.stop()


def _require_first_failure(error: Exception, folder: Path) -> None:
    """Replace an error that only follows from that of another process, or from its sudden end.

    Raises:
        OtherProcessError: another process has failed before.
        UserError: another process is gone and has said nothing.

    """
    if isinstance(error, OtherProcessError):
        return
    if not distributed.is_first_failure():
        raise OtherProcessError("another process of the run has failed; its error says why") from error
    if distributed.is_lost_connection(error):
        raise UserError(
            "another process of the run has ended without an error; perhaps the system ended it for lack of memory; "
            f"the last saved state is kept in {folder}, and --resume goes on from there"
        ) from error


def _prepare(
    recipe: Recipe, folder: Path, start: Literal["fresh", "resume"], log: LogWriter
) -> tuple[Trainer, Checkpoint | None, list[str]]:
    """Return a trainer, the checkpoint to resume from, and the start messages."""
    recipe, checkpoint = absolute(recipe), None if start == "fresh" else load_checkpoint(folder / "last.pt")
    if checkpoint is None:
        require_free(folder)
        distributed.wait()  # or the first process would write what makes the last one refuse the folder
        trainer = make_trainer(recipe, folder, log=log)
        return trainer, None, start_messages(trainer)
    others = require_used(folder)
    begun = recipe_from_text(checkpoint.recipe, source=str(folder / "last.pt"), notify=others.append)
    require_stage(checkpoint, [stage.epochs for stage in recipe.stages])
    changes = allow_changes(begun, recipe, checkpoint)
    try:
        trainer = make_trainer(recipe, folder, weights="from a checkpoint", arithmetic=checkpoint.arithmetic, log=log)
    except UserError as error:
        raise UserError(f"{error}{missing_folders_hint(recipe)}") from error
    setup = trainer.setup
    require_same_images(checkpoint.images, setup.images)
    sentences = [*start_messages(trainer), *others, *changes, *other_machine(checkpoint.machine, setup.machine)]
    return trainer, checkpoint, sentences


class _Session:
    """One call of `train`: a run from its beginning or a checkpoint to its scores."""

    def __init__(self, trainer: Trainer, watch: Sequence[Watch], say: Callable[[str], None]) -> None:
        self.trainer, self.watch, self.say = trainer, list(watch), say
        trainer.setup.threads.listen(self._threads_changed)
        self.lifelong = LifelongRecorder(trainer)
        self.scoring = Scoring(trainer, self.lifelong, say)

    def run(self, checkpoint: Checkpoint | None, sentences: list[str]) -> list[Result]:
        """Start a run, or resume it from a checkpoint, and return the final scores."""
        if checkpoint is None:
            say_once(sentences, self.say)
            self.trainer.open_stage(0)
            self.trainer.save()  # before anything says that the folder holds a run: there is always something to resume
        else:
            self._go_on(checkpoint, sentences)
        self._describe()
        self._learn()
        return self.scoring.at_end()

    def _go_on(self, checkpoint: Checkpoint, sentences: list[str]) -> None:
        trainer, setup = self.trainer, self.trainer.setup
        trainer.restore(checkpoint)
        damaged = run_log.count_damaged(file := setup.folder / "log.jsonl")
        sentences += [f"{file}: {damaged} of its lines cannot be read and are left out"] if damaged else []
        say_once([*sentences, position_of(trainer)], self.say)
        if checkpoint.recipe != setup.recipe.dump() and distributed.rank() == 0:
            save_checkpoint(replace(checkpoint, recipe=setup.recipe.dump()), setup.folder / "last.pt")

    def _describe(self) -> None:
        """Write the present recipe, and the environment of the start."""
        setup = self.trainer.setup
        if distributed.rank() != 0:
            return
        with atomic_write(setup.folder / "recipe.yaml") as file:
            file.write(setup.recipe.dump().encode())
        if (setup.folder / "environment.json").exists():
            return
        described = environment(device=str(setup.device), precision=setup.precision, processes=distributed.world())
        write_json(setup.folder / "environment.json", described)

    def _learn(self) -> None:
        """Train the remaining stages."""
        trainer, stages = self.trainer, len(self.trainer.setup.stages)
        if self.lifelong.tests_start:
            self.scoring.at_start()
        if not trainer.state.over:
            trainer.setup.threads.begin()
        with interruptible() as interrupted:
            for number in range(trainer.state.counters.stage, stages):
                if number != trainer.state.counters.stage:
                    trainer.open_stage(number)
                finished = trainer.run_stage(
                    stop=lambda: distributed.any_of(interrupted.is_set()),
                    watch=self.watch,
                    epoch_done=self._epoch_done,
                )
                if not finished:
                    trainer.save()
                    raise Interrupted(
                        f"stopped before {trainer.state.counters}; everything is saved in {trainer.setup.folder}"
                    )
                self.lifelong.end(trainer.end_stage())
                if number + 1 < stages:  # the last one is scored at the end of the run
                    self.scoring.after_stage()

    def _epoch_done(self, record: EpochRecord) -> None:
        every = self.trainer.setup.recipe.test.every
        self.trainer.log(record)  # first: a record is written twice when the run is killed in between, and not lost
        self.trainer.save()
        if record.epoch < record.epochs and every and record.epoch % every == 0:
            self.scoring.after_epoch()  # after the last epoch the methods still act before the stage is scored

    def _threads_changed(self, change: ThreadChange) -> None:
        at = self.trainer.state.counters
        batch = at.iteration + (1 if change.kind == "start" else 2)  # else the step is not counted yet
        counts = change.count, change.kind, change.before, change.speed, change.speed_before
        self.trainer.log(ThreadRecord(at.stage + 1, at.epoch + 1, batch, *counts))
