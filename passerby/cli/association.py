"""`passerby associate`: one identity per person over several cameras."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from passerby.cli.options import AcceptRate, Device, JsonFile, Threshold, file_to_write
from passerby.device import find_device
from passerby.files import write_json

association_app = typer.Typer()


@association_app.command()
def associate(
    folders: Annotated[
        list[Path], typer.Argument(help="folders of `passerby tracklets`, or one that holds them", show_default=False)
    ],
    out: Annotated[
        Path,
        typer.Option("--out", "-o", help="the .csv of identities to write", callback=file_to_write, show_default=False),
    ],
    topology: Annotated[
        Path | None,
        typer.Option(help="YAML of travel times between cameras; default: learnt where possible", show_default=False),
    ] = None,
    threshold: Threshold = None,
    run: Annotated[Path | None, typer.Option(help="the model of the vectors, for --accept", show_default=False)] = None,
    accept: AcceptRate = None,
    camera_norm: Annotated[
        Literal["none", "centre", "standardise", "auto"],
        typer.Option(help="what is taken out of the vectors of each camera, see `passerby cluster`"),
    ] = "auto",
    report: Annotated[
        Path | None,
        typer.Option(help="also write a page of all people", callback=file_to_write, show_default=False),
    ] = None,
    truth: Annotated[
        Path | None,
        typer.Option(
            help="folder with the ground truth of each camera (CAMERA/gt/gt.txt, ids of people); adds IDF1 and HOTA",
            show_default=False,
        ),
    ] = None,
    device: Device = "auto",
    json_file: JsonFile = None,
) -> None:
    """Give the tracklets of several cameras one identity per person."""
    from passerby.association.associate import associate as associate_tracklets
    from passerby.association.frame_scores import score_frames
    from passerby.commands.associating import (
        association_json,
        choose_association,
        describe_association,
        read_tracklets,
        scores_of,
        with_truth,
        write_identities,
    )

    tracklets = read_tracklets(folders)
    frames = None
    if truth is not None:
        tracklets, frames = with_truth(tracklets, folders, truth)
    settings, notes = choose_association(
        tracklets,
        threshold=threshold,
        camera_norm=camera_norm,
        topology=topology,
        run=run,
        accept=accept,
        device=str(find_device(device)),
    )
    for note in notes:
        typer.echo(note, err=True)
    association = associate_tracklets(tracklets, settings)
    scores = scores_of(association)
    by_frame = None if frames is None else score_frames(frames, association.identity)
    sentences = describe_association(association, scores, by_frame)
    typer.echo("\n".join(sentences))
    write_identities(out, association)
    if json_file is not None:
        write_json(json_file, association_json(association, scores, by_frame))
    if report is not None:
        from passerby.report.identities_page import write_identities_page

        write_identities_page(report, association, scores, sentences)
        typer.echo(report)
