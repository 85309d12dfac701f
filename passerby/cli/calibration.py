"""`passerby calibrate`: the distance up to which two images show the same person."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from passerby.cli.options import (
    CameraNormRule,
    DataFolder,
    InputText,
    JsonFile,
    PatternText,
    make_console,
    runs_a_model,
)
from passerby.device import InferenceSettings
from passerby.errors import UserError
from passerby.files import write_json

calibration_app = typer.Typer()


@calibration_app.command()
@runs_a_model
def calibrate(
    run: Annotated[
        Path | None,
        typer.Argument(
            help="a run folder, a model file of passerby, or an .onnx or .xml of any program", show_default=False
        ),
    ] = None,
    on: Annotated[
        str | None, typer.Option(help="name of a labelled data set in the recipe, or a kind", show_default=False)
    ] = None,
    data: DataFolder = None,
    embeddings: Annotated[
        Path | None, typer.Option(help="a labelled .npz file of embeddings instead of images", show_default=False)
    ] = None,
    pattern: PatternText = None,
    rate: Annotated[
        list[float] | None,
        typer.Option(help="false accept rate, several times; default: 0.01 0.001 0.0001", show_default=False),
    ] = None,
    camera_norm: CameraNormRule = "none",
    json_file: JsonFile = None,
    input_text: InputText = None,
    *,
    inference: InferenceSettings,
) -> None:
    """Find the distances at false accept rates on labelled images, and store them in the file of the model.

    With --embeddings and a model, the thresholds of these vectors are stored there; without, they are printed only.
    """
    from passerby.commands.calibrating import calibrate_model, calibrate_vectors, print_calibration
    from passerby.commands.embedding import open_model
    from passerby.metrics.calibration import RATES
    from passerby.thresholds import write_calibration

    if run is None and embeddings is None:
        raise UserError("give a model, or --embeddings FILE.npz")
    if embeddings is not None and (on or data or pattern):
        raise UserError("--on, --data and --pattern name images, and --embeddings holds vectors already; give one")
    rates = tuple(sorted(rate or RATES, reverse=True))
    if not all(0 < each < 1 for each in rates):
        raise UserError(f"a false accept rate lies between 0 and 1, got {', '.join(f'{each:g}' for each in rates)}")
    console = make_console()
    if embeddings is not None:
        calibration = calibrate_vectors(embeddings, camera_norm=camera_norm, rates=rates)
    else:
        assert run is not None
        model = open_model(run, input_text or [], console, inference=inference)
        calibration = calibrate_model(
            model, on=on, data=data, pattern=pattern, camera_norm=camera_norm, rates=rates, console=console
        )
    print_calibration(calibration, console)
    if run is not None:
        typer.echo(f"stored in {write_calibration(run, calibration)}")
    if json_file is not None:
        write_json(json_file, calibration.model_dump(mode="json"))
