"""`passerby tracklets`: the tracks of a video as tracklets."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from passerby.cli.options import InputText, make_console, runs_a_model
from passerby.device import InferenceSettings

tracking_app = typer.Typer()


@tracking_app.command()
@runs_a_model
def tracklets(
    source: Annotated[
        Path,
        typer.Argument(
            help="a MOT folder, a file of tracks beside its frames, a folder of these for several cameras, or of crops",
            show_default=False,
        ),
    ],
    run: Annotated[
        Path,
        typer.Option(help="a run folder, its embedder.safetensors, or an .onnx of any program", show_default=False),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="the folder to write", show_default=False)],
    camera: Annotated[
        str | None,
        typer.Option(
            help="name of the camera; several, and crops in the layout of MARS, have their own", show_default=False
        ),
    ] = None,
    start: Annotated[
        str | None,
        typer.Option(help="time at which the clip begins: seconds, HH:MM:SS or a date and time", show_default=False),
    ] = None,
    frames: Annotated[
        Path | None,
        typer.Option(help="folder of images, or video file; default: beside the tracks", show_default=False),
    ] = None,
    fps: Annotated[
        float | None, typer.Option(help="frames per second; default: those of the source", show_default=False)
    ] = None,
    dataset: Annotated[str, typer.Option(help="name of the site", show_default=False)] = "",
    true_ids: Annotated[
        bool, typer.Option("--true-ids", help="the ids are true identities, the same at every camera")
    ] = False,
    least_crops: Annotated[int, typer.Option(min=1, help="crops of a tracklet, at least")] = 3,
    most_crops: Annotated[int, typer.Option(min=1, help="crops of a tracklet, at most")] = 8,
    max_gap: Annotated[
        float, typer.Option(help="seconds without a box after which the same id begins a new tracklet")
    ] = 2.0,
    least_boxes: Annotated[int, typer.Option(min=1, help="tracks with fewer boxes are left out")] = 1,
    input_text: InputText = None,
    *,
    inference: InferenceSettings,
) -> None:
    """Write the tracklets of a video: best crops, one vector each, and times; a killed run continues."""
    from passerby.commands.tracklets import TrackletsRequest, make_all_tracklets
    from passerby.tracking import TrackletSettings
    from passerby.types import TRACKLETS_FILE

    settings = TrackletSettings(least_crops, most_crops, max_gap, least_boxes)
    request = TrackletsRequest(
        source, camera, out, run, frames, start, fps, dataset, true_ids, settings, tuple(input_text or ())
    )
    for folder, table in make_all_tracklets(request, inference=inference, console=make_console()):
        typer.echo(f"{folder / TRACKLETS_FILE}: {len(table):,} tracklets with {len(table.crop_vectors):,} crops")
