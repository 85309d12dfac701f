"""Speed of embedding on the CPU by each engine, compared with plain PyTorch in float32, eager and channels first.

Networks with random weights run on images that are resized already, in rounds in which all take turns; medians. Then
the engine that embeds soonest takes JPEG files, with threads that decode and resize; see `passerby.bench.embed_files`.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from passerby.bench.embed_files import FilesRow, embed_files, write_images
from passerby.bench.measure import machine
from passerby.data.decoding import Pixels
from passerby.device import InferenceSettings
from passerby.encoders import Model, Trained
from passerby.engines.candidates import TOLERANCE, Candidate, candidates_of
from passerby.engines.graphs import convert, run_by_graph
from passerby.engines.sample import Sample
from passerby.errors import UserError, did_you_mean
from passerby.exporting import parity
from passerby.exporting.parity import patchwork
from passerby.exporting.precision import to_int8
from passerby.models.embedder import Embedder
from passerby.recipe import make_recipe
from passerby.types import Floats, Inputs, Output

EAGER = "plain torch float32"
COMPILED = "torch float32, compiled"
INT8 = "onnxruntime int8"
ROUNDS, FILE_SECONDS = 5, 4.0
LEAST_ROUNDS, ROUND_SECONDS = 3, 15.0
"""Rounds that are measured in any case, and seconds after which no further one begins."""

Step = Callable[[], Floats]
Compiled = Literal["skip", "measure"]


@dataclass(frozen=True)
class Network:
    """A network, its input and the number of images at a time."""

    backbone: str
    size: tuple[int, int]
    batch: int

    def __str__(self) -> str:
        return f"{self.backbone}, {self.size[0]}x{self.size[1]}"


NETWORKS = {
    "resnet18": Network("resnet18", (128, 64), 64),
    "osnet": Network("osnet_x0_25", (256, 128), 32),
    "resnet50": Network("resnet50", (256, 128), 16),
    "vit": Network("vit_small_patch16_224", (256, 128), 16),
}


@dataclass(frozen=True)
class EmbedRow:
    """A network run by an engine.

    Attributes:
        network: with its size.
        engine: with its precision.
        speed: images per second, the median.
        ratio: speed / speed of plain PyTorch.
        difference: largest cosine distance from the vectors of plain PyTorch.
        setup: seconds before the first image.

    """

    network: str
    engine: str
    speed: float
    ratio: float
    difference: float
    setup: float


@dataclass(frozen=True)
class EmbedTable:
    """Measured values; `to_json()` has only plain values."""

    title: str
    machine: str
    rows: tuple[EmbedRow, ...]
    files: tuple[FilesRow, ...]

    def to_json(self) -> dict[str, object]:
        """Return plain values."""
        return asdict(self)


def bench_embed(
    *,
    quick: bool = False,
    networks: Sequence[str] = (),
    compiled: Compiled = "skip",
    say: Callable[[str], None] | None = None,
) -> EmbedTable:
    """Measure each engine on each network.

    Args:
        quick: the smallest network, few images and rounds.
        networks: keys of `NETWORKS`; none = all.
        compiled: whether torch.compile is measured too.
        say: called with a sentence on each network that is done; None drops it.

    Raises:
        UserError: an unknown network.

    """
    for name in networks:
        if name not in NETWORKS:
            raise UserError(f"network {name!r} is not one of {', '.join(NETWORKS)}{did_you_mean(name, NETWORKS)}")
    rows: list[EmbedRow] = []
    files: list[FilesRow] = []
    with TemporaryDirectory() as folder:
        paths = write_images(Path(folder), 16 if quick else 128)
        for name in networks or (("resnet18",) if quick else tuple(NETWORKS)):
            network = replace(NETWORKS[name], batch=8) if quick else NETWORKS[name]
            trained = make_model(network)
            images = patchwork(network.batch, network.size)
            models, setup = make_models(trained, images)
            steps = embedding_steps(trained, images, models, compiled=compiled)
            measured = measure_steps(network, steps, setup, rounds=2 if quick else ROUNDS)
            best = fastest_equal(measured, candidates_of(trained.embedder))
            row = embed_files(models[best.engine], paths, seconds=0.2 if quick else FILE_SECONDS)
            named = replace(row, network=str(network), engine=best.engine, of_network=row.speed / best.speed)
            files.append(named)
            rows += measured
            if say is not None:
                say(f"{network}: {best.engine}, {best.speed:.1f} images/s, {best.ratio:.2f} times plain torch")
    return EmbedTable("embedding on the CPU", machine(), tuple(rows), tuple(files))


def make_model(network: Network) -> Trained:
    """Return a model with random weights."""
    torch.manual_seed(0)
    recipe = make_recipe(
        {"input": {"size": list(network.size)}, "model": {"backbone": network.backbone}}, source="bench"
    )
    embedder = Embedder(recipe.model, recipe.input).eval()
    return Trained(embedder, recipe, Path(), flip=False, inference=InferenceSettings(device="cpu"))


def make_models(trained: Trained, images: Pixels) -> tuple[dict[str, Model], dict[str, float]]:
    """Return a model as each engine runs it and the seconds of its preparation, both by the name of the engine.

    Args:
        trained: the model.
        images: (B, 3, H, W) from which the ranges of whole numbers are taken.

    """
    models: dict[str, Model] = {}
    setup: dict[str, float] = {}
    began = time.perf_counter()
    candidates = candidates_of(trained.embedder)
    graph = convert(trained) if any(candidate.engine != "torch" for candidate in candidates) else b""
    converted = time.perf_counter() - began
    for candidate in candidates:
        began = time.perf_counter()
        if candidate.engine == "torch":
            inference = replace(trained.inference, precision=candidate.precision)
            models[str(candidate)] = replace(trained, inference=inference)
            continue
        models[str(candidate)] = run_by_graph(trained, candidate, graph)
        setup[str(candidate)] = converted + time.perf_counter() - began
    if str(runtime := Candidate("onnxruntime", "float32")) in models:
        began = time.perf_counter()
        models[INT8] = run_by_graph(trained, runtime, _quantised(graph, images))
        setup[INT8] = converted + time.perf_counter() - began
    return models, setup


def _quantised(graph: bytes, images: Pixels) -> bytes:
    import onnx

    return bytes(to_int8(onnx.load_from_string(graph), [images[:8], images[-8:]]).SerializeToString())


def embedding_steps(
    trained: Trained, images: Pixels, models: Mapping[str, Model], *, compiled: Compiled = "skip"
) -> dict[str, Step]:
    """Return functions that embed the images (B, 3, H, W) by each engine, plain PyTorch first."""
    sample, tensor = Sample(np.ascontiguousarray(images.transpose(0, 2, 3, 1))), torch.from_numpy(images)
    steps: dict[str, Step] = {EAGER: partial(_forward, trained.embedder, tensor)}
    steps |= {name: partial(sample.embed, model) for name, model in models.items()}
    if compiled == "measure":
        steps[COMPILED] = partial(_forward, torch.compile(trained.embedder), tensor)
    return steps


def _forward(embedder: Callable[[Inputs], Output], images: Tensor) -> Floats:
    """Return the vectors (B, D) of images (B, 3, H, W)."""
    with torch.inference_mode():
        return embedder(Inputs.of_images(images)).after_neck.numpy()


def measure_steps(
    network: Network, steps: Mapping[str, Step], setup: Mapping[str, float], *, rounds: int
) -> list[EmbedRow]:
    """Return a row for each step, which take turns; the first calls do not count."""
    exact = steps[EAGER]()
    differences = {name: parity(step(), exact).cosine for name, step in steps.items()}
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    start = time.perf_counter()
    for turn in range(rounds):
        if turn >= LEAST_ROUNDS and time.perf_counter() - start > ROUND_SECONDS:
            break
        for name, step in steps.items():
            began = time.perf_counter()
            step()
            seconds[name].append(time.perf_counter() - began)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    return [
        EmbedRow(
            str(network),
            name,
            network.batch / median,
            medians[EAGER] / median,
            differences[name],
            setup.get(name, 0.0),
        )
        for name, median in medians.items()
    ]


def fastest_equal(rows: Sequence[EmbedRow], candidates: Sequence[Candidate]) -> EmbedRow:
    """Return the row of the fastest candidate whose vectors are equal within the tolerance."""
    names = {str(candidate) for candidate in candidates}
    equal = [row for row in rows if row.engine in names and row.difference <= TOLERANCE]
    return max(equal, key=lambda row: row.speed)


def print_embed(results: EmbedTable, console: Console) -> None:
    """Print both tables."""
    table = Table(title=results.title, caption=results.machine)
    table.add_column("engine", no_wrap=True)
    for name in ("images/s", "x plain", "cosine distance", "s to prepare"):
        table.add_column(name, justify="right")
    for row in results.rows:
        if row.engine == EAGER:
            table.add_section()
            table.add_row(row.network)
        mark = "" if row.difference <= TOLERANCE else " *"
        distance, setup = f"{row.difference:.0e}{mark}", f"{row.setup:.1f}" if row.setup else ""
        table.add_row(f"  {row.engine}", f"{row.speed:.1f}", f"{row.ratio:.2f}", distance, setup)
    console.print(table)
    note = f"* differs by more than {TOLERANCE:g} from plain torch: never chosen by itself; nor is int8"
    console.print(note, highlight=False)
    files = Table(title="JPEG files, with reading, decoding and resizing")
    for name in ("network", "fastest engine", "images/s", "of network alone", "network busy"):
        files.add_column(name, no_wrap=name == "fastest engine")
    for each in results.files:
        files.add_row(each.network, each.engine, f"{each.speed:.1f}", f"{each.of_network:.0%}", f"{each.busy:.0%}")
    console.print(files)
