"""`passerby data`: list, describe, check and generate data sets."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

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
    site: Annotated[str, typer.Option(help="generated site: plaza, campus or station")] = "plaza",
    seed: Annotated[int, typer.Option(help="random seed of identities and cameras")] = 0,
    train_people: Annotated[int, typer.Option(help="training identities")] = 80,
    test_people: Annotated[int, typer.Option(help="test identities")] = 50,
    images: Annotated[int, typer.Option(help="images of each identity, on average")] = 12,
) -> None:
    """Generate a synthetic data set of people, with masks, in the layout of a public data set."""
    from passerby.console import bar
    from passerby.data.synthetic.layout import SiteSize
    from passerby.data.synthetic.site import make_site

    with bar("drawing people", make_console()) as progress:
        root = make_site(folder, site, seed=seed, size=SiteSize(train_people, test_people, images), progress=progress)
    typer.echo(root)
