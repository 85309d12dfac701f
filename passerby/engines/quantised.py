"""A trained model that onnxruntime runs in whole numbers of 8 bits, with ranges from images of the job itself.

The ranges of the maps are taken from the first images that are to be embedded, spread over the job; until there are
enough of them torch runs the network in float32. Vectors of trained networks differ by more than the tolerance of the
other engines, so this is never chosen by itself, and the difference is reported.
"""

from __future__ import annotations

import contextlib
import hashlib
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path

import numpy as np

from passerby.data.decoding import Pixels
from passerby.encoders import Model, Trained, TrainedOnnx
from passerby.engines.candidates import EXACT, Candidate
from passerby.engines.engine_model import Draw, EngineModel, Say
from passerby.engines.graphs import cached_graph, graph_key, load_graph, run_by_graph
from passerby.engines.sample import Sample, cosine_difference, join_samples
from passerby.errors import UserError
from passerby.exporting.precision import to_int8

INT8 = Candidate("onnxruntime", "int8")
LEAST, MOST = 32, 96
"""Images from which ranges are taken, and most images of which ranges and difference are taken."""
COMPARED_EVERY = 3
"""Of these images every third is left out of the ranges, and the vectors of those are compared."""
AT_ONCE = 8


@dataclass(eq=False)
class QuantisedModel(EngineModel):
    """A model that is run in int8 as soon as it has got enough images.

    Args:
        trained: the model on the CPU.
        say: called with a sentence on the difference from float32; None drops it.
        folder: of converted networks; None = that of the user.

    Raises:
        UserError: a model that uses cameras.

    """

    say: Say | None = None
    folder: Path | None = None
    _samples: list[Sample] = field(init=False, default_factory=list)
    _quantised: TrainedOnnx | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        if self.trained.cameras.count:
            raise UserError("--precision int8 is for models without camera embeddings; leave it out")

    @property
    def engine(self) -> Candidate:
        """Engine and precision in use."""
        return EXACT if self._quantised is None else INT8

    def with_flip(self, flip: bool) -> QuantisedModel:
        """Return the same model with or without the mirror image."""
        if flip == self.flip:
            return self
        return QuantisedModel(self.trained.with_flip(flip), say=self.say, folder=self.folder)

    def _adjust(self, count: int, draw: Draw) -> Model:
        """Return the model in int8 once there are enough images, and torch in float32 before."""
        if self._quantised is None:
            with contextlib.suppress(UserError):  # an image that cannot be read is reported where it is embedded
                self._samples.append(draw(MOST))
            if sum(len(sample.images) for sample in self._samples) >= LEAST:
                self._quantised = self._quantise(join_samples(self._samples))
                self._samples.clear()
            elif self.say is not None and len(self._samples) == 1:
                self.say(f"fewer than {LEAST} images: torch float32, until int8 has as many to take its ranges from")
        return self.trained if self._quantised is None else self._quantised

    def _quantise(self, sample: Sample) -> TrainedOnnx:
        """Return the model with the ranges of most images of a sample, and report its difference on the others."""
        compared = np.arange(len(sample.images)) % COMPARED_EVERY == COMPARED_EVERY - 1
        images, others = sample.images[~compared], Sample(sample.images[compared])
        model = run_by_graph(self.trained, INT8, load_int8(self.trained, images, folder=self.folder))
        if self.say is not None:
            difference = cosine_difference(model, self.trained, others)
            self.say(
                f"{INT8}, with ranges from {len(images)} of the images; vectors of {len(others.images)} others differ "
                f"by up to {difference:.1e} in cosine distance from torch float32"
            )
        return model


def load_int8(trained: Trained, images: Pixels, *, folder: Path | None = None) -> bytes:
    """Return a model as a graph in int8, from the cache where it was made of the same model and images.

    Args:
        trained: the model, on the CPU.
        images: (N, H, W, 3) RGB of its size, from which the ranges are taken.
        folder: of the cache; None = that of the user.

    """
    words = [graph_key(trained), metadata.version("onnxruntime"), str(images.shape)]
    key = hashlib.sha256("\n".join(words).encode())
    key.update(np.ascontiguousarray(images).data)  # ranges of other images are another file
    return cached_graph(key.hexdigest(), lambda: _convert(trained, images, folder), folder=folder)


def _convert(trained: Trained, images: Pixels, folder: Path | None) -> bytes:
    import onnx

    channels_first = np.ascontiguousarray(images.transpose(0, 3, 1, 2))
    batches = np.split(channels_first, range(AT_ONCE, len(images), AT_ONCE))
    graph = onnx.load_from_string(load_graph(trained, folder=folder))
    return bytes(to_int8(graph, batches).SerializeToString())
