"""Measured times of engines, kept between runs beside those of training steps."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from importlib import metadata
from pathlib import Path

import torch

from passerby.engines.candidates import Candidate, Speed
from passerby.models.embedder import Embedder
from passerby.training import probe
from passerby.training.environment import processor

_PACKAGES = {"torch": "torch", "onnxruntime": "onnxruntime", "openvino": "openvino"}
LEAST = 1e-3
"""Seconds that are written for a preparation that takes none."""


def measure_speeds(steps: Sequence[Callable[[int], object]], count: int) -> list[float]:
    """Return the seconds per image of steps that are called with a number of images, at most `count`."""
    return probe.measure(steps, batch=count, unit=2)


def read_speeds(
    embedder: Embedder, candidates: Sequence[Candidate], file: Path | None = None
) -> dict[Candidate, Speed]:
    """Return the times that are known of candidates for a network on this processor."""
    measured = probe.read_measurements(_file(file))
    entries = {candidate: measured.get(_key(embedder, candidate), []) for candidate in candidates}
    return {candidate: Speed(*values) for candidate, values in entries.items() if len(values) == 2}


def keep_speeds(embedder: Embedder, speeds: Mapping[Candidate, Speed], file: Path | None = None) -> None:
    """Keep the times of candidates for a network on this processor."""
    entries = {_key(embedder, each): [speed.seconds, max(LEAST, speed.setup)] for each, speed in speeds.items()}
    probe.keep_measurements(_file(file), entries)


def _file(file: Path | None) -> Path:
    return probe.cache_file("engines.json") if file is None else file


def _key(embedder: Embedder, candidate: Candidate) -> str:
    """Return a hash of everything that a time depends on."""
    inputs = [
        embedder.settings.model_dump(mode="json", exclude={"weights"}),
        list(embedder.input.size),
        str(candidate),
        metadata.version(_PACKAGES[candidate.engine]),
        *(processor(), torch.get_num_threads(), torch.__version__),
    ]
    return hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()
