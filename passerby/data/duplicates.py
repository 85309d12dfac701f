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
    paths: dict[bytes, str] = {}
    for path in (path for split in first for path in split.path.tolist()):
        paths.setdefault(files[path].digest, path)
    paths.pop(b"", None)
    other_paths = (path for split in second for path in split.path.tolist())
    return tuple((paths[files[path].digest], path) for path in other_paths if files[path].digest in paths)


def contradictions(splits: Iterable[Split], files: Mapping[str, ImageFile]) -> tuple[tuple[str, str], ...]:
    """Return pairs of paths whose files are equal and whose known identities are not."""
    earlier_by_digest: dict[bytes, tuple[str, int]] = {}
    pairs: list[tuple[str, str]] = []
    for split in splits:
        for path, pid in zip(split.path.tolist(), split.pid.tolist(), strict=True):
            digest = files[path].digest
            if pid == UNKNOWN or not digest:
                continue
            earlier, earlier_pid = earlier_by_digest.setdefault(digest, (path, pid))
            if earlier_pid != pid:
                pairs.append((earlier, path))
    return tuple(pairs)


# ---- cheaply, between data sets


SAMPLE = 200
"""Files that are looked into for each two data sets, on either side."""


def by_size(paths: Iterable[str]) -> dict[int, list[str]]:
    """Return the files of each size in bytes, without empty and inaccessible ones."""
    files: dict[int, list[str]] = {}
    for path in paths:
        try:
            size = Path(path).stat().st_size
        except OSError:
            continue  # whoever reads the image tells what is wrong
        if size:
            files.setdefault(size, []).append(path)
    return files


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
    budget = SAMPLE
    for path, size in sorted(_spread(alike), key=lambda pair: len(second[pair[1]])):
        name = Path(path).name
        candidates = sorted(second[size], key=lambda candidate: Path(candidate).name != name)[
            : min(budget, _OF_ONE_SIZE)
        ]
        digest = _digest(path) if candidates else b""
        for candidate in candidates if digest else ():
            if _digest(candidate) == digest:
                return path, candidate
        budget -= len(candidates)
    return None


def _spread(pairs: Sequence[tuple[str, int]]) -> list[tuple[str, int]]:
    count = min(len(pairs), SAMPLE)
    return [pairs[index * len(pairs) // count] for index in range(count)]


def _digest(path: str) -> bytes:
    try:
        return hashlib.blake2b(Path(path).read_bytes(), digest_size=16).digest()
    except OSError:
        return b""


_OF_ONE_SIZE = 20
"""Bitmaps all have one size; then the name decides."""
