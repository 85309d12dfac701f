"""Records of a lifelong run at the end of each stage: its model, memory, and gallery compatibility.

A run is lifelong where its stages learn from different data sets; several stages on one data set are not.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Literal

from passerby.evaluation import evaluate
from passerby.files import write_json
from passerby.methods.method import bytes_of
from passerby.metrics.galleries import merge_sites, search_earlier
from passerby.metrics.pooling import average_queries
from passerby.models.embedder import save_embedder
from passerby.recipe.places import public_text
from passerby.training import distributed, run_log
from passerby.training.lifelong_results import lifelong_results_json, read_lifelong_results
from passerby.training.run_log import SearchRecord, StageRecord
from passerby.training.state import TrainState
from passerby.training.trainer import Trainer
from passerby.types import Embeddings


class LifelongRecorder:
    """Records of a lifelong run; without effect in any other run, and in all processes but the first.

    Gallery vectors of the stage before are kept, since a resumed run needs them. No method changes the training, so all
    may be called again after a resume.
    """

    def __init__(self, trainer: Trainer) -> None:
        self.setup, self.state, self.log = trainer.setup, trainer.state, trainer.log
        self.on = trainer.setup.recipe.lifelong and distributed.rank() == 0
        self.unseen: list[Embeddings] = []

    @property
    def tests_start(self) -> bool:
        """Whether the model is to be tested now, before its first step."""
        setup, at = self.setup, self.state.counters
        return at.stage == 0 and at.at_start and setup.recipe.lifelong and setup.recipe.test.start == "auto"

    def end(self, seconds: float) -> None:
        """Log duration and memory of the methods, and save the model unless the stage is the last.

        Args:
            seconds: duration of the methods' work after the last epoch.

        """
        if not self.on:
            return
        setup, state = self.setup, self.state
        number, epoch = state.counters.stage + 1, state.counters.epoch
        images = sum(method.stored_images for method in state.all_methods.values())
        self.log(StageRecord(number, epoch, state.stage.name, seconds, memory_footprint(state), images))
        if number < len(setup.stages) and setup.recipe.engine.keep_stages == "auto":
            path = setup.folder / f"stage-{number}.safetensors"
            save_embedder(state.tested, path, recipe=public_text(setup.recipe))

    def test_dataset(self, embeddings: Embeddings) -> None:
        """Test the gallery compatibility of a data set, and save the gallery vectors for the next stage."""
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
        """Search the unseen data sets as one, write the results so far, and delete vectors of earlier stages."""
        if not self.on:
            return
        setup = self.setup
        if len(self.unseen) > 1:
            self._search("merged", merge_sites(self.unseen))
        self.unseen = []
        tested = [setup.datasets[name].name for name in setup.recipe.tested]
        results = read_lifelong_results(setup.stages, tested, run_log.read(setup.folder / "log.jsonl"))
        if results is not None:
            write_json(setup.folder / "continual_metrics.json", lifelong_results_json(results))
        for older in range(1, self.state.counters.stage):
            shutil.rmtree(self._vectors(older, "").parent, ignore_errors=True)

    def _learnt(self, count: int) -> set[str]:
        return {name for stage in self.setup.stages[:count] for name in stage.sources}

    def _vectors(self, number: int, name: str) -> Path:
        return self.setup.folder / "embeddings" / f"stage-{number}" / f"{name}.npz"

    def _queries(self, embeddings: Embeddings) -> Embeddings:
        """Return the embeddings, with averaged queries where the recipe asks for them."""
        test = self.setup.recipe.test
        return average_queries(embeddings, distance=test.distance) if test.queries == "multi" else embeddings

    def _search(self, kind: Literal["earlier gallery", "merged"], table: Embeddings) -> None:
        test, at = self.setup.recipe.test, self.state.counters
        scores = evaluate(
            table, cameras=test.cameras, distance=test.distance, device=self.setup.device.type, verification=False
        )
        record = SearchRecord(at.stage + 1, at.epoch, kind, table.dataset, scores.mAP, scores.rank(1))
        self.log(record)


def memory_footprint(state: TrainState) -> dict[str, dict[str, int]]:
    """Return the bytes that a run keeps for its methods: those of the previous model, and of each method by name."""
    methods = {
        name: footprint for name, method in state.all_methods.items() if (footprint := method.memory_footprint())
    }
    if state.previous_model is None:
        return methods
    return {"previous model": {"model": bytes_of(state.previous_model.state_dict())}, **methods}
