"""Images cut into blocks, each of which becomes one part of a table of vectors."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np

from passerby.types.listed import ListedImages

BLOCK = 1024
"""Images of a block, a multiple of the usual batch, so that batches are those of one process."""


@dataclass(frozen=True, eq=False)
class ImageBlock:
    """Images that one worker embeds at a time.

    Attributes:
        name: of the part, from the number and the content of the block.
        images: the images, in order.

    """

    name: str
    images: ListedImages


@dataclass(frozen=True)
class BlockResult:
    """The end of the work on one block.

    Attributes:
        node: name of the machine.
        notes: sentences for the user.
        fault: the sentence that ends the job; `""` = the part is written.

    """

    node: str
    notes: tuple[str, ...] = ()
    fault: str = ""


class EmbedsBlocks(Protocol):
    """An actor that writes the part of a block."""

    def embed(self, block: ImageBlock) -> BlockResult:
        """Embed the images of a block and write its part; a fault of the user is returned, not raised."""


@dataclass(frozen=True)
class Workers:
    """The workers of a job.

    Attributes:
        make: makes one on its node, from the settings.
        settings: of all.
        folder: where they write the parts, on every node.
        device: `cpu` = one for each core, `cuda` = one for each GPU.

    """

    make: Callable[[Any], EmbedsBlocks]
    settings: object
    folder: Path
    device: Literal["cpu", "cuda"] = "cpu"


def cut_blocks(images: ListedImages, *, size: int = BLOCK) -> list[ImageBlock]:
    """Cut images (N,) into blocks of `size`; equal files at equal places give equal names.

    The content of a file counts by its size and the time of its last change.
    """
    starts = range(0, len(images), size)
    blocks = [images.select(np.arange(start, min(start + size, len(images)))) for start in starts]
    return [ImageBlock(f"part-{number:06d}-{_digest(block)}.parquet", block) for number, block in enumerate(blocks)]


def _digest(images: ListedImages) -> str:
    """Return 16 hex digits of what the rows of a part depend on."""
    digest = hashlib.sha256()
    columns = (images.path, images.pid, images.cam, images.role, images.cam_row)
    for row in zip(*(column.tolist() for column in columns), strict=True):
        digest.update(repr((*row, *_state(row[0]))).encode())
    return digest.hexdigest()[:16]


def _state(path: str) -> tuple[int, int]:
    try:
        status = os.stat(path)  # noqa: PTH116 - one call for each of millions of files
    except (OSError, ValueError):
        return -1, -1
    return status.st_size, status.st_mtime_ns
