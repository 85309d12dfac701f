"""Command that writes a trained model for other programs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from passerby.cli.options import DataFolder, Device, PatternText, RunPath, file_to_write, make_console
from passerby.errors import UserError

exporting_app = typer.Typer()


@exporting_app.command()
def export(
    run: RunPath,
    to: Annotated[
        Literal["onnx", "safetensors"] | None,
        typer.Option(help="file format; onnx (the default) is verified against PyTorch", show_default=False),
    ] = None,
    consumer: Annotated[
        Literal["boxmot", "ultralytics", "deepstream", "openvino", "onnx", "reid"] | None,
        typer.Option("--for", help="program that loads it; prints the lines of its configuration", show_default=False),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="default: a name for the program or the format, here", show_default=False),
    ] = None,
    feature: Annotated[
        Literal["before_neck", "after_neck"] | None,
        typer.Option(help="exported vector; default: the one evaluated by the recipe"),
    ] = None,
    flip: Annotated[
        Literal["on", "off"] | None,
        typer.Option(help="average with the mirror image; default: off, for onnx as in the recipe", show_default=False),
    ] = None,
    half: Annotated[bool, typer.Option("--half", help="weights and operations in float16")] = False,
    int8: Annotated[bool, typer.Option("--int8", help="operations in whole numbers of 8 bits")] = False,
    calibration_images: Annotated[
        Path | None,
        typer.Option(help="folder of images of your cameras, from which --int8 takes its ranges", show_default=False),
    ] = None,
    square: Annotated[
        bool, typer.Option("--square", help="ultralytics before 8.4: take squares, and resize them inside")
    ] = False,
    batch: Annotated[
        int | None, typer.Option(min=1, max=4096, help="fix the number of images at a time", show_default=False)
    ] = None,
    data: DataFolder = None,
    pattern: PatternText = None,
    device: Device = "auto",
) -> None:
    """Export a trained model as a single file, or for a tracker with --for."""
    from passerby.commands.exporting import export_format, export_program
    from passerby.exporting.consumers import ExportOptions

    if half and int8:
        raise UserError("--half and --int8 are two precisions; give one")
    options = ExportOptions(
        flip=flip,
        precision="half" if half else "int8" if int8 else "float32",
        shape="square" if square else "model",
        batch=batch,
        images=calibration_images,
        feature=feature,
        device=device,
    )
    if consumer is None:
        if data is not None or pattern is not None:
            raise UserError("--data and --pattern belong to --for PROGRAM, whose file they evaluate")
        out = Path(f"embedder.{to or 'onnx'}") if out is None else out
        export_format(run, file_to_write(out) or out, to=to or "onnx", options=options, console=make_console())
        return
    if to == "safetensors":
        raise UserError(f"--to safetensors is the model itself; {consumer} cannot load it, so leave out --to")
    out = out if consumer == "reid" else file_to_write(out)
    export_program(run, out, consumer, options, data=data, pattern=pattern, console=make_console())
