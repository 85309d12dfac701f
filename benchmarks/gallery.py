"""Exact search in a gallery of a million vectors, against numpy, faiss and what else can hold one.

    python benchmarks/gallery.py --rows 1000000
    python benchmarks/gallery.py --rows 1000000 --warm --turns 9

A gallery of random unit vectors is made in a folder. Then each engine finds the 100 most similar rows, in processes
of its own: for one query, for a batch of 100, and for one query among the rows of one camera of 100 (filter 1 %).
Cold: the files are dropped from the memory of the system (posix_fadvise, DONTNEED), and a process that has loaded its
libraries opens them and answers one query; it pays for reading the disk, and for loading where all must be in memory.
Warm: the median of the following queries in the same process. Engines take turns, so that other work on the machine
meets all of them; medians of the turns and ratios within a turn are printed. Memory: the most that the process held
beyond its libraries; pages of mapped files, which the system takes back when it needs them, count apart. Answers are
compared with a float64 product. With `--warm` all engines are in one process and take turns with each query; ratios to
numpy are medians over the turns, and numpy and faiss share one array.

| engine | holds |
|---|---|
| gallery | `passerby gallery`: float16 shards, mapped into memory, rows in SQLite |
| numpy | one float32 array from an .npy, `argpartition`; filters by a mask in memory |
| numpy-mapped | a float16 .npy, mapped, in blocks; filters by a mask in memory |
| faiss | `IndexFlatIP` of float32, read from its file; filters by an IDSelector in memory |
| lancedb | a table of float16, exact scan (only where `--lancedb PYTHON` names a Python that has it) |
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

DIMENSIONS, TOP, CAMERAS, BATCH = 512, 100, 100, 100
SCANNED = 10
"""Queries of a batch that LanceDB, which scans once for each query, is measured by; ten times as long for 100."""
SINGLES = 5
"""Warm queries, of which the median counts."""


def chunks(count: int, size: int = 50_000) -> list[slice]:
    """Return ranges that cover so many rows."""
    return [slice(start, min(start + size, count)) for start in range(0, count, size)]


def unit_vectors(count: int, seed: int) -> np.ndarray:
    """Return random directions (N, D), as they are stored: rounded to float16."""
    vectors = np.random.default_rng(seed).standard_normal((count, DIMENSIONS)).astype(np.float32)
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float16)


def make(place: Path, count: int, lancedb: str | None) -> None:
    """Write the same vectors in the form of each engine."""
    from passerby.gallery import GalleryRows, open_gallery

    place.mkdir(parents=True, exist_ok=True)
    if not (place / "halves.npy").exists():
        halves = np.lib.format.open_memmap(place / "halves.part", "w+", np.float16, (count, DIMENSIONS))
        for number, rows in enumerate(chunks(count)):
            halves[rows] = unit_vectors(rows.stop - rows.start, number)
        halves.flush()
        (place / "halves.part").rename(place / "halves.npy")
    halves = np.load(place / "halves.npy", mmap_mode="r")
    if not (place / "floats.npy").exists():
        np.save(place / "floats.npy", halves.astype(np.float32))
    if not (place / "gallery").exists():
        began = time.perf_counter()
        gallery = open_gallery(place / "gallery.part", model_stamp="random 0", create=True)
        for rows in chunks(count):
            number = np.arange(rows.start, rows.stop)
            names = np.array([f"crops/2026/{row:08d}.jpg" for row in number.tolist()])
            camera = np.array([f"camera-{row % CAMERAS:02d}" for row in number.tolist()])
            gallery.add(GalleryRows(halves[rows].astype(np.float32), path=names, camera=camera, time=1.7e9 + number))
        seconds, size = time.perf_counter() - began, gallery.info().bytes / 1e6
        print(f"gallery: {count:,} rows added in {seconds:.0f} s; {size:,.0f} MB", flush=True)
        gallery.close()
        (place / "gallery.part").rename(place / "gallery")
    if not (place / "flat.faiss").exists():
        import faiss

        index = faiss.IndexFlatIP(DIMENSIONS)
        for rows in chunks(count):
            index.add(halves[rows].astype(np.float32))
        faiss.write_index(index, str(place / "flat.faiss"))
    if lancedb and not (place / "lance").exists():
        subprocess.run([lancedb, __file__, "--lance-make", str(place)], check=True)


def drop(place: Path) -> None:
    """Drop files from the memory of the system, so that they are read from the disk again."""
    for path in [place, *place.rglob("*")] if place.is_dir() else [place]:
        if path.is_file():
            handle = os.open(path, os.O_RDONLY)
            os.fsync(handle)
            os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(handle)


Search = Callable[[np.ndarray, bool], np.ndarray]
"""From queries (Q, D) and whether only camera 7 is searched to ids (Q, K)."""


def open_engine(engine: str, place: Path) -> Search:
    """Load the libraries of an engine, and return a function that opens its files at the first call."""
    return {
        "gallery": _gallery,
        "numpy": _numpy,
        "numpy-mapped": _numpy_mapped,
        "faiss": _faiss,
        "lancedb": _lancedb,
    }[engine](place)


def file_of(engine: str, place: Path) -> Path:
    """Return the file or folder of an engine."""
    names = {"gallery": "gallery", "numpy": "floats.npy", "numpy-mapped": "halves.npy", "faiss": "flat.faiss"}
    return place / names.get(engine, "lance")


def _gallery(place: Path) -> Search:
    import torch  # noqa: F401 - loading libraries is not measured

    from passerby.gallery import (
        EVERYTHING,
        Where,
        open_gallery,
        scan,  # noqa: F401
    )

    opened: list = []

    def search(queries: np.ndarray, filtered: bool) -> np.ndarray:
        if not opened:
            opened.append(open_gallery(place / "gallery"))
        return opened[0].search(queries, top=TOP, where=Where(cameras=("camera-07",)) if filtered else EVERYTHING).id

    return search


def _largest(products: np.ndarray) -> np.ndarray:
    part = np.argpartition(-products, TOP - 1, axis=1)[:, :TOP]
    order = np.argsort(-np.take_along_axis(products, part, axis=1), axis=1, kind="stable")
    return np.take_along_axis(part, order, axis=1)


def _numpy(place: Path, opened: list | None = None) -> Search:
    opened = [] if opened is None else opened

    def search(queries: np.ndarray, filtered: bool) -> np.ndarray:
        if not opened:
            opened.append(np.load(place / "floats.npy"))
        rows = np.arange(len(opened[0]))
        if filtered:
            rows = np.flatnonzero(rows % CAMERAS == 7)
            return rows[_largest(queries @ opened[0][rows].T)]
        return _largest(queries @ opened[0].T)

    return search


def _numpy_mapped(place: Path) -> Search:
    opened: list = []

    def search(queries: np.ndarray, filtered: bool) -> np.ndarray:
        if not opened:
            opened.append(np.load(place / "halves.npy", mmap_mode="r"))
        halves = opened[0]
        rows = np.flatnonzero(np.arange(len(halves)) % CAMERAS == 7) if filtered else None
        count = len(halves) if rows is None else len(rows)
        products = np.empty((len(queries), count), np.float32)
        for block in chunks(count, 4096):
            products[:, block] = queries @ (halves[block] if rows is None else halves[rows[block]]).astype(np.float32).T
        places = _largest(products)
        return places if rows is None else rows[places]

    return search


def _faiss(place: Path, opened: list | None = None) -> Search:
    import faiss

    opened = [] if opened is None else opened

    def search(queries: np.ndarray, filtered: bool) -> np.ndarray:
        if not opened:
            opened.append(faiss.read_index(str(place / "flat.faiss")))
        if not filtered:
            return opened[0].search(queries, TOP)[1]
        rows = np.flatnonzero(np.arange(opened[0].ntotal) % CAMERAS == 7)
        return opened[0].search(queries, TOP, params=faiss.SearchParameters(sel=faiss.IDSelectorBatch(rows)))[1]

    return search


def _lancedb(place: Path) -> Search:
    import lancedb

    opened: list = []

    def search(queries: np.ndarray, filtered: bool) -> np.ndarray:
        if not opened:
            opened.append(lancedb.connect(place / "lance").open_table("rows"))
        found = []
        for query in queries:
            asked = opened[0].search(query).metric("dot").limit(TOP).select(["id", "_distance"])
            found.append((asked.where("camera = 'camera-07'", prefilter=True) if filtered else asked).to_arrow())
        return np.stack([table["id"].to_numpy() for table in found])

    return search


def make_lance(place: Path) -> None:
    """Write the vectors as a table of LanceDB."""
    import lancedb
    import pyarrow as pa

    halves = np.load(place / "halves.npy", mmap_mode="r")
    table = None
    began = time.perf_counter()
    for rows in chunks(len(halves)):
        number = np.arange(rows.start, rows.stop)
        vectors = pa.FixedSizeListArray.from_arrays(pa.array(np.asarray(halves[rows]).ravel()), DIMENSIONS)
        camera = pa.array([f"camera-{row % CAMERAS:02d}" for row in number.tolist()])
        batch = pa.table({"id": pa.array(number), "camera": camera, "vector": vectors})
        table = table or lancedb.connect(place / "lance").create_table("rows", schema=batch.schema)
        table.add(batch)
    table.optimize()
    print(f"lancedb: added in {time.perf_counter() - began:.0f} s")


def measure_warm(engines: list[str], place: Path, turns: int) -> None:
    """Let engines take turns with the same queries in this process, and print a table."""
    searches = {engine: open_engine(engine, place) for engine in engines if engine not in ("numpy", "faiss")}
    if "faiss" in engines:
        import faiss

        faiss.omp_set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "0")) or os.cpu_count())
        index = faiss.read_index(str(place / "flat.faiss"))
        floats = faiss.rev_swig_ptr(index.get_xb(), index.ntotal * DIMENSIONS).reshape(-1, DIMENSIONS)
        searches |= {"numpy": _numpy(place, [floats]), "faiss": _faiss(place, [index])}
    else:
        searches["numpy"] = _numpy(place)
    queries = unit_vectors(turns * (BATCH + 1), 10**6).astype(np.float32)
    for name, count, filtered in (("one query", 1, False), ("one query, filter 1 %", 1, True), ("100", BATCH, False)):
        seconds: dict[str, list[tuple[float, float]]] = {engine: [] for engine in searches}
        equal = dict.fromkeys(searches, 0)
        for turn in range(-1, turns if count == 1 else max(3, turns // 3)):  # the first warms up and does not count
            asked = queries[turn * count :][:count] if turn >= 0 else queries[-count:]
            answers = {}
            for engine, search in searches.items():
                began, ran = time.perf_counter(), time.process_time()
                answers[engine] = search(asked, filtered)
                seconds[engine].append((time.perf_counter() - began, time.process_time() - ran))
            for engine, answer in answers.items():
                equal[engine] += int((answer == answers["numpy"]).all())
        print(f"\n| {name} | ms | ratio to numpy | CPU ms | ratio to numpy | as numpy |\n|---|---|---|---|---|---|")
        for engine, pairs in seconds.items():
            own, numpys = np.array(pairs[1:]), np.array(seconds["numpy"][1:])
            medians, ratios = np.median(own, axis=0), np.median(own / numpys, axis=0)
            spread = np.quantile(own[:, 1] / numpys[:, 1], [0.25, 0.75])
            print(
                f"| {engine} | {1000 * medians[0]:.4g} | {ratios[0]:.2f} | {1000 * medians[1]:.4g} | {ratios[1]:.2f} "
                f"({spread[0]:.2f} to {spread[1]:.2f}) | {equal[engine]} of {len(pairs)} |",
                flush=True,
            )
    print(f"\nmemory of this process and pages of mapped files, MB: {[round(each / 1024) for each in _memory()]}")


def _memory() -> tuple[int, int]:
    """Return the KiB of this process that are its own, and those that are pages of mapped files."""
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(lines["RssAnon"].split()[0]), int(lines["RssFile"].split()[0])


def measure(engine: str, place: Path, first: str) -> dict[str, float]:
    """Measure one engine in this process, of which the first query is cold: `single` or `filtered`."""
    search = open_engine(engine, place)
    queries = unit_vectors(BATCH + SINGLES, 10**6).astype(np.float32)
    singles = [queries[BATCH + number :][:1] for number in range(SINGLES)]
    before = _memory()

    def timed(run: Callable[[], np.ndarray]) -> tuple[float, float, np.ndarray]:
        """Return seconds, seconds of processor time of all threads, and the answer."""
        began, ran = time.perf_counter(), time.process_time()
        answer = run()
        return time.perf_counter() - began, time.process_time() - ran, answer

    figures: dict[str, float] = {}
    if engine == "gallery":  # compiled once for all, and kept on the disk: no matter of the gallery
        from passerby.distances.nearest import smallest

        smallest(__import__("torch").zeros(1, 4), 2)
    drop(file_of(engine, place))
    if first == "filtered":
        figures["filtered_cold"], _, _ = timed(lambda: search(singles[0], True))
        return figures
    figures["single_cold"], _, _ = timed(lambda: search(singles[0], False))
    figures["own_mb"], figures["mapped_mb"] = (
        (after - earlier) / 1024 for after, earlier in zip(_memory(), before, strict=True)
    )
    for name, filtered in (("single", False), ("filtered", True)):
        times = [timed(lambda query=query, filtered=filtered: search(query, filtered))[:2] for query in singles]
        figures[name], figures[f"{name}_cpu"] = (statistics.median(each) for each in zip(*times, strict=True))
    count = SCANNED if engine == "lancedb" else BATCH
    wall, ran, answers = timed(lambda: search(queries[:count], False))
    figures["batch"], figures["batch_cpu"] = wall * BATCH / count, ran * BATCH / count
    chosen = search(singles[0], True)
    figures["recall"], figures["recall_filtered"] = _recall(place, queries, answers, chosen)
    return figures


def _recall(place: Path, queries: np.ndarray, answers: np.ndarray, filtered: np.ndarray) -> tuple[float, float]:
    """Return the shares of the right answers: of the first 10 queries, and of the filtered one."""
    halves = np.load(place / "halves.npy", mmap_mode="r")
    asked = np.concatenate([queries[:10], queries[BATCH : BATCH + 1]]).astype(np.float64)
    products = np.concatenate([asked @ halves[rows].astype(np.float64).T for rows in chunks(len(halves))], axis=1)
    right = _largest(products[:10])
    allowed = np.arange(len(halves)) % CAMERAS == 7
    right_filtered = _largest(np.where(allowed, products[10:], -2))
    shares = [len(np.intersect1d(*pair)) / TOP for pair in zip(answers[:10], right, strict=True)]
    return float(np.mean(shares)), len(np.intersect1d(filtered[0], right_filtered[0])) / TOP


def main() -> None:
    """Make the files, let engines take turns, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--place", type=Path, default=Path("/tmp/gallery_benchmark"))
    parser.add_argument("--lancedb", help="a Python with lancedb")
    parser.add_argument("--warm", action="store_true", help="all engines in one process, warm queries only")
    parser.add_argument("--engines", default="gallery,numpy,numpy-mapped,faiss")
    parser.add_argument("--engine", help=argparse.SUPPRESS)
    parser.add_argument("--first", help=argparse.SUPPRESS)
    parser.add_argument("--lance-make", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.lance_make:
        make_lance(options.lance_make)
        return
    if options.engine:
        print(json.dumps(measure(options.engine, options.place, options.first)))
        return
    make(options.place, options.rows, options.lancedb)
    engines = options.engines.split(",") + (["lancedb"] if options.lancedb else [])
    if options.warm:
        measure_warm(engines, options.place, options.turns)
        return
    turns: dict[str, list[dict[str, float]]] = {engine: [] for engine in engines}
    for _ in range(options.turns):
        for engine in engines:
            python = options.lancedb if engine == "lancedb" else sys.executable
            figures: dict[str, float] = {}
            for first in ("single", "filtered"):
                command = [python, __file__, "--engine", engine, "--first", first, "--place", str(options.place)]
                done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
                figures |= json.loads(done.stdout.splitlines()[-1])
            turns[engine].append(figures)
            print(engine, {name: round(value, 4) for name, value in figures.items()}, flush=True)
    _print_table(turns)


def _print_table(turns: dict[str, list[dict[str, float]]]) -> None:
    times = ("single_cold", "single", "single_cpu", "batch", "batch_cpu", "filtered_cold", "filtered", "filtered_cpu")
    names = (*times, "own_mb", "mapped_mb", "recall", "recall_filtered")
    print("| engine | " + " | ".join(names) + " |")
    print("|---|" + "---|" * len(names))
    for engine, figures in turns.items():
        medians = {name: statistics.median(each[name] for each in figures) for name in names}
        cells = [f"{medians[name]:.3g}" for name in names]
        print(f"| {engine} | " + " | ".join(cells) + " |")
    for engine, figures in turns.items():
        pairs = list(zip(figures, turns["gallery"], strict=True))
        ratios = {name: statistics.median(each[name] / other[name] for each, other in pairs) for name in times}
        print(f"{engine} / gallery: " + ", ".join(f"{name} {ratio:.2f}" for name, ratio in ratios.items()))


if __name__ == "__main__":
    main()
