"""Times and recall of a gallery in PostgreSQL, exact and by the HNSW index, against numpy and faiss in memory.

python benchmarks/gallery_postgres.py postgresql://postgres@127.0.0.1/postgres --rows 100000

The gallery `benchmark` of that database is made and filled if it is not there, which is timed too. Alternatives take
turns, so that other work on the machine meets all of them; a ratio is the median over turns of the quotient to numpy.
faiss (`IndexFlatIP`) takes part where it is installed.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.util import find_spec
from typing import cast

import numpy as np

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
    base = np.random.default_rng(0).normal(size=(FACTORS, dims)).astype(np.float32)
    vectors = np.empty((count, dims), np.float32)
    for start in range(0, count, BLOCK):
        part = vectors[start : start + BLOCK]
        centres = generator.normal(size=(-(-len(part) // IMAGES), FACTORS)).repeat(IMAGES, axis=0)[: len(part)]
        part[:] = (centres + SPREAD * generator.normal(size=centres.shape)) @ base
        part /= np.linalg.norm(part, axis=1, keepdims=True)
    return vectors


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


def by_pgvector(gallery: PostgresGallery, queries: Floats, *, breadth: int, iterative: str) -> Ints:
    """Return ids (Q, 100), -1 = missing, that the index alone returns under the condition `RARE`."""
    ids = np.full((len(queries), TOP), -1, np.int64)
    statement = "SELECT id FROM {0} WHERE attributes ->> 'coat' = 'red' ORDER BY vector <#> %s LIMIT %s"
    settings = {
        "hnsw.ef_search": breadth,
        "hnsw.iterative_scan": iterative,
        "enable_seqscan": "off",
        "enable_sort": "off",
    }
    with gallery.session.reading() as connection:
        for name, value in settings.items():
            connection.execute("SELECT set_config(%s, %s, true)", (name, str(value)))
        for line, encoded in zip(ids, to_binary(queries), strict=True):
            lines = connection.execute(gallery.tables.sql(statement), (encoded, TOP)).fetchall()
            line[: len(lines)] = [cast("int", number) for (number,) in lines]
    return ids


Way = Callable[[Floats], Ints]


def by_faiss(stored: Floats, groups: Sequence[Ints | None]) -> list[dict[str, Way]]:
    """Return, for each group of rows (None = all), the search by faiss in one flat index; none without faiss."""
    if find_spec("faiss") is None:
        return [{} for _ in groups]
    faiss = import_module("faiss")
    faiss.omp_set_num_threads(1)
    index = faiss.IndexFlatIP(stored.shape[1])
    index.add(stored)

    def way(rows: Ints | None) -> Way:
        if rows is None:
            return lambda each: cast("Ints", index.search(each, TOP)[1])
        chosen = faiss.SearchParameters(sel=faiss.IDSelectorBatch(rows))
        return lambda each: cast("Ints", index.search(each, TOP, params=chosen)[1])

    return [{"faiss, flat": way(rows)} for rows in groups]


def measure(title: str, reference: Way, ways: dict[str, Way], queries: Floats, *, turns: int, batch: int) -> None:
    """Print a table: each way in turns with numpy, on queries (turns * batch, D)."""
    seconds: dict[str, list[float]] = {name: [] for name in ("numpy", *ways)}
    recalls: dict[str, list[float]] = {name: [] for name in ways}
    missing: dict[str, int] = dict.fromkeys(ways, 0)
    for turn in range(turns):
        chunk = queries[turn * batch : (turn + 1) * batch]
        truth, elapsed = timed(reference, chunk)
        seconds["numpy"].append(elapsed)
        for name, way in ways.items():
            answer, elapsed = timed(way, chunk)
            seconds[name].append(elapsed)
            recalls[name].append(recall(answer, truth))
            missing[name] += int((answer == -1).sum())
    print(f"\n{title}\n\n| way | ms | ratio to numpy | recall@100 | rows missing |\n|---|---|---|---|---|")
    print(f"| numpy | {1000 * statistics.median(seconds['numpy']):.0f} | 1 | 1 | |")
    for name in ways:
        ratio = statistics.median(a / b for a, b in zip(seconds[name], seconds["numpy"], strict=True))
        share = missing[name] / (turns * batch * TOP)
        print(
            f"| {name} | {1000 * statistics.median(seconds[name]):.0f} | {ratio:.2f} | "
            f"{statistics.mean(recalls[name]):.3f} | {f'{share:.0%}' if share else ''} |",
            flush=True,
        )


def timed(way: Way, queries: Floats) -> tuple[Ints, float]:
    """Return an answer and the seconds that it took."""
    began = time.perf_counter()
    answer = way(queries)
    return answer, time.perf_counter() - began


def make_queries(vectors: Floats, count: int) -> Floats:
    """Return unit vectors (Q, D) near some of the stored ones, as another image of a person is."""
    near = vectors[np.linspace(0, len(vectors) - 1, count, dtype=np.int64)]
    queries = near + 0.5 * people(count, vectors.shape[1], 2)
    return np.asarray(queries / np.linalg.norm(queries, axis=1, keepdims=True), np.float32)


def main() -> None:
    """Fill, build, measure and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("place")
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--dims", type=int, default=512)
    parser.add_argument("--turns", type=int, default=7)
    parser.add_argument("--memory", type=int, default=1000, help="MB of the server for the index; 0 = no index")
    options = parser.parse_args()
    vectors = people(options.rows, options.dims, 1)
    gallery = open_gallery(f"{options.place}?gallery=benchmark_{options.rows}", model_stamp="benchmark", create=True)
    assert isinstance(gallery, PostgresGallery)
    prepare(gallery, vectors, memory=options.memory)
    queries = make_queries(vectors, 100 * options.turns)
    stored = vectors.astype(np.float16).astype(np.float32)
    del vectors
    red = np.flatnonzero([is_red(row) for row in range(len(stored))])
    camera = np.arange(7, len(stored), CAMERAS)
    at_camera = Where(cameras=("camera-7",))
    flat, flat_camera, flat_red = by_faiss(stored, (None, camera, red))

    def exact(where: Where = EVERYTHING) -> Way:
        return lambda each: gallery.search(each, top=TOP, where=where).id

    def by_index(breadth: int, where: Where = EVERYTHING) -> Way:
        return lambda each: gallery.search_approximately(each, top=TOP, where=where, breadth=breadth).id

    def alone(breadth: int, iterative: str) -> Way:
        return lambda each: by_pgvector(gallery, each, breadth=breadth, iterative=iterative)

    breadths = (100, 200, 400, 1000) if options.memory else ()
    ways = flat | {"exact": exact(), **{f"index, breadth {size}": by_index(size) for size in breadths}}
    measure("One query", lambda each: nearest(stored, each), ways, queries, turns=options.turns, batch=1)
    measure("100 queries", lambda each: nearest(stored, each), ways, queries, turns=min(3, options.turns), batch=100)
    ways = flat_camera | {"exact": exact(at_camera)}
    if options.memory:
        ways["index, breadth 200"] = by_index(200, at_camera)
    title = "One query, 1 % of the rows by camera"
    measure(title, lambda each: camera[nearest(stored[camera], each)], ways, queries, turns=options.turns, batch=1)
    ways = flat_red | {"exact": exact(RARE)}
    if options.memory:
        ways |= {
            "index, breadth 200": by_index(200, RARE),
            "index alone, pgvector's own settings": alone(40, "off"),
            "index alone, ef_search 200": alone(200, "off"),
            "index alone, ef_search 200, iterative scan": alone(200, "relaxed_order"),
        }
    title = "One query, 1 % of the rows by an attribute"
    measure(title, lambda each: red[nearest(stored[red], each)], ways, queries, turns=options.turns, batch=1)


def prepare(gallery: PostgresGallery, vectors: Floats, *, memory: int) -> None:
    """Fill a gallery and make its index, where that has not been done before; one process of the server per query."""
    if not gallery.info().count:
        print(f"add: {1e6 * fill(gallery, vectors):.0f} us per row", flush=True)
    if memory and "index" not in gallery.info().store:
        began = time.perf_counter()
        gallery.build_index(megabytes=memory)
        print(f"index: {time.perf_counter() - began:.0f} s", flush=True)
    print(f"tables and indexes: {gallery.info().bytes / 1e6:.0f} MB", flush=True)
    with gallery.session.using() as connection:
        connection.execute("SET max_parallel_workers_per_gather = 0")


if __name__ == "__main__":
    main()
