"""Files that stand in a list of images more than once: by the same name, by other names (hard links), or by links.

Copies are other files; `passerby data check` finds them by their content.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

FileKey = tuple[int, int]
"""Device and number of a file, equal for all its names."""


def repeated_note(paths: Iterable[str]) -> tuple[str, ...]:
    """Return a sentence on the paths that lead to a file listed before; empty where there are none."""
    pairs = repeated_files(paths)
    if not pairs:
        return ()
    return (
        f"Listed more than once, by the same name, another name or a link: {len(pairs):,} ({_example(*pairs[0])}).",
    )


def repeated_files(paths: Iterable[str]) -> list[tuple[str, str]]:
    """Return (first path, further path) of each further path to a file, in the order of the list.

    Each folder is read once, and only links are looked up one by one. Paths without a file are passed over.
    """
    folders: dict[str, dict[str, FileKey]] = {}
    firsts: dict[FileKey, str] = {}
    pairs: list[tuple[str, str]] = []
    for path in paths:
        folder, name = os.path.split(path)
        if folder not in folders:
            folders[folder] = _keys(folder)
        key = folders[folder].get(name)
        if key is None:
            continue
        if key not in firsts:
            firsts[key] = path
        elif firsts[key] == path or Path(firsts[key]).samefile(path):
            pairs.append((firsts[key], path))
    return pairs


def _keys(folder: str) -> dict[str, FileKey]:
    """Return the keys of the entries of a folder by name; empty where it cannot be read."""
    found: dict[str, FileKey] = {}
    try:
        device = os.stat(folder or os.curdir).st_dev  # noqa: PTH116 - thousands of paths are text already
        with os.scandir(folder or os.curdir) as entries:
            for entry in entries:
                key = _key_of_link(entry) if entry.is_symlink() else (device, entry.inode())
                if key is not None:
                    found[entry.name] = key
    except (OSError, ValueError):  # ValueError: a name with a null character
        return {}  # an error for the reader of the images
    return found


def _key_of_link(entry: os.DirEntry[str]) -> FileKey | None:
    try:
        status = entry.stat()
    except OSError:  # broken
        return None
    return status.st_dev, status.st_ino


def _example(first: str, further: str) -> str:
    """Return a pair of paths in words, relative to the folder that holds both."""
    first, further = (os.path.abspath(path) for path in (first, further))  # noqa: PTH100 - text, and links stay
    if first == further:
        return f"{os.path.basename(first)} twice"  # noqa: PTH119
    try:
        folder = os.path.commonpath([first, further])
    except ValueError:  # on two drives
        return f"{further} = {first}"
    return f"{os.path.relpath(further, folder)} = {os.path.relpath(first, folder)}"
