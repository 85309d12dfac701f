"""`passerby data`: list, describe, check and generate data sets."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from passerby.cli.options import CamerasRule, Folder, KindName, MasksFolder, PatternText, make_console

data_app = typer.Typer(no_args_is_help=True, help="List, describe, check and generate data sets.")


@data_app.command("list")
def data_list() -> None:
    """List the kinds of data sets that can be read."""
    from passerby.data.datasets import READERS
    from passerby.plugins import load_plugins

    load_plugins()
    for kind, reader in READERS.items():
        typer.echo(f"{kind:12} {reader.summary}")


@data_app.command("check")
def data_check(
    folder: Folder,
    kind: KindName = "auto",
    cameras: Annotated[CamerasRule, typer.Option(help="ignore: same-camera matches count")] = "standard",
    masks: MasksFolder = None,
    pattern: PatternText = None,
) -> None:
    """Check a data set for broken files, leaks and unscorable queries; list its uses (exit code 1: problems)."""
    from passerby.data.check import check_dataset, render_check
    from passerby.data.datasets import dataset_settings, open_dataset

    dataset = open_dataset(dataset_settings(kind, folder, masks=masks, pattern=pattern))
    check = check_dataset(dataset, cameras=cameras)
    typer.echo(render_check(check))
    raise typer.Exit(1 if check.problems else 0)


@data_app.command("describe")
def data_describe(
    folder: Folder, kind: KindName = "auto", masks: MasksFolder = None, pattern: PatternText = None
) -> None:
    """Print the counts of images, identities and cameras of a data set."""
    from passerby.data.check import describe_dataset
    from passerby.data.datasets import dataset_settings, open_dataset

    typer.echo(describe_dataset(open_dataset(dataset_settings(kind, folder, masks=masks, pattern=pattern))))


@data_app.command("make")
def data_make(
    folder: Annotated[Path, typer.Argument(help="output folder", show_default=False)],
    kind: Annotated[Literal["images", "video"], typer.Option(help="crops of people, or clips of cameras")] = "images",
    site: Annotated[str, typer.Option(help="generated site: plaza, campus or station")] = "plaza",
    seed: Annotated[int, typer.Option(help="random seed of identities and cameras")] = 0,
    train_people: Annotated[int | None, typer.Option(help="images: training identities (80)")] = None,
    test_people: Annotated[int | None, typer.Option(help="images: test identities (50)")] = None,
    images: Annotated[int | None, typer.Option(help="images: of each identity, on average (12)")] = None,
    people: Annotated[int | None, typer.Option(help="video: identities (40)")] = None,
    cameras: Annotated[int | None, typer.Option(help="video: cameras, whose views do not overlap (3)")] = None,
    seconds: Annotated[float | None, typer.Option(help="video: length of each clip (75)")] = None,
    frames: Annotated[
        Literal["images", "video"] | None, typer.Option(help="video: JPEG files (images) or a video file (video)")
    ] = None,
) -> None:
    """Generate synthetic people: images in the layout of a public data set, or clips of several cameras."""
    from passerby.commands.generating import ClipOptions, ImageOptions, generate

    of_images, of_clips = ImageOptions(train_people, test_people, images), ClipOptions(people, cameras, seconds, frames)
    typer.echo(generate(folder, kind, site, seed, of_images, of_clips, console=make_console()))
