"""`passerby segment`: make foreground masks."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from passerby.cli.options import (
    Batch,
    Device,
    Folder,
    KindName,
    MasksFolder,
    PatternText,
    file_to_write,
    make_console,
)
from passerby.device import find_device

segment_app = typer.Typer(no_args_is_help=True, help="Make foreground masks.")

SegmenterFile = Annotated[Path, typer.Argument(help="made by `passerby segment train`", show_default=False)]


@segment_app.command("train")
def segment_train(
    folder: Folder,
    out: Annotated[Path, typer.Option(help="the .safetensors to write", callback=file_to_write)] = Path(
        "segmenter.safetensors"
    ),
    masks: MasksFolder = None,
    kind: KindName = "auto",
    pattern: PatternText = None,
    epochs: Annotated[int, typer.Option(min=1, help="training epochs")] = 12,
    seed: Annotated[int, typer.Option(min=0, help="random seed of the split and the training")] = 0,
    device: Device = "auto",
) -> None:
    """Train a small foreground segmenter on the masks of a data set."""
    from passerby.commands.segmenting import train_segmenter

    console = make_console()
    segmenter = train_segmenter(
        folder,
        kind=kind,
        masks=masks,
        pattern=pattern,
        out=out,
        epochs=epochs,
        seed=seed,
        device=device,
        console=console,
    )
    typer.echo(
        f"{out}: learnt from {segmenter.count_images} images; overlap (IoU) {100 * segmenter.overlap:.1f} % on "
        f"{segmenter.count_held_out} {'images of other people' if segmenter.apart_by == 'people' else 'other images'}"
    )


@segment_app.command("apply")
def segment_apply(
    segmenter: SegmenterFile,
    folder: Annotated[str, typer.Argument(help="the folder of images", show_default=False)],
    out: Annotated[Path, typer.Option(help="the folder of masks to write", show_default=False)],
    device: Device = "auto",
    batch: Batch = 64,
) -> None:
    """Predict a foreground mask for every image in a folder."""
    from passerby.console import bar
    from passerby.segment.apply import apply_segmenter
    from passerby.segment.network import load_segmenter

    network, _ = load_segmenter(segmenter)
    with bar("clustering", make_console()) as progress:
        count = apply_segmenter(network.to(find_device(device)), folder, out, batch=batch, progress=progress)
    typer.echo(f"{count} masks in {out}; use them by masks={out}, or --masks {out}")


@segment_app.command("score")
def segment_score(
    segmenter: SegmenterFile,
    folder: Folder,
    masks: MasksFolder = None,
    kind: KindName = "auto",
    pattern: PatternText = None,
    device: Device = "auto",
) -> None:
    """Evaluate a segmenter on the masks of the test images of a folder."""
    from passerby.segment.network import load_segmenter
    from passerby.segment.training import images_to_score, open_masked, score_segmenter

    network, origin = load_segmenter(segmenter)
    split = images_to_score(open_masked(folder, kind=kind, masks=masks, pattern=pattern))
    scores = score_segmenter(network.to(find_device(device)), split)
    typer.echo(
        f"trained on {origin.trained_on}: overlap (IoU) {100 * sum(scores) / len(scores):.1f} % on {len(split)} images"
    )
