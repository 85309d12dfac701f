"""Duplicates: files of a data set that are equal byte for byte."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from passerby.data.inspect import ImageFile
from passerby.types import UNKNOWN, Split


def same_content(
    first: Iterable[Split], second: Iterable[Split], files: Mapping[str, ImageFile]
) -> tuple[tuple[str, str], ...]:
    """Return pairs of paths (from `first`, from `second`) whose files are equal.

    Args:
        first, second: splits.
        files: the inspected file of every path.

    """
    held: dict[bytes, str] = {}
    for path in (path for split in first for path in split.path.tolist()):
        held.setdefault(files[path].digest, path)
    held.pop(b"", None)
    others = (path for split in second for path in split.path.tolist())
    return tuple((held[files[path].digest], path) for path in others if files[path].digest in held)


def contradictions(splits: Iterable[Split], files: Mapping[str, ImageFile]) -> tuple[tuple[str, str], ...]:
    """Return pairs of paths whose files are equal and whose known identities are not."""
    held: dict[bytes, tuple[str, int]] = {}
    found: list[tuple[str, str]] = []
    for split in splits:
        for path, pid in zip(split.path.tolist(), split.pid.tolist(), strict=True):
            digest = files[path].digest
            if pid == UNKNOWN or not digest:
                continue
            earlier, earlier_pid = held.setdefault(digest, (path, pid))
            if earlier_pid != pid:
                found.append((earlier, path))
    return tuple(found)


# ---- cheaply, between data sets


SAMPLE = 200
"""Files that are looked into for each two data sets, on either side."""


def by_size(paths: Iterable[str]) -> dict[int, list[str]]:
    """Return the files of each size in bytes, without empty and inaccessible ones."""
    found: dict[int, list[str]] = {}
    for path in paths:
        try:
            size = Path(path).stat().st_size
        except OSError:
            continue  # whoever reads the image tells what is wrong
        if size:
            found.setdefault(size, []).append(path)
    return found


def shared_file(first: Mapping[int, list[str]], second: Mapping[int, list[str]]) -> tuple[str, str] | None:
    """Return a file of `first` and one of `second` that are equal byte for byte, or None.

    Only files whose size stands on both sides are read, and at most `SAMPLE` on each: those of the set with fewer,
    spread evenly, rare sizes first, against those of their size, the same name first. A whole copy is found for certain
    where names or sizes tell its files apart; a few common images among many may be missed.

    Args:
        first, second: files by size, see `by_size`.

    """
    if sum(map(len, first.values())) > sum(map(len, second.values())):
        found = shared_file(second, first)
        return found and (found[1], found[0])
    alike = sorted((path, size) for size in first.keys() & second.keys() for path in first[size])
    left = SAMPLE
    for path, size in sorted(_spread(alike), key=lambda pair: len(second[pair[1]])):
        name = Path(path).name
        others = sorted(second[size], key=lambda other: Path(other).name != name)[: min(left, _OF_ONE_SIZE)]
        own = _digest(path) if others else b""
        for other in others if own else ():
            if _digest(other) == own:
                return path, other
        left -= len(others)
    return None


def _spread(pairs: Sequence[tuple[str, int]]) -> list[tuple[str, int]]:
    count = min(len(pairs), SAMPLE)
    return [pairs[place * len(pairs) // count] for place in range(count)]


def _digest(path: str) -> bytes:
    try:
        return hashlib.blake2b(Path(path).read_bytes(), digest_size=16).digest()
    except OSError:
        return b""


_OF_ONE_SIZE = 20
"""Bitmaps all have one size; then the name decides."""
