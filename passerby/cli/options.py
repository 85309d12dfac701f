"""What commands share: the options that mean the same in all of them, and the console that they print on."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

if TYPE_CHECKING:
    from rich.console import Console

RunPath = Annotated[Path, typer.Argument(help="a run folder, or its embedder.safetensors", show_default=False)]
ModelPath = Annotated[
    Path, typer.Argument(help="a run folder, its embedder.safetensors, or an .onnx of any program", show_default=False)
]
InputSaid = Annotated[
    list[str] | None,
    typer.Option("--input", help="about an .onnx of another program: size=[256,128], mean=[..], output=NAME"),
]
Overrides = Annotated[list[str] | None, typer.Argument(help="settings to change, key=value", show_default=False)]
RecipeName = Annotated[str, typer.Argument(help="a shipped recipe, a target or a YAML file", show_default=False)]
DataFolder = Annotated[str | None, typer.Option("--data", help="folder of the images", show_default=False)]
MasksFolder = Annotated[str | None, typer.Option("--masks", help="folder of its masks", show_default=False)]
JsonFile = Annotated[Path | None, typer.Option("--json", help="also write the figures there", show_default=False)]
CamerasRule = Literal["standard", "ignore"]
QueriesRule = Literal["single", "multi"]
KindName = Annotated[str, typer.Option("--kind", help="see `passerby data list`")]
Folder = Annotated[str, typer.Argument(help="the folder of images (for csv: the file)", show_default=False)]


def make_console() -> Console:
    """Return the console of this terminal; rich is loaded by then only."""
    from rich.console import Console

    return Console()
