"""Speed of embedding JPEG files, and the share of that time in which the network runs, which is its bound."""

from __future__ import annotations

import copy
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
from PIL import Image

from passerby.encoders import Model, Trained, TrainedOnnx
from passerby.exporting.parity import patchwork
from passerby.inference.onnx_model import Numbers
from passerby.inference.openvino import OpenvinoSession
from passerby.types import Words

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

SIZE = (256, 128)
"""Height and width of the images in the files."""
FEW = 16


@dataclass(frozen=True)
class FilesRow:
    """Files embedded by an engine.

    Attributes:
        speed: images per second, with reading, decoding and resizing.
        busy: share of the time in which the network runs.
        network: with its size.
        engine: with its precision.
        of_network: speed / that of the network on images in memory.

    """

    speed: float
    busy: float
    of_network: float = 0.0
    network: str = ""
    engine: str = ""


def embed_files(model: Model, paths: Words, *, seconds: float) -> FilesRow:
    """Embed files again and again for about so many seconds.

    Args:
        model: makes the vectors.
        paths: (N,) image files, at least 16.
        seconds: about so long.

    """
    model.vectors(paths[:FEW])
    began = time.perf_counter()
    model.vectors(paths[:FEW])
    count = max(FEW, int(FEW * seconds / (time.perf_counter() - began)))
    timed, running = timed_model(model)
    began = time.perf_counter()
    timed.vectors(np.resize(paths, count))
    took = time.perf_counter() - began
    return FilesRow(count / took, sum(running) / took)


def timed_model(model: Model) -> tuple[Model, list[float]]:
    """Return a model and the list to which it adds the seconds of each run of its network."""
    running: list[float] = []
    if isinstance(model, TrainedOnnx):
        session = cast("InferenceSession", _TimedSession(model.network.session, running))
        return replace(model, network=replace(model.network, session=session)), running
    assert isinstance(model, Trained)
    embedder = copy.deepcopy(model.embedder)

    def start(*_: object) -> None:
        running.append(-time.perf_counter())

    def stop(*_: object) -> None:
        running[-1] += time.perf_counter()

    embedder.register_forward_pre_hook(start)
    embedder.register_forward_hook(stop)
    return replace(model, embedder=embedder), running


class _TimedSession:
    """A session whose runs are timed."""

    def __init__(self, session: InferenceSession | OpenvinoSession, running: list[float]) -> None:
        self.session = session
        self.running = running

    def run(self, names: Sequence[str], fed: Mapping[str, Numbers]) -> list[Numbers]:
        """Return the outputs of some names for inputs by name."""
        began = time.perf_counter()
        outputs: list[Numbers] = self.session.run(names, fed)
        self.running.append(time.perf_counter() - began)
        return outputs


def write_images(folder: Path, count: int) -> Words:
    """Write JPEG files of patches with noise, and return their names (N,)."""
    generator = np.random.default_rng(0)
    images = patchwork(count, SIZE).transpose(0, 2, 3, 1).astype(np.int16)
    paths = [folder / f"{number:04d}.jpg" for number in range(count)]
    for path, image in zip(paths, images, strict=True):
        noisy = image + generator.integers(-12, 13, image.shape, np.int16)
        Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(path, quality=90)
    return np.array([str(path) for path in paths])
