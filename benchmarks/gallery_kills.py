"""Kill a writer of a gallery at random moments of addition, removal and compaction, and look for losses.

    python benchmarks/gallery_kills.py --kills 200
    python benchmarks/gallery_kills.py --kills 200 --place postgresql://postgres@127.0.0.1/postgres?gallery=kills

A child process adds rows, deletes and forgets people and compacts, and writes a line to a pipe before each operation
and after it has returned. It is killed (SIGKILL) after a random time. Then the gallery is opened and compared with
the lines: each row whose addition had returned and whose removal had not begun must be there with its vector bit for
bit; of each person whose removal had returned no row may be found, and no byte of a vector may be in any file of a
folder; the one operation that was under way must have happened wholly or not at all; and `check` must find no fault.
A gallery that was opened at the beginning and searched since must answer as the one that is opened for the comparison.

The kill ends a process, not the machine: that what returned is on the disk, and not only in the memory of the system,
rests on the calls of fsync in `passerby/gallery`, which this script cannot test.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import numpy as np

from passerby.gallery import Gallery, GalleryRows, Where, folder, open_gallery, shards, tidying

DIMENSIONS = 64
PEOPLE_PER_ADDITION, ROWS_PER_PERSON = 4, 5
ROWS_OF_ADDITION = PEOPLE_PER_ADDITION * ROWS_PER_PERSON
MODEL = "killed 0123456789abcdef"
LINES = 6
"""Lines of a child, after a random one of which it is killed, so that a slow machine gets as far as a quick one."""


def rows_of(person: int) -> GalleryRows:
    """Return the rows of a person, always the same."""
    vectors = np.random.default_rng(person).standard_normal((ROWS_PER_PERSON, DIMENSIONS)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    names = np.array([f"{person}-{row}" for row in range(ROWS_PER_PERSON)])
    identity = np.full(ROWS_PER_PERSON, f"person {person}.")
    thumbnails = tuple(f"thumbnail of {name}.".encode() for name in names)
    return GalleryRows(vectors, path=names, identity=identity, thumbnails=thumbnails)


def write(place: Path | str, pipe: IO[str], first: int, generator: random.Random) -> None:
    """Change the gallery until the process is killed; each operation is a line `begin ...` and a line `end ...`."""
    gallery = open_gallery(place, model_stamp=MODEL, create=True)
    kinds = [
        "add",
        "add",
        "add",
        "delete",
        "forget",
        *(["compact"] if isinstance(gallery, folder.FolderGallery) else []),
    ]
    present = sorted({int(name.split()[1][:-1]) for name in set(gallery.list().identity.tolist())})
    person = first

    def say(word: str, operation: str, people: list[int]) -> None:
        pipe.write(f"{word} {operation} {' '.join(map(str, people))}\n")
        pipe.flush()

    while True:
        operation = generator.choice(kinds)
        people: list[int] = []
        if operation == "add":
            people = list(range(person, person + PEOPLE_PER_ADDITION))
            person += PEOPLE_PER_ADDITION
        elif operation != "compact" and present:
            people = sorted(generator.sample(present, min(len(present), generator.randint(1, 5))))
        if operation != "compact" and not people:
            continue
        say("begin", operation, people)
        if operation == "add":
            gallery.add(GalleryRows.join([rows_of(each) for each in people]))
            present += people
        elif isinstance(gallery, folder.FolderGallery) and operation == "compact":
            gallery.compact()
        else:
            where = Where(identities=tuple(f"person {each}." for each in people))
            (gallery.delete if operation == "delete" else gallery.forget)(where)
            present = [each for each in present if each not in people]
        say("end", operation, people)


@dataclass
class Expected:
    """What the lines of all children so far allow the gallery to hold.

    Attributes:
        present: people whose rows must be there.
        forgotten: people of whom no trace may be there.
        under_way: people of the operation that was killed, who may be there with all rows or none.
        operations: how many returned, and how many were killed, by kind.

    """

    present: set[int] = field(default_factory=set)
    forgotten: set[int] = field(default_factory=set)
    under_way: tuple[str, set[int]] = ("", set())
    operations: Counter[str] = field(default_factory=Counter)

    def read(self, lines: list[str]) -> None:
        """Take the lines of one child into account; the last may be cut."""
        begun = ""
        for line in lines:
            if not line.endswith("\n"):
                break
            word, operation, *numbers = line.split()
            people = set(map(int, numbers))
            if word == "begin":
                begun, self.under_way = operation, (operation, people)
                continue
            begun, self.under_way = "", ("", set())
            self.operations[f"{operation} returned"] += 1
            if operation == "add":
                self.present |= people
            else:
                self.present -= people
                self.forgotten |= people
        if begun:
            self.operations[f"{begun} killed"] += 1

    def settle(self, people: set[int]) -> None:
        """Take what became of the operation that was killed for granted from now on."""
        operation, touched = self.under_way
        if operation == "add":
            self.present |= touched & people
        else:
            self.forgotten |= touched - people
            self.present -= touched - people
        self.under_way = ("", set())


def faults_of(place: Path | str, expected: Expected, reader: Gallery) -> Iterator[str]:
    """Yield a sentence for each deviation from what is expected, also in a gallery that has been open for long."""
    gallery = open_gallery(place, model_stamp=MODEL)
    yield from gallery.check()
    rows = gallery.list()
    operation, touched = expected.under_way
    people = {int(name.split()[1][:-1]) for name in set(rows.identity.tolist())}
    for person in sorted(expected.present - touched - people):
        yield f"person {person}: acknowledged and lost"
    if operation == "add" and touched & people not in (set(), touched):
        yield f"the addition of {sorted(touched)} is there in part"
    if operation in ("delete", "forget") and touched & people not in (set(), touched):
        yield f"the removal of {sorted(touched)} happened in part"
    for person in sorted(people - expected.present - touched):
        yield f"person {person}: removed, and there again"
    for person in sorted(people):
        stored, right = rows.select(rows.identity == f"person {person}."), rows_of(person)
        if stored.path.tolist() != right.path.tolist():
            yield f"person {person}: rows {stored.path.tolist()}"
        elif not np.array_equal(stored.vectors, right.vectors.astype(np.float16).astype(np.float32)):
            yield f"person {person}: other vectors"
    expected.settle(people)
    for queries in (rows.vectors[:1], rows.vectors[-5:]):  # by the kernel for few queries, and by blocks
        if len(rows) and reader.search(queries, top=20).id.tolist() != gallery.search(queries, top=20).id.tolist():
            yield "the gallery that was opened before has other rows"
    gallery.close()
    if isinstance(place, Path):
        yield from _traces(place, expected.forgotten)


def _traces(place: Path, forgotten: set[int]) -> Iterator[str]:
    content = b"".join(path.read_bytes() for path in sorted(place.rglob("*")) if path.is_file())
    for person in sorted(forgotten):
        for vector in rows_of(person).vectors.astype(np.float16):
            if vector.tobytes() in content:
                yield f"person {person}: removed, and a vector is still in a file"


def kill_once(place: Path | str, first: int, seed: int, longest: float) -> list[str]:
    """Kill a child at a random time after a random one of its lines, and return its lines."""
    generator = random.Random(seed)
    count, wait = generator.randint(1, LINES), generator.uniform(0, longest)
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        try:
            os.close(reader)
            with os.fdopen(writer, "w") as pipe:
                write(place, pipe, first, generator)
        finally:
            os._exit(1)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        lines = [pipe.readline() for _ in range(count)]
        time.sleep(wait)
        os.kill(child, signal.SIGKILL)
        lines += pipe.readlines()
    _, status = os.waitpid(child, 0)
    if not os.WIFSIGNALED(status):
        raise RuntimeError("the child ended by itself")
    return lines


def run(place: Path | str, *, kills: int, seed: int, longest: float = 0.25, rows_per_shard: int = 256) -> Expected:
    """Kill so many times; raise where the gallery is not as expected."""
    modules = ("shards", "folder", "tidying")
    for name in modules:
        __import__(f"passerby.gallery.{name}", fromlist=["_"]).ROWS_PER_SHARD = rows_per_shard
    expected, reader = Expected(), open_gallery(place, model_stamp=MODEL, create=True)
    for kill in range(kills):
        expected.read(kill_once(place, 100_000 * kill, seed + kill, longest))
        faults = list(faults_of(place, expected, reader))
        if faults:
            raise RuntimeError(f"kill {kill}, in {place}: {'; '.join(faults[:5])}")
    reader.close()
    return expected


def main() -> None:
    """Read the command line, kill, and print what was under way."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--shard", type=int, default=64, help="rows of a full shard")
    parser.add_argument("--place", help="a new gallery in a database, instead of a folder")
    options = parser.parse_args()
    place = options.place or Path(tempfile.mkdtemp(prefix="gallery_kills_")) / "gallery"
    for module in (shards, folder, tidying):
        module.ROWS_PER_SHARD = options.shard  # so that a few thousand rows are many shards
    began = time.perf_counter()
    expected = run(place, kills=options.kills, seed=options.seed)
    print(f"{options.kills} kills in {time.perf_counter() - began:.0f} s, no fault")
    for name, count in sorted(expected.operations.items()):
        print(f"{count:>6} {name}")
    print(f"{len(expected.present)} people present, {len(expected.forgotten)} removed")
    if isinstance(place, Path):
        shutil.rmtree(place.parent)


if __name__ == "__main__":
    main()
