"""A trained model whose network is run by the engine that embeds the images of a job soonest.

The remaining images of a job are not known, so as many are expected as have been embedded already: a preparation that
turns out useless takes at most as long as it would have saved. Small jobs are left to torch in float32.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from passerby.device import Engine, EnginePrecision
from passerby.encoders import Model, Trained, TrainedOnnx, require_maskless
from passerby.engines.candidates import (
    EXACT,
    GRAPH_ENGINES,
    TOLERANCE,
    Candidate,
    Speed,
    candidates_of,
    cheapest,
    is_installed,
    is_possible,
    precision_named,
)
from passerby.engines.engine_model import Draw, EngineModel, Say
from passerby.engines.graphs import has_graph, load_graph, run_by_graph
from passerby.engines.quantised import QuantisedModel
from passerby.engines.sample import PROBED, Sample, cosine_difference
from passerby.engines.speeds import keep_speeds, measure_speeds, read_speeds
from passerby.errors import UserError
from passerby.inference.openvino import OpenvinoSession

COUNT_FROM = 500
"""Images from which the engines are compared."""
PROBE_FROM, CONVERT_FROM = 20.0, 60.0
"""Seconds of a job from which precisions of torch are timed, and from which a network is converted for that."""
LOADING = 3.0
"""Seconds, about, to load a network that is converted already."""
FEW = 8
"""Images of the first estimate."""


def choose_engine(model: Model, *, say: Say | None = None, cache: Path | None = None) -> Model:
    """Return a model that is run by the engine of its inference settings.

    Args:
        model: as loaded; one that is not on the CPU, or is to be run by torch, is returned as it is.
        say: called with a sentence on the engine that was chosen; None drops it.
        cache: file of measured times; None = that of the user.

    Raises:
        UserError: an engine that cannot run the model in the precision, or that is not installed.

    """
    if not isinstance(model, Trained):
        if isinstance(model, TrainedOnnx):
            _require_own_engine(model)
        return model
    engine, precision = model.inference.engine, model.inference.precision
    if engine == "torch" and precision != "int8":
        return model
    if model.device != "cpu":
        if engine == "auto" and precision != "int8":
            return model
        raise UserError(f"--engine {engine} runs on the CPU, and the model is on {model.device}; add --device cpu")
    if precision == "int8":
        if engine == "openvino":
            raise UserError("--precision int8 is run by onnxruntime, got --engine openvino")
        return QuantisedModel(_supported(model, "onnxruntime"), say=say)
    if engine == "auto":
        return AutomaticModel(model, candidates_of(model.embedder, precision), say=say, cache=cache)
    fixed = Candidate(engine, precision_named(precision))
    if not is_possible(engine, fixed.precision):
        raise UserError(f"--engine {engine} computes in float32 on a CPU, got --precision {fixed.precision}")
    return AutomaticModel(_supported(model, engine), [fixed], say=say, cache=cache)


def _supported(model: Trained, engine: Engine) -> Trained:
    """Return a model that an engine can run; its packages are installed."""
    if not is_installed(engine):
        extras = "export" if engine == "onnxruntime" else "export,openvino"
        raise UserError(f"--engine {engine} needs packages that are not installed: pip install 'passerby[{extras}]'")
    require_maskless(model)
    return model


def _require_own_engine(model: TrainedOnnx) -> None:
    """Refuse another engine, or precision, than that of a file with a graph."""
    if model.inference.precision == "int8":
        raise UserError(
            f"--precision int8 has no effect: {model.network.source} holds a graph, which is run as it is; "
            "passerby export --int8 writes one in int8"
        )
    engine = "openvino" if isinstance(model.network.session, OpenvinoSession) else "onnxruntime"
    if model.inference.engine not in ("auto", "torch", engine):
        raise UserError(
            f"--engine {model.inference.engine} has no effect: {model.network.source} holds a graph, which is run by "
            f"{engine}"
        )


@dataclass(eq=False)
class AutomaticModel(EngineModel):
    """A model that is run by the fastest engine with equal vectors, or by one that was given by name.

    Args:
        trained: the model on the CPU.
        candidates: at least one; it begins with the first, and a single one is fixed.
        say: called with a sentence on each change.
        cache: file of measured times; None = that of the user.

    Attributes:
        current: the candidate in use.

    """

    candidates: Sequence[Candidate]
    say: Say | None = None
    cache: Path | None = None
    clock: Callable[[], float] = time.perf_counter
    current: Candidate = field(init=False)
    _models: dict[Candidate, Model] = field(init=False, default_factory=dict)
    _speeds: dict[Candidate, Speed] = field(init=False, default_factory=dict)
    _refused: set[Candidate] = field(init=False, default_factory=set)
    _verified: set[Candidate] = field(init=False, default_factory=lambda: {EXACT})
    _graph: bytes | None = field(init=False, default=None)
    _is_converted: bool | None = field(init=False, default=None)
    _seen: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        self.current = self.candidates[0]
        self._model(self.current)

    @property
    def exact(self) -> Trained:
        """The model run by torch in float32."""
        return self._by_torch("float32")

    def with_flip(self, flip: bool) -> AutomaticModel:
        """Return the same model with or without the mirror image."""
        if flip == self.flip:
            return self
        return AutomaticModel(self.trained.with_flip(flip), self.candidates, say=self.say, cache=self.cache)

    @property
    def engine(self) -> Candidate:
        """The candidate in use."""
        return self.current

    def _adjust(self, count: int, draw: Draw) -> Model:
        """Choose the candidate for a job of `count` images, of which `draw` returns some."""
        self._seen += count
        expected = max(count, self._seen)
        if len(self.candidates) == 1:
            self._check_fixed(draw)
        elif expected >= COUNT_FROM:
            try:
                sample = draw(PROBED)
            except UserError:  # an image that cannot be read is reported where it is embedded
                return self._model(self.current)
            self._compare(expected, sample)
        return self._model(self.current)

    def _compare(self, expected: int, sample: Sample) -> None:
        """Take the candidate that embeds so many images soonest."""
        if not self._speeds:
            self._speeds = read_speeds(self.trained.embedder, self.candidates, self.cache)
        first = self.candidates[0]
        if first not in self._speeds:
            if self._estimate(sample) * expected < PROBE_FROM:
                return
            self._time([each for each in self.candidates if each.engine == "torch"], sample)
        best = self._best(expected)
        unknown = [each for each in self.candidates if each not in self._speeds and each not in self._refused]
        if unknown and self._speeds[best].of(expected) > CONVERT_FROM:
            self._time([first, *unknown], sample)
        while (best := self._best(expected)) != self.current:
            if self._is_equal(best, sample):
                self.current = best
                self._report()
        if self._graph is not None:  # converted networks that are not used would stay in memory
            self._models = {each: self._models[each] for each in {first, self.current}}
            self._graph = None

    def _best(self, expected: int) -> Candidate:
        speeds = {each: speed for each, speed in self._speeds.items() if each not in self._refused}
        if any(each.engine in GRAPH_ENGINES and each not in self._models for each in speeds) and self._has_graph():
            speeds = {each: replace(speed, setup=min(speed.setup, LOADING)) for each, speed in speeds.items()}
        return cheapest(speeds, expected, ready=self._models, exact=self.candidates[0])

    def _has_graph(self) -> bool:
        """Whether the network is converted already, now or by an earlier process."""
        if self._is_converted is None:
            self._is_converted = has_graph(self.trained)
        return self._graph is not None or self._is_converted

    def _estimate(self, sample: Sample) -> float:
        """Return about the seconds per image of the model in use."""
        model, count = self._model(self.current), min(FEW, len(sample.images))
        sample.embed(model, 1)
        began = self.clock()
        sample.embed(model, count)
        return (self.clock() - began) / count

    def _time(self, candidates: Sequence[Candidate], sample: Sample) -> None:
        """Measure candidates, and keep the times of those that can be run."""
        converted = 0.0
        models: dict[Candidate, Model] = {}
        setup: dict[Candidate, float] = {}
        for candidate in candidates:
            start = self.clock()
            try:
                if candidate.engine in GRAPH_ENGINES and self._graph is None:
                    self._graph = load_graph(self.trained)
                    converted = self.clock() - start
                    start = self.clock()
                models[candidate] = self._model(candidate)
            except UserError:  # a network that torch cannot translate
                self._refused.add(candidate)
                continue
            setup[candidate] = converted + self.clock() - start if candidate.engine in GRAPH_ENGINES else 0.0
        measured = measure_speeds([partial(sample.embed, model) for model in models.values()], len(sample.images))
        for candidate, seconds in zip(models, measured, strict=True):
            self._speeds[candidate] = Speed(seconds, setup[candidate])
        keep_speeds(self.trained.embedder, self._speeds, self.cache)

    def _is_equal(self, candidate: Candidate, sample: Sample) -> bool:
        """Whether a candidate gives the vectors of torch in float32; one that does not is never taken."""
        if candidate not in self._verified:
            is_equal = candidate == self.candidates[0] or self._difference(candidate, sample) <= TOLERANCE
            (self._verified if is_equal else self._refused).add(candidate)
        return candidate in self._verified

    def _difference(self, candidate: Candidate, sample: Sample) -> float:
        """Return the largest cosine distance from torch in float32; NaN where the candidate cannot be run."""
        try:
            return cosine_difference(self._model(candidate), self.exact, sample)
        except UserError:
            return float("nan")

    def _check_fixed(self, draw: Draw) -> None:
        """Report vectors of a candidate that was given by name, where they are not those of torch in float32."""
        if self.current in self._verified:
            return
        self._verified.add(self.current)
        try:
            difference = cosine_difference(self._model(self.current), self.exact, draw(PROBED))
        except UserError:  # as above
            return
        if not difference <= TOLERANCE:
            self._tell(f"{self.current} differs by up to {difference:.1e} in cosine distance from torch float32")

    def _report(self) -> None:
        speeds = "; ".join(f"{each} {1 / speed.seconds:.0f}" for each, speed in sorted(self._speeds.items()))
        self._tell(
            f"{self.current}, by a probe (images/s: {speeds}; at most {TOLERANCE:g} in cosine distance from torch "
            "float32); --engine torch keeps that"
        )

    def _tell(self, sentence: str) -> None:
        if self.say is not None:
            self.say(sentence)

    def _model(self, candidate: Candidate) -> Model:
        """Return the model run by a candidate, prepared at its first use."""
        if candidate not in self._models:
            if candidate.engine == "torch":
                self._models[candidate] = self._by_torch(candidate.precision)
            else:
                self._graph = load_graph(self.trained) if self._graph is None else self._graph
                self._models[candidate] = run_by_graph(self.trained, candidate, self._graph)
        return self._models[candidate]

    def _by_torch(self, precision: EnginePrecision) -> Trained:
        if self.trained.precision == precision:
            return self.trained
        return replace(self.trained, inference=replace(self.trained.inference, precision=precision))
