"""What a GPU gains: tests that need one, then training, embedding, ranking, neighbours, k-means on both devices.

Made for a machine with one NVIDIA GPU and no network; takes less than ten minutes there. Writes a Markdown table to
`gpu.md`, in the folder that the environment variable OUT names or else in the present one.

    make gpu
    python benchmarks/gpu.py --device cpu --quick     # the same script where there is no GPU
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch

from passerby.bench.measure import machine
from passerby.bench.sites import SIZES, Features, make_features
from passerby.clustering.algorithms import KmeansSettings
from passerby.clustering.graph import jaccard_neighbours
from passerby.device import InferenceSettings, find_device
from passerby.evaluation import evaluate
from passerby.inference.embed import map_batches, tested_vectors
from passerby.inputs import InputSettings
from passerby.models.embedder import Embedder, ModelSettings
from passerby.recipe import make_recipe
from passerby.training.probe import Arithmetic
from passerby.training.setup import Setup
from passerby.training.trainer import Trainer
from passerby.types import Batch, Embeddings, Inputs, Rerank, Split, Stage

ROOT = Path(__file__).resolve().parents[1]
TEST_SECONDS = 240


@dataclass(frozen=True)
class Scale:
    """How much is measured."""

    backbone: str
    size: tuple[int, int]
    batch: int
    images: int
    smaller: int
    rounds: int


FULL = Scale("resnet50", (256, 128), 64, 1024, 1, 3)
QUICK = Scale("resnet18", (32, 16), 8, 16, 64, 1)


@dataclass(frozen=True)
class Row:
    """One thing that is timed.

    Attributes:
        name: what.
        run: does it on a device, and returns nothing that is of use.
        count: images of one run, for a rate; None = seconds are shown.

    """

    name: str
    run: Callable[[str], Callable[[], object]]
    count: int | None = None


def training_step(scale: Scale) -> Callable[[str], Callable[[], object]]:
    """Return how a training step is made ready for a device: bf16 where its instructions are there, else float32."""

    def prepare(device: str) -> Callable[[], object]:
        where = find_device(device)
        precision = InferenceSettings(device=device).network_precision()
        recipe = make_recipe(
            {
                "input": {"size": list(scale.size)},
                "model": {"backbone": scale.backbone, "last_stride": 1, "weights": "none"},
                "engine": {"device": where.type, "precision": precision},
            },
            source="gpu",
        )
        classes = 751
        names = np.full(classes, "")
        split = Split(names, np.arange(classes), np.zeros(classes, np.int64))
        stage = Stage("gpu", split, labelled=True, epochs=1)
        embedder = Embedder(recipe.model, recipe.input).to(where).to(memory_format=torch.channels_last)
        setup = Setup(recipe, Path(), where, Arithmetic(precision, channels_last=True), {}, [stage])
        trainer = Trainer(setup, embedder)
        trainer.open_stage(0)
        images = torch.randint(0, 256, (scale.batch, 3, *scale.size), dtype=torch.uint8)
        labels = torch.arange(scale.batch) // 4
        batch = Batch(Inputs.of_images(images), labels, torch.arange(scale.batch))
        return lambda: trainer.step(batch, count=1)

    return prepare


def embedding(scale: Scale) -> Callable[[str], Callable[[], object]]:
    """Return how embedding of images that are in memory is made ready for a device."""

    def prepare(device: str) -> Callable[[], object]:
        settings = InferenceSettings(device=device)
        model = ModelSettings(backbone=scale.backbone, last_stride=1, weights="none")
        embedder = Embedder(model, InputSettings(size=scale.size)).to(settings.torch_device())
        images = torch.randint(0, 256, (scale.images, 3, *scale.size), dtype=torch.uint8)
        return lambda: map_batches(
            partial(tested_vectors, embedder, feature="after_neck", flip=False),
            embedder,
            map(Inputs.of_images, images.split(scale.batch)),
            count=scale.images,
            precision=settings.network_precision(),
        )

    return prepare


def ranking(features: Features, rerank: Rerank | None) -> Callable[[str], Callable[[], object]]:
    """Return how scoring is made ready for a device."""
    role = np.where(np.arange(len(features.pid)) < features.count_query, "query", "gallery")
    table = Embeddings(features.vectors, features.pid, features.cam, role)
    return lambda device: lambda: evaluate(table, rerank=rerank, device=device)


def neighbours(features: Features) -> Callable[[str], Callable[[], object]]:
    """Return how the graph that clustering starts from is made ready for a device."""
    return lambda device: lambda: jaccard_neighbours(features.gallery, k1=30, k2=6, at_most=0.6, device=device)


def centres(features: Features) -> Callable[[str], Callable[[], object]]:
    """Return how k-means is made ready for a device: scikit-learn's on the CPU, that of torch on a GPU."""
    settings = KmeansSettings(k=max(2, len(features.gallery) // 30))
    return lambda device: lambda: settings.fit(features.gallery, device=device)


def rows_of(scale: Scale) -> list[Row]:
    """Return what is measured."""
    size = SIZES["market1501"]
    features = make_features(size.smaller(scale.smaller) if scale.smaller > 1 else size)
    network = f"{scale.backbone}, {scale.size[0]}x{scale.size[1]}"
    shape = " x ".join(f"{side:,}" for side in (*features.shape, features.vectors.shape[1]))
    parameters = Rerank() if scale.smaller == 1 else Rerank(k1=6, k2=2)
    return [
        Row(f"training step, {network}, batch {scale.batch}", training_step(scale), scale.batch),
        Row(f"embedding, {network}", embedding(scale), scale.images),
        Row(f"ranking and scores, {shape}", ranking(features, None)),
        Row(f"re-ranking and scores, {shape}", ranking(features, parameters)),
        Row(f"neighbours for clustering, {features.shape[1]:,} x {features.vectors.shape[1]:,}", neighbours(features)),
        Row(f"k-means, {features.shape[1]:,} x {features.vectors.shape[1]:,}", centres(features)),
    ]


def seconds(row: Row, device: str, *, rounds: int) -> float:
    """Return the median time of a few runs after one that warms up."""
    run = row.run(device)
    run()
    times = []
    for _ in range(rounds):
        settle(device)
        start = time.perf_counter()
        run()
        settle(device)
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def settle(device: str) -> None:
    """Wait for what was given to a GPU."""
    if device != "cpu":
        torch.cuda.synchronize()


def table_of(rows: list[Row], device: str, *, rounds: int) -> str:
    """Measure all rows on the CPU and, where it is another, on the device, and return a Markdown table."""
    both = device != "cpu"
    lines = ["| | CPU | GPU | GPU against CPU |", "|---|---|---|---|"] if both else ["| | CPU |", "|---|---|"]
    for row in rows:
        times = [seconds(row, where, rounds=rounds) for where in (("cpu", device) if both else ("cpu",))]
        words = [f"{row.count / one:,.1f} images/s" if row.count else f"{one:.3g} s" for one in times]
        gain = [f"{times[0] / times[1]:.1f} x"] if both else []
        lines.append("| " + " | ".join([row.name, *words, *gain]) + " |")
        print(lines[-1], flush=True)
    return "\n".join(lines)


def run_tests() -> str:
    """Run the tests that need a GPU, and return the last line of what they say."""
    command = [sys.executable, "-m", "pytest", "-q", "-m", "cuda", "-p", "no:cacheprovider", "tests"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    try:
        done = subprocess.run(
            command, cwd=ROOT, env=environment, timeout=TEST_SECONDS, capture_output=True, text=True, check=False
        )
    except subprocess.TimeoutExpired:
        return f"not finished after {TEST_SECONDS} s"
    print(done.stdout[-6000:], done.stderr[-2000:], flush=True)
    return done.stdout.strip().rpartition("\n")[2]


def main() -> None:
    """Run the tests, measure, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
    parser.add_argument("--quick", action="store_true", help="tiny sizes, in seconds")
    chosen = parser.parse_args()
    device, scale = find_device(chosen.device).type, QUICK if chosen.quick else FULL
    card = torch.cuda.get_device_name() if device == "cuda" else "no GPU"
    tests = run_tests() if device == "cuda" else "left out, they need a GPU"
    table = table_of(rows_of(scale), device, rounds=scale.rounds)
    text = f"# CPU and GPU\n\n{machine()}; {card}. Medians of {scale.rounds} after a warm-up.\n\n{table}\n"
    out = Path(os.environ.get("OUT", ".")) / "gpu.md"
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(f"{text}\nTests that need a GPU: {tests}\n")
    print(out)


if __name__ == "__main__":
    main()
