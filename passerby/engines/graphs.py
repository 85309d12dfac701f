"""A trained model as a graph in memory, kept in the user's cache, for the engines that run one."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from passerby import __version__
from passerby.encoders import Trained, TrainedOnnx
from passerby.engines.candidates import Candidate
from passerby.errors import UserError
from passerby.exporting.graph import Inference, translate
from passerby.files import atomic_write
from passerby.inference.onnx import open_session
from passerby.inference.onnx_model import Entry, OnnxModel, OnnxSettings
from passerby.inference.openvino import OpenvinoSession
from passerby.models.embedder import describe_network
from passerby.training.probe import cache_file

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

MOST_KEPT = 4
"""Graphs in the cache; the oldest are removed."""


def load_graph(trained: Trained, *, folder: Path | None = None) -> bytes:
    """Return a model as an ONNX graph from RGB bytes to its tested vectors, from the cache where it is there.

    Args:
        trained: the model, on the CPU.
        folder: of the cache; None = that of the user.

    Raises:
        UserError: torch cannot translate it, or a package is missing.

    """
    return cached_graph(graph_key(trained), lambda: convert(trained), folder=folder)


def cached_graph(key: str, make: Callable[[], bytes], *, folder: Path | None = None) -> bytes:
    """Return the graph of a key from the cache, or make it and keep it there; see `load_graph`."""
    file = _file(key, folder)
    with contextlib.suppress(OSError):
        content = file.read_bytes()
        os.utime(file)
        return content
    content = make()
    with contextlib.suppress(UserError, OSError):  # a cache that cannot be written is no reason to stop
        file.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(file) as out:
            out.write(content)
        for old in sorted(file.parent.glob("*.onnx"), key=lambda path: path.stat().st_mtime)[:-MOST_KEPT]:
            old.unlink()
    return content


def convert(trained: Trained) -> bytes:
    """Return a model as an ONNX graph; see `load_graph`."""
    network = Inference(trained.embedder, feature=trained.feature, flip=trained.flip).eval()
    return bytes(translate(network, trained).SerializeToString())


def has_graph(trained: Trained, *, folder: Path | None = None) -> bool:
    """Whether the graph of a model is in the cache."""
    return _file(graph_key(trained), folder).is_file()


def _file(key: str, folder: Path | None) -> Path:
    return (cache_file("graphs") if folder is None else folder) / f"{key}.onnx"


def graph_key(trained: Trained) -> str:
    """Return a hash of all that the graph of a model depends on, its weights among them."""
    versions = (__version__, torch.__version__, metadata.version("onnx"))
    words = [*describe_network(trained.embedder), trained.feature, str(trained.flip), *versions]
    key = hashlib.sha256("\n".join(words).encode())
    for name, tensor in sorted(trained.embedder.state_dict().items()):
        key.update(name.encode())
        key.update(tensor.detach().contiguous().cpu().reshape(-1).view(torch.uint8).numpy().data)
    return key.hexdigest()


def run_by_graph(trained: Trained, candidate: Candidate, graph: bytes) -> TrainedOnnx:
    """Return a model whose network is run as a graph of `load_graph` by an engine."""
    source = f"the model, run by {candidate},"
    embedder = trained.embedder
    session: InferenceSession | OpenvinoSession
    if candidate.engine == "openvino":
        session = OpenvinoSession(graph, precision="bf16" if candidate.precision == "bf16" else "float32")
    else:
        session = open_session(graph, source, ["CPUExecutionProvider"])
    settings = OnnxSettings(
        size=embedder.input.size, interpolation=embedder.input.interpolation, colour="rgb", values="bytes"
    )
    network = OnnxModel(
        source,
        session,
        Entry("images", np.uint8, "nchw", embedder.input.size, None),
        settings,
        "vectors",
        embedder.dimension,
        trained.feature,
        trained.flip,
        cameras=trained.cameras,
        unknown_camera=trained.unknown_camera,
        notes=trained.notes,
    )
    return TrainedOnnx(network, trained.recipe, trained.inference)
