"""The image files of a folder, listed in one way for the whole program.

Hidden files, hidden folders and folders of masks are left out, links are followed, and every real folder is walked
once. What is left out is counted by reason (`listing_notes`). Directory entries carry their own type, so only links are
looked up on the disk: listing 30,000 names takes a fraction of a second, on a network drive too.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Literal

from PIL import Image

from passerby.data.names import is_text, printable
from passerby.errors import UserError

IMAGE_ENDINGS = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".apng", ".bmp", ".dib", ".webp", ".gif", ".tif", ".tiff"),
    *(".jp2", ".j2k", ".jpx", ".jpf", ".j2c", ".pbm", ".pgm", ".ppm", ".pnm", ".pfm", ".tga", ".pcx", ".sgi", ".qoi"),
    *(".avif", ".avifs", ".heic", ".heif"),
)
"""Endings of photographs, upper or lower case; an image is what has one that the installed Pillow can decode."""

MASK_FOLDER = "masks"
"""Foreground masks lie below a folder of this name, so it is never read as images."""

Reason = Literal["hidden", "masks", "repeated", "broken", "name", "kind"]
_REASONS: dict[Reason, tuple[str, str]] = {
    "kind": ("file that is no image", "files that are no images"),
    "hidden": ("hidden file or folder", "hidden files or folders"),
    "masks": ("folder of masks", "folders of masks"),
    "repeated": ("further link to a folder", "further links to folders"),
    "broken": ("broken link", "broken links"),
    "name": ("name that is not UTF-8", "names that are not UTF-8"),
}


@lru_cache(maxsize=1)
def readable_endings() -> tuple[str, ...]:
    """Return the endings of `IMAGE_ENDINGS` for which Pillow has a decoder."""
    kinds = Image.registered_extensions()
    return tuple(ending for ending in IMAGE_ENDINGS if kinds.get(ending) in Image.OPEN)


# ---- what is left out


@dataclass
class ListingNotes:
    """Files that listings left out.

    Attributes:
        left_out: reason by path.

    """

    left_out: dict[str, Reason] = field(default_factory=dict)

    @property
    def sentences(self) -> tuple[str, ...]:
        """Notes for a person; none when nothing was left out."""
        if not self.left_out:
            return ()
        return (f"Left out: {', '.join(self._reason(reason) for reason in _REASONS if self._paths(reason))}.",)

    def _paths(self, reason: Reason) -> list[str]:
        return sorted(path for path, why in self.left_out.items() if why == reason)

    def _reason(self, reason: Reason) -> str:
        paths = self._paths(reason)
        if reason == "kind":
            kinds = Counter(Path(path).suffix.lower() or Path(path).name for path in paths).most_common(4)
            example = ", ".join(f"{count:,} {kind}" for kind, count in kinds[:3]) + (", ..." if len(kinds) > 3 else "")
        else:
            example = printable(paths[0])
        return f"{len(paths):,} {_REASONS[reason][len(paths) > 1]} ({example})"


_NOTES: ContextVar[ListingNotes | None] = ContextVar("listing notes", default=None)


@contextmanager
def listing_notes() -> Iterator[ListingNotes]:
    """Collect the files that all listings within the block leave out."""
    notes = ListingNotes()
    token = _NOTES.set(notes)
    try:
        yield notes
    finally:
        _NOTES.reset(token)


def _note(path: str, reason: Reason) -> None:
    notes = _NOTES.get()
    if notes is not None:
        notes.left_out[path] = reason


def why_none() -> str:
    """Return the files left out so far, as the end of an error about a folder without images."""
    notes = _NOTES.get()
    return f"; {notes.sentences[0][:1].lower()}{notes.sentences[0][1:-1]}" if notes and notes.left_out else ""


# ---- listing


def image_names(folder: Path) -> list[str]:
    """Return the sorted names of the images directly in `folder`, without hidden files."""
    names: list[str] = []
    for entry in _entries(folder):
        reason = _left_out(entry)
        if reason is None and not entry.is_dir():
            names.append(entry.name)
        elif reason is not None and not entry.is_dir():
            _note(entry.path, reason)
    return names


def folder_names(folder: Path) -> list[str]:
    """Return the sorted names of the folders directly in `folder`, without hidden ones and without masks."""
    names: list[str] = []
    for entry in _entries(folder):
        if entry.is_dir():
            reason = _left_out(entry)
            if reason is None:
                names.append(entry.name)
            elif reason == "name":
                _note(entry.path, reason)
    return names


def images_below(folder: Path) -> list[str]:
    """Return the sorted paths of all images below `folder`, relative to it, with forward slashes.

    A folder that is reached by several ways is listed once: where it really is, or by the first of its links.
    """
    names: list[str] = []
    seen: set[tuple[int, int]] = set()
    real, links = [""], list[str]()
    while real or links:
        inner = real.pop() if real else links.pop(0)
        here = folder / inner
        place = _place(here)
        if place in seen:
            _note(str(here), "repeated")
            continue
        seen.add(place)
        for entry in _entries(here):
            path = f"{inner}{entry.name}"
            if (reason := _left_out(entry)) is not None:
                _note(entry.path, reason)
            elif entry.is_dir():
                (links if entry.is_symlink() else real).append(f"{path}/")
            else:
                names.append(path)
        links.sort()
    return sorted(names)


def _left_out(entry: os.DirEntry[str]) -> Reason | None:
    """Return why an entry is neither an image nor a folder of images, or None when it is one."""
    if entry.name.startswith("."):
        return "hidden"
    if not is_text(entry.name):
        return "name"
    if entry.is_dir():
        return "masks" if entry.name == MASK_FOLDER else None
    if not entry.is_file():
        return "broken"
    if not entry.name.lower().endswith(readable_endings()):
        return "kind"
    return None


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        raise UserError(f"cannot read the folder {folder}: {(error.strerror or str(error)).lower()}") from error


def _place(path: Path) -> tuple[int, int]:
    """Return a key that is equal for two paths to the same folder."""
    try:
        status = path.stat()
    except OSError as error:
        raise UserError(f"cannot read {path}: {(error.strerror or str(error)).lower()}") from error
    return status.st_dev, status.st_ino
