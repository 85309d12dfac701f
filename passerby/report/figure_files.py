"""Input and output of figures: embeddings of a run or of any program, and figure files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from matplotlib.figure import Figure

from passerby.device import AUTOMATIC, InferenceSettings
from passerby.distances.pairwise import Metric
from passerby.errors import UserError, did_you_mean
from passerby.files import atomic_write
from passerby.metrics.pooling import average_queries
from passerby.report.folder import RunFolder, read_run
from passerby.report.palette import data_uri, style, svg_text
from passerby.types import AnyRerank, Cameras, Embeddings, Rerank

ENDINGS = (".png", ".svg", ".pdf")
_DOTS = 200  # per inch, for PNG: sharp in print


@dataclass(frozen=True)
class PageFigure:
    """A figure on the page: its address, alternative text and caption."""

    source: str
    alternative: str
    caption: str


def page_figure(figure: Figure, alternative: str, caption: str) -> PageFigure:
    """Return a figure with its image inside the page."""
    return PageFigure(data_uri(svg_text(figure).encode(), kind="svg+xml"), alternative, caption)


@dataclass(frozen=True, eq=False)
class Subject:
    """The embeddings of a data set with the distance, camera rule and re-ranking of its recipe.

    Attributes:
        embeddings: query and gallery.
        cameras, distance: as in `evaluate`.
        rerank: the parameters of the recipe, or the usual ones.

    """

    embeddings: Embeddings
    cameras: Cameras
    distance: Metric
    rerank: AnyRerank


def subject_of_file(file: Path) -> Subject:
    """Return the embeddings of an .npz file of any program, with the standard protocol."""
    return Subject(Embeddings.load(file), cameras="standard", distance="cosine", rerank=Rerank())


def subjects_of_run(folder: Path, *, on: str | None = None, inference: InferenceSettings = AUTOMATIC) -> list[Subject]:
    """Return the embeddings of a finished run: every evaluated data set, or the one named `on`.

    A data set whose embeddings are not in the folder is embedded by the final model.

    Args:
        folder: of the run.
        on: name of a data set; None = all.
        inference: how the model is run.

    Raises:
        UserError: no run folder, no such data set, a run that is not finished, or neither embeddings nor images.

    """
    run = read_run(folder)
    names = [result.name for result in run.results]
    if not names:
        why = "was tested on no data set" if not run.recipe.tested else "is not finished; continue it with --resume"
        raise UserError(f"there are no vectors to draw: the run in {folder} {why}")
    if on is not None and on not in names:
        raise UserError(f"--on {on}: {folder} was tested on {', '.join(names)}{did_you_mean(on, names)}")
    return [_subject(run, name, inference) for name in ([on] if on else names)]


def _subject(run: RunFolder, name: str, inference: InferenceSettings) -> Subject:
    test = run.recipe.test
    rerank = test.rerank.parameters if test.rerank else Rerank()
    path = run.embeddings(name)
    table = _embedded(run, name, inference) if path is None else Embeddings.load(path)
    if test.queries == "multi":
        table = average_queries(table, distance=test.distance)
    return Subject(table, test.cameras, test.distance, rerank)


def _embedded(run: RunFolder, name: str, inference: InferenceSettings) -> Embeddings:
    """Embed query and gallery of a data set of a run."""
    from passerby.encoders import embed_dataset, load_trained  # what draws embeddings that are there needs no network

    try:
        return embed_dataset(load_trained(run.path, inference=inference), run.recipe.open_dataset(name))
    except UserError as error:
        raise UserError(
            f"{run.path} holds no embeddings of {name}, and it cannot be embedded again: {error}"
        ) from error


def require_ending(path: Path) -> None:
    """Raise `UserError` unless the file's ending is a supported figure format."""
    if path.suffix.lower() not in ENDINGS:
        hint = did_you_mean(path.suffix.lower(), ENDINGS) if path.suffix else ""
        raise UserError(f"{path}: a figure is written as {', '.join(ENDINGS)}, by the ending of its name{hint}")


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure in the kind that the file's ending names, atomically; the same figure gives the same file.

    Raises:
        UserError: an ending that is not .png, .svg or .pdf, or a place that cannot be written.

    """
    require_ending(path)
    kind = path.suffix.lower()[1:]
    metadata = {"svg": {"Date": None, "Creator": None}, "pdf": {"CreationDate": None}}.get(kind)
    with style(), atomic_write(path) as file:
        figure.savefig(file, format=kind, dpi=_DOTS, metadata=metadata)
