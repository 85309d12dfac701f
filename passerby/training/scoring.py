"""The evaluations of a run during training and at its end, and their files."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from passerby.files import write_json
from passerby.metrics.spread import spread_notes
from passerby.models.embedder import save_embedder
from passerby.recipe.places import public_text
from passerby.training import distributed, run_log
from passerby.training.lifelong import LifelongRecorder
from passerby.training.reference import change_since, losses_of_code, reference_of
from passerby.training.results import Result, result_json
from passerby.training.run_log import ScoreRecord
from passerby.training.trainer import Trainer
from passerby.types import Embeddings, Scores


class Scoring:
    """Evaluation of the model of a run on all test sets; it does not change the run."""

    def __init__(self, trainer: Trainer, lifelong: LifelongRecorder, say: Callable[[str], None]) -> None:
        self.trainer, self.lifelong, self.say = trainer, lifelong, say
        self.best = _best_before(trainer.setup.folder)

    def at_start(self) -> None:
        """Score the model before its first step, which stands as stage 0 in the run_log."""
        for name in self.trainer.setup.recipe.tested:
            self._record(self.trainer.evaluator.score(self._embed(name)), stage=0, epoch=0)

    def after_epoch(self) -> None:
        """Score the present model."""
        scores = [self.trainer.evaluator.score(self._embed(name)) for name in self.trainer.setup.recipe.tested]
        for each in scores:
            self._record_now(each)
        self._keep_best(scores)

    def after_stage(self) -> None:
        """Score the model after a stage, gallery compatibility included."""
        scores = []
        for name in self.trainer.setup.recipe.tested:
            embeddings = self._embed(name)
            scores.append(self.trainer.evaluator.score(embeddings))
            self._record_now(scores[-1])
            self.lifelong.test_dataset(embeddings)
        self.lifelong.close()
        self._keep_best(scores)

    def at_end(self) -> list[Result]:
        """Score the final model with and without re-ranking, and write its files."""
        setup, state = self.trainer.setup, self.trainer.state
        if distributed.rank() == 0:
            save_embedder(state.tested, setup.folder / "embedder.safetensors", recipe=public_text(setup.recipe))
        records = run_log.read(setup.folder / "log.jsonl")
        results = [self._result(name, records) for name in setup.recipe.tested]
        self.lifelong.close()
        self._keep_best([result.plain for result in results])
        if distributed.rank() == 0:
            trained = setup.recipe.stages[-1].losses.features
            entries = {result.dataset: result_json(result, trained=trained) for result in results}
            write_json(setup.folder / "scores.json", entries)
        return results

    def _result(self, name: str, records: Sequence[run_log.Record]) -> Result:
        """Score the final model on a data set and keep its vectors; `records` are those before the end."""
        setup, evaluator = self.trainer.setup, self.trainer.evaluator
        recipe, rerank = setup.recipe, setup.recipe.test.rerank
        embeddings = self._embed(name)
        plain = evaluator.score(embeddings)
        result = Result(
            embeddings.dataset,
            plain,
            None if rerank is None else evaluator.score(embeddings, rerank=rerank.parameters),
            reference_of(recipe, setup.datasets, name),
            evaluator.background_bias(self.trainer.state.tested, name, embeddings),
            change_since(recipe, run_log.scores(records), name, after=plain),
            losses_of_code(recipe, run_log.metrics(records), name),
            evaluator.open_set(embeddings),
        )
        if distributed.rank() == 0:
            embeddings.save(setup.folder / "embeddings" / f"{embeddings.dataset}.npz")
            self._record_now(plain)
        self.lifelong.test_dataset(embeddings)
        return result

    def _embed(self, name: str) -> Embeddings:
        """Embed a test set, with a note where its vectors do not differ."""
        embeddings = self.trainer.evaluator.embed(self.trainer.state.tested, name)
        say_once((f"{embeddings.dataset}: {note}" for note in spread_notes(embeddings.vectors)), self.say)
        return embeddings

    def _keep_best(self, scores: Sequence[Scores]) -> None:
        setup = self.trainer.setup
        if not setup.recipe.test.keep_best or not scores or distributed.rank() != 0:
            return
        mAP = sum(each.mAP for each in scores) / len(scores)
        if mAP > self.best:
            self.best = mAP
            path = setup.folder / "best-on-test.safetensors"
            save_embedder(self.trainer.state.tested, path, recipe=public_text(setup.recipe))

    def _record_now(self, scores: Scores) -> None:
        at = self.trainer.state.counters
        self._record(scores, stage=at.stage + 1, epoch=at.epoch)

    def _record(self, scores: Scores, *, stage: int, epoch: int) -> None:
        self.trainer.log(ScoreRecord(stage, epoch, scores.protocol.dataset, scores.mAP, scores.mINP, scores.rank(1)))


def say_once(sentences: Iterable[str], say: Callable[[str], None]) -> None:
    """Print sentences in the writing process only."""
    for sentence in sentences if distributed.rank() == 0 else ():
        say(sentence)


def _best_before(folder: Path) -> float:
    """Return the best mean mAP in the log of a run that is resumed, -1 when nothing was scored yet."""
    maps: dict[tuple[int, int], list[float]] = {}
    for record in run_log.scores(run_log.read(folder / "log.jsonl")):
        if record.stage:
            maps.setdefault((record.stage, record.epoch), []).append(record.mAP)
    return max((sum(each) / len(each) for each in maps.values()), default=-1.0)
