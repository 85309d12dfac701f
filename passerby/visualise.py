"""`passerby visualise`: each command makes one picture, whose kind the ending of the file says (.png, .svg, .pdf).

Nothing heavy is imported up here, as in `cli`, which turns mistakes into sentences.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from passerby.errors import UserError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from passerby.report.pictures import Subject

visualise_app = typer.Typer(no_args_is_help=True, help="Draw what a model has learnt, and how.")

RunFolder = Annotated[Path | None, typer.Argument(help="a run folder", show_default=False)]
OnName = Annotated[str | None, typer.Option(help="a data set the run was tested on", show_default=False)]
EmbeddingsFile = Annotated[Path | None, typer.Option(help="an .npz instead of a run", show_default=False)]
OutFile = Annotated[Path, typer.Option("--out", "-o", help="the .png, .svg or .pdf to write", show_default=False)]
KindOfQuery = Literal["best", "worst", "random", "all"]
Queries = Annotated[KindOfQuery, typer.Option(help="which queries, by average precision")]


@visualise_app.command()
def ranks(
    out: OutFile,
    run: RunFolder = None,
    embeddings: EmbeddingsFile = None,
    on: OnName = None,
    queries: Queries = "all",
    count: Annotated[int, typer.Option(min=1, help="queries of each kind")] = 1,
    k: Annotated[int, typer.Option("--k", min=1, help="images of each list")] = 8,
    rerank: Annotated[bool, typer.Option("--rerank", help="the same lists with re-ranking, below")] = False,
    own_camera: Annotated[bool, typer.Option("--own-camera", help="show what the camera rule leaves out")] = False,
) -> None:
    """Draw ranked lists: what is found, what is right, what is wrong."""
    from passerby.report.frames import ranks_figure

    subject = _subjects(out, run, embeddings, on)[0]
    figure = ranks_figure(
        subject.embeddings,
        kinds=("best", "worst", "random") if queries == "all" else (queries,),
        count=count,
        k=k,
        cameras=subject.cameras,
        distance=subject.distance,
        rerank=subject.rerank if rerank else None,
        left_out="show" if own_camera else "hide",
    )
    _save(figure, out)


def _subjects(out: Path, run: Path | None, embeddings: Path | None, on: str | None) -> list[Subject]:
    """Read what is to be drawn, after a look at the ending, so that a mistake there costs no time."""
    from passerby.report.pictures import require_ending, subject_of_file, subjects_of_run

    require_ending(out)
    if (run is None) == (embeddings is None):
        raise UserError("give either a run folder or --embeddings FILE.npz")
    if run is not None:
        return subjects_of_run(run, on=on)
    assert embeddings is not None
    if on is not None:
        raise UserError("--on chooses a data set of a run; an --embeddings file holds one only")
    return [subject_of_file(embeddings)]


def _save(figure: Figure, out: Path) -> None:
    from passerby.report.pictures import save_figure

    save_figure(figure, out)
    typer.echo(out)
