"""Cost of embedding, neighbours and gallery search, in one process and over Ray, and what large sets need by it.

    python benchmarks/scale.py IMAGES

IMAGES is a folder of JPEG files. One core each: torch with one thread, against a local cluster of one worker. Turns
alternate, and of each the processor time of the program and of all processes below it is counted, so that Ray's
processes are part of the cost and other work on the machine is not. Embedding is measured with few and with many
images: the difference is the cost of an image, the rest that of a start, in which a worker imports torch.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import platform
import shutil
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch

from passerby.data.decoding import decode
from passerby.device import InferenceSettings
from passerby.distances.kreciprocal import nearest_neighbours
from passerby.distances.pairwise import vectors_on
from passerby.distances.units import unit_rows
from passerby.encoders import load_model, model_stamp
from passerby.encoders.embedding import readable_vectors
from passerby.encoders.listing import list_images
from passerby.gallery import GalleryRows, open_gallery
from passerby.models.embedder import Embedder, save_embedder
from passerby.recipe import load_recipe
from passerby.scale.blocks import Workers
from passerby.scale.embedding import embed_parts
from passerby.scale.neighbours import MOST_SHARDS, SHARD, neighbours_over
from passerby.scale.search import galleries_over
from passerby.scale.session import local_cluster, ray_session, require_cluster
from passerby.scale.worker import BlockWorker, WorkerSettings
from passerby.types import Embeddings, Floats, Ints
from passerby.types.listed import ListedImages

D, K = 512, 30
TURNS = 3
FEW = 64
NETWORK = "osnet_x0_25"
NODE_CORES, NODE_BYTES = 32, 256e9
"""The assumed node: 32 cores like this one, 256 GB of memory."""
TICKS = os.sysconf("SC_CLK_TCK")


# ---- measuring


class ProcessorTime:
    """Processor time of this program and all processes below it, also of those that end: they are looked at often."""

    def __init__(self) -> None:
        self.seconds: dict[tuple[int, int], float] = {}
        self._ended = threading.Event()
        self._watch = threading.Thread(target=self._look_again)

    def __enter__(self) -> ProcessorTime:
        self.start = self._total()
        self._watch.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._watch.join()
        self.used = self._total() - self.start

    def _look_again(self) -> None:
        while not self._ended.wait(0.1):
            self._total()

    def _total(self) -> float:
        for process in _below(os.getpid()):
            with contextlib.suppress(OSError):
                fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
                self.seconds[process, int(fields[19])] = (int(fields[11]) + int(fields[12])) / TICKS
        return sum(self.seconds.values())


def _below(process: int) -> list[int]:
    """Return a process and all below it."""
    processes = [process]
    for task in Path(f"/proc/{process}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            for child in task.read_text().split():
                processes += _below(int(child))
    return processes


@dataclass
class Cost:
    """Seconds of each turn.

    Attributes:
        processor: of all processes.
        wall: on the clock.

    """

    processor: list[float] = field(default_factory=list)
    wall: list[float] = field(default_factory=list)

    def turn(self, work: Callable[[], object]) -> None:
        """Run the work once."""
        began = time.perf_counter()
        with ProcessorTime() as processor:
            work()
        self.wall.append(time.perf_counter() - began)
        self.processor.append(processor.used)


def alternate(*works: Callable[[], object]) -> list[Cost]:
    """Run each work once to warm up, then in turns."""
    costs = [Cost() for _ in works]
    for work in works:
        work()
    for _ in range(TURNS):
        for cost, work in zip(costs, works, strict=True):
            cost.turn(work)
    return costs


def row(name: str, unit: float, alone: Cost, over: Cost) -> str:
    """Return a line of the table: core seconds per unit of work, alone and over Ray, and the ratios of the turns."""
    turns = ((alone.processor, over.processor), (alone.wall, over.wall))
    ratios = [np.divide(each_over, each_alone) for each_alone, each_over in turns]
    cells = [f"{np.median(cost.processor) / unit:,.4g}" for cost in (alone, over)]
    cells += [f"{np.median(ratio):.2f} ({min(ratio):.2f} to {max(ratio):.2f})" for ratio in ratios]
    return f"| {name} | {' | '.join(cells)} |"


# ---- the work


@dataclass(frozen=True)
class Embedding:
    """Costs of embedding.

    Attributes:
        alone, over: of `FEW` and of all images, in one process and over Ray.
        decoding: of all images, without a network.
        count: number of all images.
        image, row: bytes of an image file, and of a row of a table.

    """

    alone: tuple[Cost, Cost]
    over: tuple[Cost, Cost]
    decoding: Cost
    count: int
    image: float
    row: float


def write_model(path: Path) -> Path:
    """Write an untrained network; its speed is that of a trained one."""
    recipe = load_recipe("small", [f"model.backbone={NETWORK}", "model.weights=none", "input.size=[256,128]"])
    save_embedder(Embedder(recipe.model, recipe.input), path, recipe=recipe.dump())
    return path


def measure_embedding(ray: object, images: Path, folder: Path) -> Embedding:
    """Measure the embedding of few and of all images, in one process and over Ray."""
    file, inference = write_model(folder / "embedder.safetensors"), InferenceSettings(device="cpu")
    model = load_model(file, inference=inference)
    listed = list_images(model, [images])
    few = listed.select(np.arange(FEW))

    def alone(part: ListedImages) -> None:
        vectors, rows = readable_vectors(model, part.path, part.cam_row, leave_out=None)
        part.table(vectors, rows, feature=model.feature, flip=model.flip).save(folder / "alone.npz")

    def over(part: ListedImages) -> None:
        shutil.rmtree(folder / "parts", ignore_errors=True)
        settings = WorkerSettings(file, model_stamp(file), (), inference, folder / "parts", strict=True)
        stamps = {"model": "", "dataset": "", "feature": model.feature, "flip": model.flip, "input_mask": "none"}
        embed_parts(ray, part, Workers(BlockWorker, settings, folder / "parts"), stamps, notify=print)

    def decoding() -> None:
        for path in listed.path.tolist():
            decode(path)

    works = [partial(alone, few), partial(over, few), decoding, partial(alone, listed), partial(over, listed)]
    alone_few, over_few, decoded, alone_all, over_all = alternate(*works)
    first, second = Embeddings.load(folder / "alone.npz"), Embeddings.load(folder / "parts")
    assert np.abs(first.vectors - second.vectors).max() <= 1e-6
    image = float(np.mean([Path(path).stat().st_size for path in listed.path.tolist()]))
    part_bytes = sum(file.stat().st_size for file in (folder / "parts").glob("*.parquet"))
    return Embedding(
        (alone_few, alone_all), (over_few, over_all), decoded, len(listed), image, part_bytes / len(listed)
    )


def difference(costs: tuple[Cost, Cost]) -> Cost:
    """Return the cost of all images but the few, turn by turn."""
    few, many = costs
    return Cost(np.subtract(many.processor, few.processor).tolist(), np.subtract(many.wall, few.wall).tolist())


def people(count: int) -> Floats:
    """Return vectors (N, D) of people, 10 images of each."""
    generator = np.random.default_rng(0)
    centres = np.repeat(generator.normal(size=(-(-count // 10), D)), 10, axis=0)[:count]
    return (centres + 0.8 * generator.normal(size=centres.shape)).astype(np.float32)


def measure_neighbours(ray: object, count: int) -> tuple[Cost, Cost]:
    """Return the costs of the K nearest neighbours of `count` vectors, alone and over Ray."""
    side = vectors_on(people(count), metric="cosine", device="cpu")
    rows = {}

    def alone() -> None:
        rows["alone"] = nearest_neighbours((side,), K, metric="cosine").row

    def over() -> None:
        with neighbours_over(ray):
            rows["over"] = nearest_neighbours((side,), K, metric="cosine").row

    costs = alternate(alone, over)
    assert (rows["alone"] == rows["over"]).mean() > 0.999
    return costs[0], costs[1]


def measure_search(ray: object, folder: Path, count: int) -> list[tuple[Cost, Cost]]:
    """Return the costs of 1 and of 100 queries, 100 answers each, in a gallery of `count` rows, alone and over Ray."""
    gallery = open_gallery(folder / "gallery", create=True)
    vectors = unit_rows(people(count))
    gallery.add(GalleryRows(vectors))
    costs = []
    for queries in (1, 100):
        answers = {}

        def alone(part: Floats, answers: dict[str, Ints]) -> None:
            answers["alone"] = gallery.search(part, top=100).id

        def over(part: Floats, answers: dict[str, Ints]) -> None:
            with galleries_over(ray):
                answers["over"] = gallery.search(part, top=100).id

        works = [partial(work, vectors[:queries], answers) for work in (alone, over)]
        costs.append(tuple(alternate(*works)))
        assert np.array_equal(answers["alone"], answers["over"])
    return costs


def empty_task_seconds(ray: object) -> float:
    """Return the seconds from one task that does nothing to the next, on the clock."""
    nothing = ray.remote(num_cpus=1)(lambda: None)  # type: ignore[attr-defined]
    ray.get(nothing.remote())  # type: ignore[attr-defined]
    began = time.perf_counter()
    ray.get([nothing.remote() for _ in range(500)])  # type: ignore[attr-defined]
    return (time.perf_counter() - began) / 500


# ---- what large sets need


@dataclass(frozen=True)
class Rates:
    """Measured rates, over Ray.

    Attributes:
        embed: core seconds of an image, reading and decoding included.
        distance: core seconds of a distance and its place in two lists of K.
        search: core seconds of a query and a row.
        image, row: bytes of an image file, and of a row of a table.

    """

    embed: float
    distance: float
    search: float
    image: float
    row: float


def hours(core_seconds: float) -> str:
    """Return core hours, and nodes that do them in 24 hours."""
    core_hours = core_seconds / 3600
    return f"{core_hours:,.0f} | {np.ceil(core_hours / (24 * NODE_CORES)):,.0f} for 24 h"


def computed_distances(count: float, shards: int) -> float:
    """Return the distances of S (S + 1) / 2 pairs of shards of N / S rows: those within a shard are computed twice."""
    return shards * (shards + 1) / 2 * (count / shards) ** 2


def terabytes(count: float) -> str:
    return f"{count / 1e12:,.2f} TB"


def requirements(rates: Rates) -> list[str]:
    """Return the lines of the table of 100 million and 10 billion crops."""
    lines = ["| work | crops | core hours | nodes | bytes over the network |", "|---|---|---|---|---|"]
    for count in (1e8, 1e10):
        name = f"{count:,.0f}"
        moved = count * (rates.image + rates.row)
        lines.append(f"| embed | {name} | {hours(count * rates.embed)} | {terabytes(moved)} |")
        shards = MOST_SHARDS
        moved = count * (shards + 1) * 4 * D + 2 * count * shards * K * 12
        core_seconds = computed_distances(count, shards) * rates.distance
        lines.append(f"| neighbours | {name} | {hours(core_seconds)} | {terabytes(moved)} |")
        core_seconds, nodes = 100 * count * rates.search, np.ceil(count * 2 * D / (0.8 * NODE_BYTES))
        answer = f"{core_seconds / 3600:,.2f} | {nodes:,.0f}, which hold the vectors: "
        answer += f"{core_seconds / nodes / NODE_CORES:,.1f} s"
        moved = nodes * (100 * D * 4 + 4 * NODE_CORES * 100 * 100 * 12)
        lines.append(f"| search 100 queries | {name} | {answer} | {moved / 1e9:,.2f} GB |")
    return lines


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", type=Path)
    parser.add_argument("--vectors", type=int, default=20_000, help="of the search for neighbours")
    parser.add_argument("--gallery", type=int, default=200_000, help="rows of the gallery")
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(f"{platform.machine()}, {os.cpu_count()} cores, torch {torch.__version__}; load {os.getloadavg()[0]:.1f}")
    ray = require_cluster("local")
    with tempfile.TemporaryDirectory() as name, local_cluster(ray, cores=1, store_bytes=1 << 30), ray_session("local"):
        folder = Path(name)
        embedding = measure_embedding(ray, options.images, folder)
        near = measure_neighbours(ray, options.vectors)
        single, batch = measure_search(ray, folder, options.gallery)
        empty = empty_task_seconds(ray)
    count = embedding.count - FEW
    images = difference(embedding.alone), difference(embedding.over)
    print("| work | core seconds, one process | over Ray | processor time, ratio | clock, ratio |")
    print("|---|---|---|---|---|")
    print(row(f"embed by {NETWORK}, per million images ({count:,} measured)", count / 1e6, *images))
    print(row(f"neighbours, per million x million ({options.vectors:,} measured)", options.vectors**2 / 1e12, *near))
    print(row(f"search, 1 query, per million rows ({options.gallery:,} measured)", options.gallery / 1e6, *single))
    print(row("search, 100 queries, per million rows", options.gallery / 1e6, *batch))
    print(
        f"\ndecoding alone: {1e6 * np.median(embedding.decoding.processor) / embedding.count:,.0f} core seconds per "
        f"million images of {embedding.image:,.0f} bytes; a row takes {embedding.row:,.0f} bytes; a start of a "
        f"worker and {FEW} images {np.median(embedding.over[0].processor):.1f} core seconds; an empty task "
        f"{1e3 * empty:.2f} ms on the clock"
    )
    rates = Rates(
        embed=float(np.median(images[1].processor)) / count,
        distance=float(np.median(near[1].processor))
        / computed_distances(options.vectors, -(-options.vectors // SHARD)),
        search=float(np.median(batch[1].processor)) / (100 * options.gallery),
        image=embedding.image,
        row=embedding.row,
    )
    print("\n".join(["", *requirements(rates), "", f"load at the end {os.getloadavg()[0]:.1f}"]))


if __name__ == "__main__":
    main()
