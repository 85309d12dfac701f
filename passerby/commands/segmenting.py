"""Function behind `passerby segment train`."""

from __future__ import annotations

import sys
from pathlib import Path

from rich.console import Console

from passerby.console import bar
from passerby.lock import locked
from passerby.segment.network import Origin, SegmenterSettings, save_segmenter
from passerby.segment.training import open_masked, train_on_masks
from passerby.training.environment import command_line


def train_segmenter(
    folder: str,
    *,
    kind: str,
    masks: str | None,
    pattern: str | None = None,
    out: Path,
    epochs: int,
    seed: int,
    device: str = "auto",
    console: Console,
) -> Origin:
    """Train a segmenter on the masked training images of a folder and write it."""
    dataset = open_masked(folder, kind=kind, masks=masks, pattern=pattern)
    for note in dataset.notes:
        console.print(note, highlight=False)
    with (
        locked(out.parent, file=out.name, command=command_line(sys.argv)),
        bar(f"learning from the masks of {dataset.name}", console) as advance,
    ):
        trained = train_on_masks(
            dataset, SegmenterSettings(), epochs=epochs, seed=seed, device=device, progress=advance
        )
        save_segmenter(trained.segmenter, out, origin=trained.origin)
    return trained.origin
