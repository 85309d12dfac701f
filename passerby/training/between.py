"""What a lifelong run does at the end of each stage: keep the model, search the vectors of the stage before.

A run is lifelong where its stages learn from different data sets; several stages on one data set are not.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Literal

from passerby.evaluation import average_queries, evaluate
from passerby.files import write_json
from passerby.methods.method import bytes_of
from passerby.metrics.galleries import merge_sites, search_earlier
from passerby.models.embedder import save_embedder
from passerby.recipe.places import public_text
from passerby.training import distributed, run_log
from passerby.training.course import course_json, course_of
from passerby.training.run_log import SearchRecord, StageRecord
from passerby.training.state import TrainState
from passerby.training.trainer import Trainer
from passerby.types import Embeddings


class Between:
    """Follows a lifelong run from stage to stage; in another run, and in all processes but the first, it does nothing.

    The vectors of the galleries are kept for as long as a resume may need them: those of the stage before. Nothing here
    changes the run, so it may be done again after a resume.
    """

    def __init__(self, trainer: Trainer) -> None:
        self.setup, self.state, self.tell = trainer.setup, trainer.state, trainer.log
        self.on = trainer.setup.recipe.lifelong and distributed.rank() == 0
        self.unseen: list[Embeddings] = []

    @property
    def tests_start(self) -> bool:
        """Whether the model is to be tested before its first step, which is the present moment."""
        setup, at = self.setup, self.state.counters
        return at.stage == 0 and at.at_start and setup.recipe.lifelong and setup.recipe.test.start == "auto"

    def end(self, seconds: float) -> None:
        """Note what the stage leaves, and keep its model unless it is the last.

        Args:
            seconds: what the methods of the method took after the last epoch.

        """
        if not self.on:
            return
        setup, state = self.setup, self.state
        number, epoch = state.counters.stage + 1, state.counters.epoch
        images = sum(method.stored_images for method in state.all_methods.values())
        self.tell(StageRecord(number, epoch, state.stage.name, seconds, memory_footprint(state), images))
        if number < len(setup.stages) and setup.recipe.engine.keep_stages == "auto":
            path = setup.folder / f"stage-{number}.safetensors"
            save_embedder(state.tested, path, recipe=public_text(setup.recipe))

    def site(self, embeddings: Embeddings) -> None:
        """Test a data set against the stage before, and keep what the next stage needs."""
        if not self.on:
            return
        number, name = self.state.counters.stage, embeddings.dataset
        if name in self._learnt(number) and (earlier := self._vectors(number, name)).is_file():
            self._search("earlier gallery", search_earlier(self._queries(embeddings), Embeddings.load(earlier)))
        if number + 1 < len(self.setup.stages) and name in self._learnt(number + 1):
            embeddings.gallery.save(self._vectors(number + 1, name))
        if name not in self._learnt(len(self.setup.stages)):
            self.unseen.append(self._queries(embeddings))

    def close(self) -> None:
        """Search the unseen data sets as one, write what is known by now, and let go of what no resume needs."""
        if not self.on:
            return
        setup = self.setup
        if len(self.unseen) > 1:
            self._search("merged", merge_sites(self.unseen))
        self.unseen = []
        tested = [setup.datasets[name].name for name in setup.recipe.tested]
        course = course_of(setup.stages, tested, run_log.read(setup.folder / "log.jsonl"))
        if course is not None:
            write_json(setup.folder / "continual_metrics.json", course_json(course))
        for older in range(1, self.state.counters.stage):
            shutil.rmtree(self._vectors(older, "").parent, ignore_errors=True)

    def _learnt(self, count: int) -> set[str]:
        return {name for stage in self.setup.stages[:count] for name in stage.sources}

    def _vectors(self, number: int, name: str) -> Path:
        return self.setup.folder / "embeddings" / f"stage-{number}" / f"{name}.npz"

    def _queries(self, embeddings: Embeddings) -> Embeddings:
        """Return the embeddings, queries averaged where the recipe says so, before galleries are exchanged."""
        test = self.setup.recipe.test
        return average_queries(embeddings, distance=test.distance) if test.queries == "multi" else embeddings

    def _search(self, kind: Literal["earlier gallery", "merged"], table: Embeddings) -> None:
        test, at = self.setup.recipe.test, self.state.counters
        found = evaluate(
            table, cameras=test.cameras, distance=test.distance, device=self.setup.device.type, verification=False
        )
        record = SearchRecord(at.stage + 1, at.epoch, kind, table.dataset, found.mAP, found.rank(1))
        self.tell(record)


def memory_footprint(state: TrainState) -> dict[str, dict[str, int]]:
    """Return the bytes that a run keeps for its methods: those of the previous model, and of each method by name."""
    methods = {name: held for name, method in state.all_methods.items() if (held := method.memory_footprint())}
    if state.previous_model is None:
        return methods
    return {"previous model": {"model": bytes_of(state.previous_model.state_dict())}, **methods}
