"""Times and recall of a gallery in PostgreSQL, exact and by the HNSW index, against numpy on vectors in memory.

python benchmarks/gallery_postgres.py postgresql://postgres@127.0.0.1/postgres --rows 100000

The gallery `benchmark` of that database is made and filled if it is not there, which is timed too. Alternatives take
turns, so that other work on the machine meets all of them; a ratio is the median over turns of the quotient to numpy.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from typing import cast

import numpy as np
import numpy.typing as npt

from passerby.gallery import EVERYTHING, GalleryRows, Where, open_gallery
from passerby.gallery.postgres.store import PostgresGallery
from passerby.gallery.postgres.stored_rows import to_binary
from passerby.types import Floats, Ints

IMAGES, FACTORS, SPREAD = 10, 64, 0.6
"""Images of a person, dimensions in which people differ, and the deviation of an image against that of people."""
CAMERAS = 100
BLOCK = 20_000
TOP = 100
RARE = Where(attributes=(("coat", "red"),))
"""A condition that one row in a hundred fulfils and no index serves."""


def people(count: int, dims: int, seed: int) -> Floats:
    """Return unit vectors (N, D): people in a space of few dimensions, images around them."""
    generator = np.random.default_rng(seed)
    base = np.random.default_rng(0).normal(size=(FACTORS, dims))
    centres = generator.normal(size=(-(-count // IMAGES), FACTORS)).repeat(IMAGES, axis=0)[:count]
    vectors = (centres + SPREAD * generator.normal(size=centres.shape)) @ base
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), np.float32)


def fill(gallery: PostgresGallery, vectors: Floats) -> float:
    """Add vectors in blocks, and return the seconds per row."""
    began = time.perf_counter()
    for start in range(0, len(vectors), BLOCK):
        block = vectors[start : start + BLOCK]
        number = np.arange(start, start + len(block))
        gallery.add(
            GalleryRows(
                block,
                path=np.array([f"{row:08d}.jpg" for row in number]),
                camera=np.array([f"camera-{row % CAMERAS}" for row in number]),
                time=1.7e9 + number,
                attributes=np.array([json.dumps({"coat": "red" if is_red(row) else "blue"}) for row in number]),
            )
        )
    return (time.perf_counter() - began) / len(vectors)


def is_red(row: int) -> bool:
    """Whether a row is one of the hundredth that `RARE` chooses, which is spread over all people."""
    return row * 7919 % 100 == 0


def nearest(stored: Floats, queries: Floats) -> Ints:
    """Return the places (Q, 100) of the most similar vectors, by numpy."""
    similarity = queries @ stored.T
    best = np.argpartition(-similarity, min(TOP, len(stored) - 1), axis=1)[:, :TOP]
    order = np.argsort(-np.take_along_axis(similarity, best, axis=1), axis=1)
    return cast("Ints", np.take_along_axis(best, order, axis=1))


def recall(answer: Ints, truth: Ints) -> float:
    """Return the share of the true rows in an answer."""
    return float(np.mean([np.isin(each, line).mean() for line, each in zip(answer, truth, strict=True)]))


def without_iterating(gallery: PostgresGallery, queries: Floats, breadth: int) -> Ints:
    """Return ids (Q, 100), -1 = missing, of the index under the condition `RARE` with pgvector's own settings."""
    ids = np.full((len(queries), TOP), -1, np.int64)
    statement = "SELECT id FROM {0} WHERE attributes ->> 'coat' = 'red' ORDER BY vector <#> %s LIMIT %s"
    with gallery.session.reading() as connection:
        for name, value in (("hnsw.ef_search", breadth), ("enable_seqscan", "off"), ("enable_sort", "off")):
            connection.execute("SELECT set_config(%s, %s, true)", (name, str(value)))
        for line, encoded in zip(ids, to_binary(queries), strict=True):
            found = connection.execute(gallery.tables.sql(statement), (encoded, TOP)).fetchall()
            line[: len(found)] = [cast("int", number) for (number,) in found]
    return ids


def measure(
    ways: dict[str, Callable[[Floats], npt.NDArray[np.int64]]],
    truth: dict[str, Callable[[Floats], Ints]],
    queries: Floats,
    turns: int,
    batch: int,
) -> list[str]:
    """Return rows of the table: each way in turns with numpy, on queries (turns * batch, D)."""
    reference_name, reference = next(iter(truth.items()))
    seconds: dict[str, list[float]] = {name: [] for name in (reference_name, *ways)}
    recalls: dict[str, list[float]] = {name: [] for name in ways}
    missing: dict[str, int] = dict.fromkeys(ways, 0)
    for turn in range(turns):
        chunk = queries[turn * batch : (turn + 1) * batch]
        expected, elapsed = timed(reference, chunk)
        seconds[reference_name].append(elapsed)
        for name, way in ways.items():
            answer, elapsed = timed(way, chunk)
            seconds[name].append(elapsed)
            recalls[name].append(recall(answer, expected))
            missing[name] += int((answer == -1).sum())
    lines = [f"| {reference_name} | {1000 * statistics.median(seconds[reference_name]):.0f} | 1 | 1 | |"]
    for name in ways:
        ratio = statistics.median(a / b for a, b in zip(seconds[name], seconds[reference_name], strict=True))
        share = missing[name] / (turns * batch * TOP)
        lines.append(
            f"| {name} | {1000 * statistics.median(seconds[name]):.0f} | {ratio:.2f} | "
            f"{statistics.mean(recalls[name]):.4f} | {f'{share:.0%}' if share else ''} |"
        )
    return lines


def timed(way: Callable[[Floats], Ints], queries: Floats) -> tuple[Ints, float]:
    """Return an answer and the seconds that it took."""
    began = time.perf_counter()
    answer = way(queries)
    return answer, time.perf_counter() - began


def main() -> None:
    """Fill, build, measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("place")
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--dims", type=int, default=512)
    parser.add_argument("--turns", type=int, default=7)
    parser.add_argument("--megabytes", type=int, default=1000, help="memory of the server for the index")
    options = parser.parse_args()
    vectors = people(options.rows, options.dims, 1)
    gallery = open_gallery(f"{options.place}?gallery=benchmark_{options.rows}", model_stamp="benchmark", create=True)
    assert isinstance(gallery, PostgresGallery)
    if not gallery.info().count:
        print(f"add: {1e6 * fill(gallery, vectors):.0f} us per row", flush=True)
    if "index" not in gallery.info().store:
        began = time.perf_counter()
        gallery.build_index(megabytes=options.megabytes)
        print(f"index: {time.perf_counter() - began:.0f} s", flush=True)
    print(f"table and indexes: {gallery.info().bytes / 1e6:.0f} MB", flush=True)
    stored = vectors.astype(np.float16).astype(np.float32)
    red = np.flatnonzero([is_red(row) for row in range(len(stored))])
    queries = (
        people(100 * options.turns, options.dims, 2) * 0.5
        + vectors[:: max(1, len(vectors) // (100 * options.turns))][: 100 * options.turns]
    )
    queries /= np.linalg.norm(queries, axis=1, keepdims=True)
    head = "| way | ms | ratio to numpy | recall@100 | rows missing |\n|---|---|---|---|---|"

    def exact(where: Where = EVERYTHING) -> Callable[[Floats], Ints]:
        return lambda each: gallery.search(each, top=TOP, where=where).id

    def by_index(breadth: int, where: Where = EVERYTHING) -> Callable[[Floats], Ints]:
        return lambda each: gallery.search_approximately(each, top=TOP, where=where, breadth=breadth).id

    truth: dict[str, Callable[[Floats], Ints]] = {"numpy": lambda each: nearest(stored, each)}
    ways = {"exact": exact(), **{f"index, breadth {size}": by_index(size) for size in (100, 200, 400, 1000)}}
    print("\none query\n\n" + "\n".join([head, *measure(ways, truth, queries, options.turns, 1)]), flush=True)
    ways = {"exact": exact(), "index, breadth 200": by_index(200)}
    print("\n100 queries\n\n" + "\n".join([head, *measure(ways, truth, queries, options.turns, 100)]), flush=True)
    rare: dict[str, Callable[[Floats], Ints]] = {"numpy": lambda each: red[nearest(stored[red], each)]}
    ways = {
        "exact": exact(RARE),
        "index, breadth 200": by_index(200, RARE),
        "index of pgvector with its own settings": lambda each: without_iterating(gallery, each, 40),
        "the same with hnsw.ef_search = 200": lambda each: without_iterating(gallery, each, 200),
    }
    print(
        "\none query, a condition that 1 % fulfil\n\n"
        + "\n".join([head, *measure(ways, rare, queries, options.turns, 1)])
    )


if __name__ == "__main__":
    main()
