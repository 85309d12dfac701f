"""Context of a method: the values of a run that it may read, and the few operations that it may call."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from passerby.device import Precision
from passerby.inference.embed import Vectors, View, embed, embed_both
from passerby.losses.mix import LossMix, LossTerm
from passerby.methods.method import Gathering, Method, PreviousModel
from passerby.models.embedder import Embedder
from passerby.training import distributed
from passerby.training.evaluator import Evaluator
from passerby.training.forward import compute_losses, forward
from passerby.training.plan import count_batches
from passerby.training.run_log import MetricRecord, Record
from passerby.training.setup import Setup
from passerby.training.state import TrainState
from passerby.training.teacher import load_teacher, teacher_vectors
from passerby.types import Batch, Floats, Scores, Split, Stage, VectorName


@dataclass(frozen=True, eq=False)
class ClusteredVectors:
    """The vectors (M, D) of the unlabelled images that pseudo-labels are read from, and their k-distances (M,)."""

    vectors: Floats
    curve: Floats | None = None


class MethodContext:
    """A read-only view of the run for methods, always of its present state."""

    def __init__(self, setup: Setup, state: TrainState, evaluator: Evaluator, log: Callable[[Record], None]) -> None:
        self._setup, self._state, self._evaluator, self._log = setup, state, evaluator, log
        self._cache: dict[int, Vectors] | None = None
        self._clustered: ClusteredVectors | None = None
        self._transferred = False

    # ---- the run

    @property
    def device(self) -> torch.device:
        """The device of the run."""
        return self._setup.device

    @property
    def stages(self) -> Sequence[Stage]:
        """All stages of the run as the recipe has them, without what methods add."""
        return self._setup.stages

    @property
    def stage(self) -> Stage:
        """The present stage, with what methods add to it."""
        return self._state.stage

    @property
    def stage_number(self) -> int:
        """Number of the present stage, from 0."""
        return self._state.counters.stage

    @property
    def has_past(self) -> bool:
        """Whether a stage came before the present one, in this run or in the one that it starts from."""
        return self.stage_number > 0 or self._setup.recipe.init_from is not None

    @property
    def epoch(self) -> int:
        """Number of the present epoch in the stage, from 0."""
        return self._state.counters.epoch

    @property
    def iteration(self) -> int:
        """Number of the present batch in the epoch, from 0."""
        return self._state.counters.iteration

    @property
    def stage_batches(self) -> int:
        """Number of batches of the present stage, where no method ends it early."""
        return self.stage.epochs * count_batches(self.stage, self._state.settings.data.sampler)

    @property
    def batch(self) -> Batch | None:
        """The batch of the present step; None between steps."""
        return self._state.batch

    @property
    def seed(self) -> int:
        """The seed of random draws of the present stage."""
        return self._state.seed

    @property
    def active_methods(self) -> Sequence[Method]:
        """The methods of the present stage, in their order."""
        return self._state.active_methods

    @property
    def is_transferred(self) -> bool:
        """Whether losses are computed of images that another method has made of the present batch."""
        return self._transferred

    # ---- models and losses

    @property
    def embedder(self) -> Embedder:
        """The model that is trained."""
        return self._state.embedder

    @property
    def tested(self) -> Embedder:
        """The model that is scored and that is the next stage's previous model: the EMA where there is one."""
        return self._state.tested

    @property
    def models(self) -> list[Embedder]:
        """The model that is trained and, where it is another, the one that is scored; both go on in the next stage."""
        return self._state.models

    @property
    def previous_model(self) -> PreviousModel | None:
        """The model of the stage before, where a method uses it; None in the first stage of most runs."""
        return self._state.previous_model

    @property
    def losses(self) -> LossMix:
        """The losses of the present stage."""
        return self._state.losses

    @property
    def sums(self) -> Mapping[str, Sequence[float]]:
        """Of each loss term in the epoch so far: the sums of its values and of what was added, the latest weight."""
        return self._state.counters.sums

    @property
    def is_updated(self) -> bool:
        """Whether the optimiser has updated the weights after the present batch, not only accumulated its gradients."""
        return self._state.is_updated

    # ---- functions

    @property
    def precision(self) -> Precision:
        """The precision of the network."""
        return self._setup.precision

    def autocast(self) -> AbstractContextManager[object]:
        """Return the block in which the network runs in the precision of the run."""
        return self._setup.autocast()

    def view(self, split: Split) -> View:
        """Return how training images are shown where nothing is augmented: with their masks where they matter."""
        return self._setup.view(split, stage=self._state.counters.stage)

    def vectors(self, model: Embedder | None = None) -> Vectors:
        """Embed all training images of the stage, by the model that is trained unless another is given."""
        model = self.embedder if model is None else model
        cache = {} if self._cache is None else self._cache
        if id(model) not in cache:
            train = self.stage.train
            cache[id(model)] = embed_both(model, train, precision=self.precision, view=self.view(train))
        return cache[id(model)]

    def vectors_of(self, split: Split, vector: VectorName, *, model: Embedder | None = None) -> Tensor:
        """Embed images without augmentation, (N, D) float32, by the model that is trained unless another is given."""
        model = self.embedder if model is None else model
        vectors = embed(model, split, vector=vector, precision=self.precision, view=self.view(split))
        return torch.from_numpy(vectors).to(self.device)

    def teacher_vectors(self, file: str, *, given: Sequence[str] = ()) -> Tensor:
        """Embed the images of the stage, not augmented, by another model, (N, D) float32; see `load_teacher`."""
        model = load_teacher(file, given=given, device=str(self.device))
        vectors = teacher_vectors(model, self.stage.train, source=file, device=self.device)
        return torch.from_numpy(vectors).to(self.device)

    @contextmanager
    def embedding_once(self) -> Iterator[None]:
        """Embed the images at most once for each model in a block in which no model changes."""
        self._cache = {}
        try:
            yield
        finally:
            self._cache = self._clustered = None

    def record_clustering(self, vectors: Floats, *, curve: Floats | None = None) -> None:
        """Record the vectors (M, D) that the coming pseudo-labels are read from, and their k-distances, for figures."""
        self._clustered = ClusteredVectors(vectors, curve)

    @property
    def clustered(self) -> ClusteredVectors | None:
        """The recorded vectors of the coming pseudo-labels; None where no method has recorded any."""
        return self._clustered

    def compute_transferred_losses(self, batch: Batch) -> dict[str, LossTerm]:
        """Return the losses of a batch that a method has made: of the stage, and of methods that transfer."""
        out = forward(self._setup, self._state, batch)
        terms = compute_losses(self._setup, self._state, batch, out)
        self._transferred = True
        try:
            for method in self.active_methods:
                if method.settings.transfers:
                    terms |= method.losses(self, batch, out)
        finally:
            self._transferred = False
        return terms

    def scores(self, model: Embedder) -> dict[str, Scores]:
        """Score a model, not re-ranked, on every data set that the run tests."""
        return self._evaluator.scores(model)

    def log_metrics(self, method: str, values: dict[str, float], *, note: str = "") -> None:
        """Write metrics of a method, by name, and a note into the log."""
        self._log(MetricRecord(self.stage_number + 1, self.epoch, method, values, note))

    def gather(self, *rows: Tensor, use: Gathering = "memory") -> tuple[Tensor, ...]:
        """Join what each of several processes holds of a batch, (B / world, ...) to (B, ...), in the batch's order.

        A memory must move by the whole batch, or each process would remember something else. The mean over some images
        of a batch is taken over those of all processes, or an image would count more where there are fewer of its kind.
        Pairs are mined in the whole batch where the recipe says so (`engine.mining`). Gradients reach every process.
        """
        is_local = use == "mining" and self._setup.recipe.engine.mining == "local"
        return rows if is_local else distributed.gather_batch(rows)
