"""Which files of a data set hold the same image, byte for byte."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

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
