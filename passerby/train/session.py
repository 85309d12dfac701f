"""`train`: a recipe and a folder in, a trained and scored model out; safe to interrupt at any moment."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from passerby.background_bias import BackgroundBias
from passerby.errors import UserError
from passerby.evaluation import scores_json
from passerby.files import atomic_write, write_json
from passerby.metrics.spread import spread_notes
from passerby.models.embedder import save_embedder
from passerby.optim import never_falls
from passerby.plugins import describe_used, require_used
from passerby.recipe import Recipe, recipe_from_text
from passerby.recipe.places import public_text
from passerby.reference_results import Reference
from passerby.scorable import camera_note
from passerby.threads import ThreadChange, in_use
from passerby.train import distributed, run_log
from passerby.train.between import Between
from passerby.train.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from passerby.train.environment import environment
from passerby.train.fit import require_stage
from passerby.train.holding import run_lock
from passerby.train.loop import Watch, end_stage, run_stage
from passerby.train.plan import stage_sentences
from passerby.train.reference import change_since, losses_of_code, reference_of
from passerby.train.resume import absolute, allow, other_machine, require_same_images
from passerby.train.run import Run
from passerby.train.run_log import EpochRecord, Record, ScoreRecord, ThreadRecord
from passerby.train.setup import make_run
from passerby.train.signals import interruptible
from passerby.train.stages import people_sentences
from passerby.types import Embeddings, Scores


class Interrupted(KeyboardInterrupt):
    """The person pressed Ctrl-C; the run is saved and the text says how to go on."""


@dataclass(frozen=True, eq=False)
class Result:
    """What a finished run found on one data set.

    Attributes:
        dataset: its name.
        plain, reranked: the scores; `reranked` is None when the recipe switches re-ranking off.
        reference: the reference results of the recipe there; None without any.
        background_bias: None when it is switched off, or when not all test images have a mask.
        forgetting: change of the mAP since the set was learnt, in points, negative = lost; None when nothing was learnt
            after it.
        losses: of the autoencoder that it left, by name; None when it left none.

    """

    dataset: str
    plain: Scores
    reranked: Scores | None
    reference: Reference | None = None
    background_bias: BackgroundBias | None = None
    forgetting: float | None = None
    losses: Mapping[str, float] | None = None


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
        listen: called with each log record, in the writing process only.
        say: called with sentences a person should see before the first step, in the writing process only.

    Raises:
        UserError: anything that the person can mend; what is already written stays.
        Interrupted: Ctrl-C; the state is saved first.

    """
    joined = distributed.start()
    try:
        with run_lock(folder):
            run, checkpoint, sentences = _prepare(recipe, folder, start)
            with in_use(run.threads):
                return _go(_Session(run, watch, listen, say or (lambda _: None)), checkpoint, sentences)
    except Interrupted:
        raise
    except KeyboardInterrupt as interruption:  # between stages, or while scoring: nothing is in the middle of a step
        if not (folder / "last.pt").exists():
            raise
        raise Interrupted(f"stopped; all finished epochs are saved in {folder}") from interruption
    finally:
        if joined:
            distributed.stop()


def _prepare(
    recipe: Recipe, folder: Path, start: Literal["fresh", "resume"]
) -> tuple[Run, Checkpoint | None, list[str]]:
    """Make a run, with the checkpoint that it goes on from and what a person should know before."""
    recipe, checkpoint = absolute(recipe), None if start == "fresh" else load_checkpoint(folder / "last.pt")
    if checkpoint is None:
        require_free(folder)
        distributed.wait()  # or the first process would write what makes the last one refuse the folder
        run = make_run(recipe, folder)
        return run, None, opening(run)
    others = require_used(folder)
    begun = recipe_from_text(checkpoint.recipe, source=str(folder / "last.pt"))
    require_stage(checkpoint, [stage.epochs for stage in recipe.stages])
    said = allow(begun, recipe, checkpoint)
    try:
        run = make_run(recipe, folder, weights="from a checkpoint", arithmetic=checkpoint.arithmetic)
    except UserError as error:
        raise UserError(f"{error}{_moved(recipe)}") from error
    require_same_images(checkpoint.images, run.images)
    return run, checkpoint, [*opening(run), *others, *said, *other_machine(checkpoint.machine, run.machine)]


def _moved(recipe: Recipe) -> str:
    """Name the settings of the data sets that a run goes on with and that are no longer where they were."""
    names = dict.fromkeys(name for stage in recipe.stages for name in stage.shown)
    keys = {name: f"datasets.{name}" if name in recipe.datasets else "" for name in names}
    places = {name: recipe.dataset(name).model_dump() for name in names}
    gone = [
        f"{keys[name]}.{key}".lstrip(".")
        for name, place in places.items()
        for key in ("root", "path")
        if key in place and not Path(str(place[key])).exists()
    ]
    return f"; if the images have moved, say where they are: --resume {gone[0]}=FOLDER" if gone else ""


def _go(session: _Session, checkpoint: Checkpoint | None, sentences: list[str]) -> list[Result]:
    """Begin a run, or go on with it where a checkpoint stands, and score what came of it."""
    run, say = session.run, session.say
    if checkpoint is None:
        _say(sentences, say)
        run.open_stage(0)
        run.save()  # before anything says that the folder holds a run, so that there is always something to resume
    else:
        run.restore(checkpoint)
        damaged = run_log.count_damaged(file := run.folder / "log.jsonl")
        sentences += [f"{file}: {damaged} of its lines cannot be read and are left out"] if damaged else []
        _say([*sentences, _stands(run)], say)
        if checkpoint.recipe != run.recipe.dump() and distributed.rank() == 0:
            save_checkpoint(replace(checkpoint, recipe=run.recipe.dump()), run.folder / "last.pt")
    session.describe()
    session.learn()
    return session.finish()


def _say(sentences: Iterable[str], say: Callable[[str], None]) -> None:
    for sentence in sentences if distributed.rank() == 0 else ():
        say(sentence)


def _stands(run: Run) -> str:
    """Say where a resumed run goes on."""
    number, stages = run.stage_number + 1, len(run.stages)
    if run.over and number == stages:
        return "all epochs are done already: nothing is left to learn, the model is only tested"
    place = f"epoch {run.epoch + 1}, batch {run.iteration + 1}"
    return f"going on at stage {number} of {stages}, {place if not run.over else 'which is at its end'}"


def opening(run: Run) -> list[str]:
    """Say what is about to be learnt, from what, and how."""
    sentences = [*describe_used()]
    sentences += [f"{dataset.name}: {note}" for dataset in run.datasets.values() for note in dataset.notes]
    for settings, stage in zip(run.recipe.stages, run.stages, strict=True):
        sentences += stage_sentences(stage, run.recipe.data)
        sentences += people_sentences(settings, run.datasets)
    if (loaded := run.embedder.loaded) is not None:
        sentences.append(f"{run.recipe.model.weights}: {loaded}")
    notes = [camera_note(run.datasets[name], run.recipe.test.cameras) for name in run.recipe.tested]
    sentences += [note for note in notes if note]
    chosen = {name: method for settings in run.recipe.stages for name, method in settings.method.chosen.items()}
    sentences += [f"method.{name}: {note}" for name, method in chosen.items() if (note := method.note)]
    sentences += [
        f"{settings.title}: the schedule does not lower the learning rate within {settings.epochs} epochs; the option "
        "--epochs N sets the epochs and stretches the schedule with them"
        for settings in run.recipe.stages
        if never_falls(settings.optim, settings.epochs)
    ]
    sentences.append(
        f"{run.recipe.model.backbone} in {run.precision} on {run.device}, {distributed.world()} process(es)"
    )
    sentences += [run.probed] if run.probed else []
    return sentences


def require_free(folder: Path) -> None:
    """Raise `UserError` unless a run can be begun in a folder."""
    if (folder / "recipe.yaml").exists():
        raise UserError(f"{folder} already holds a run; go on with it by --resume, or choose another --out")
    if folder.exists() and not folder.is_dir():
        raise UserError(f"--out {folder} is a file, not a folder")


class _Session:
    """One call of `train`: the run and those who follow it."""

    def __init__(
        self,
        run: Run,
        watch: Sequence[Watch],
        listen: Sequence[Callable[[Record], None]],
        say: Callable[[str], None],
    ) -> None:
        self.run, self.watch, self.listen, self.say = run, list(watch), list(listen), say
        run.follow = self._tell
        run.threads.follow = self._threads_changed
        self.best = _best_before(run.folder)
        self.between = Between(run, self._tell)

    def describe(self) -> None:
        """Write what is run, as it is now, and where it was begun."""
        run = self.run
        if distributed.rank() != 0:
            return
        with atomic_write(run.folder / "recipe.yaml") as file:
            file.write(run.recipe.dump().encode())
        if (run.folder / "environment.json").exists():
            return
        described = environment(device=str(run.device), precision=run.precision, processes=distributed.world())
        write_json(run.folder / "environment.json", described)

    def learn(self) -> None:
        """Go through the stages that are left."""
        run = self.run
        if self.between.tests_start:
            self._score_start()
        if not run.over:
            run.threads.begin()
        with interruptible() as interrupted:
            for number in range(run.stage_number, len(run.stages)):
                if number != run.stage_number:
                    run.open_stage(number)
                finished = run_stage(
                    run,
                    stop=lambda: distributed.any_of(interrupted.is_set()),
                    watch=self.watch,
                    first_step=self._tell,
                    epoch_done=self._epoch_done,
                )
                if not finished:
                    run.save()
                    where = f"stage {run.stage_number + 1}, epoch {run.epoch + 1}, batch {run.iteration + 1}"
                    raise Interrupted(f"stopped before {where}; everything is saved in {run.folder}")
                self.between.end(end_stage(run))
                if number + 1 < len(run.stages):  # `finish` scores the last one
                    self._score_stage()

    def finish(self) -> list[Result]:
        """Score the model with and without re-ranking and write what stays."""
        run, results = self.run, []
        records = run_log.read(run.folder / "log.jsonl")
        earlier, metrics = run_log.scores(records), run_log.metrics(records)
        rerank = run.recipe.test.rerank
        if distributed.rank() == 0:
            save_embedder(run.tested, run.folder / "embedder.safetensors", recipe=public_text(run.recipe))
        for name in run.recipe.tested:
            embeddings = self._embed(name)
            plain = run.score(embeddings)
            reranked = None if rerank is None else run.score(embeddings, rerank=rerank.parameters)
            reference, background_bias = (
                reference_of(run.recipe, run.datasets, name),
                run.background_bias(name, embeddings),
            )
            change = change_since(run.recipe, earlier, name, after=plain)
            losses = losses_of_code(run.recipe, metrics, name)
            results.append(Result(embeddings.dataset, plain, reranked, reference, background_bias, change, losses))
            if distributed.rank() == 0:
                embeddings.save(run.folder / "embeddings" / f"{embeddings.dataset}.npz")
                self._tell(self._score_record(plain, run.stage_number + 1, run.epoch))
            self.between.site(embeddings)
        self.between.close()
        self._keep_best([result.plain for result in results])
        if distributed.rank() == 0:
            trained = run.recipe.stages[-1].losses.features
            found = {result.dataset: result_json(result, trained=trained) for result in results}
            write_json(run.folder / "scores.json", found)
        return results

    def _epoch_done(self, record: EpochRecord) -> None:
        run, test = self.run, self.run.recipe.test
        self._tell(record)  # first: a record is written twice when the run is killed in between, and not lost
        run.save()
        if record.epoch < record.epochs and test.every and record.epoch % test.every == 0:
            self._score()  # after the last epoch the methods still have a word before the stage is scored

    def _score_start(self) -> None:
        """Score the model before its first step, which stands as stage 0 in the log."""
        for name in self.run.recipe.tested:
            self._tell(self._score_record(self.run.score(self._embed(name)), 0, 0))

    def _score_stage(self) -> None:
        """Score the model as a stage leaves it, also against the stage before."""
        run, found = self.run, []
        for name in run.recipe.tested:
            embeddings = self._embed(name)
            found.append(run.score(embeddings))
            self._tell(self._score_record(found[-1], run.stage_number + 1, run.epoch))
            self.between.site(embeddings)
        self.between.close()
        self._keep_best(found)

    def _score(self) -> None:
        """Score the model as it is on every tested data set."""
        run = self.run
        found = [run.score(self._embed(name)) for name in run.recipe.tested]
        for scores in found:
            self._tell(self._score_record(scores, run.stage_number + 1, run.epoch))
        self._keep_best(found)

    def _embed(self, name: str) -> Embeddings:
        """Embed a data set that is tested, and say so where its vectors do not differ."""
        embeddings = self.run.embed(name)
        _say((f"{embeddings.dataset}: {note}" for note in spread_notes(embeddings.vectors)), self.say)
        return embeddings

    def _keep_best(self, found: Sequence[Scores]) -> None:
        run = self.run
        if not run.recipe.test.keep_best or not found or distributed.rank() != 0:
            return
        mAP = sum(scores.mAP for scores in found) / len(found)
        if mAP > self.best:
            self.best = mAP
            save_embedder(run.tested, run.folder / "best-on-test.safetensors", recipe=public_text(run.recipe))

    def _score_record(self, scores: Scores, stage: int, epoch: int) -> ScoreRecord:
        return ScoreRecord(stage, epoch, scores.protocol.dataset, scores.mAP, scores.mINP, scores.rank(1))

    def _threads_changed(self, change: ThreadChange) -> None:
        run = self.run
        batch = run.iteration + (1 if change.kind == "start" else 2)  # else the step is not counted yet
        told = change.count, change.kind, change.before, change.speed, change.speed_before
        self._tell(ThreadRecord(run.stage_number + 1, run.epoch + 1, batch, *told))

    def _tell(self, record: Record) -> None:
        if distributed.rank() != 0:
            return
        run_log.append(self.run.folder / "log.jsonl", record)
        for listener in self.listen:
            listener(record)


def _best_before(folder: Path) -> float:
    """Return the best mean mAP in the log of a run that is resumed, -1 when nothing was scored yet."""
    found: dict[tuple[int, int], list[float]] = {}
    for record in run_log.scores(run_log.read(folder / "log.jsonl")):
        if record.stage:
            found.setdefault((record.stage, record.epoch), []).append(record.mAP)
    return max((sum(values) / len(values) for values in found.values()), default=-1.0)


def result_json(result: Result, *, trained: Mapping[str, str]) -> dict[str, object]:
    """Return the entry of one data set in scores.json; `trained` is the vector that each loss of the last stage saw."""
    entry: dict[str, object] = {"plain": scores_json(result.plain)}
    if result.reranked is not None:
        entry["reranked"] = scores_json(result.reranked)
    if result.reference is not None:
        entry["reference"] = result.reference.model_dump(mode="json")
    if result.background_bias is not None:
        entry["background_bias"] = result.background_bias.to_json()
    if result.forgetting is not None:
        entry["forgetting"] = result.forgetting
    if result.losses is not None:
        entry["losses"] = dict(result.losses)
    return {**entry, "trained": dict(trained)}
