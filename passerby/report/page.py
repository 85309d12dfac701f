"""The report: one self-contained HTML file made from a run folder."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Sequence
from functools import cache
from importlib import resources
from pathlib import Path

from jinja2 import Environment, StrictUndefined, Template
from markupsafe import Markup, escape

from passerby import __version__
from passerby.device import AUTOMATIC, InferenceSettings
from passerby.files import atomic_write
from passerby.metrics.chance import RankScores
from passerby.metrics.spread import spread_notes
from passerby.recipe import Recipe
from passerby.recipe.places import public_text, without_folders
from passerby.reference_results import REFERENCE_NOTE
from passerby.report.background_bias import background_bias_rows, background_bias_sentence, triples
from passerby.report.comparison import FIGURES, RunComparison, compare_runs
from passerby.report.curves import cmc_curve, loss_curves, score_curves
from passerby.report.dataset_counts import sources
from passerby.report.diagrams import NARROW, WIDE, draw
from passerby.report.explanations import MEASURES, cameras_rule, hardly_learnt, headline, input_mask_rule, progress
from passerby.report.feature_section import attended_lists, feature_plates, scale_uri
from passerby.report.figure_files import PageFigure, page_figure
from passerby.report.folder import DatasetResult, RunFolder, ScoreRow, read_run
from passerby.report.joint_sampling import shares
from passerby.report.lifelong import LifelongSection, keep_intransigence, lifelong_section
from passerby.report.list_section import ListGallery, gallery_of
from passerby.report.open_set import open_set_curve
from passerby.report.palette import data_uri
from passerby.report.predicted_identities import IdentitiesSection, identities_section
from passerby.report.ranked_lists import describe_list
from passerby.report.schedule import rate_curve

_LISTS = 10  # of each kind on one page, shared by the data sets: it stays below about 2.5 MB

_ALTERNATIVES = {
    "query": "Searched for",
    "same": "Same person",
    "other": "Other person",
    "own": "Same person, left out by the protocol",
}


def write_report(
    folder: Path,
    *,
    against: Path | None = None,
    experts: Sequence[Path] = (),
    inference: InferenceSettings = AUTOMATIC,
) -> Path:
    """Write `report.html` into a run folder and return where it is.

    The file is self-contained: figures are inside, and nothing is fetched. The report of an unfinished run covers its
    present state; missing images are named in a note.

    Args:
        folder: of the run.
        against: another run for comparison; for a run of several stages, one over the same stages.
        experts: runs on one data set each, for the intransigence, which is also written to the run's
            `continual_metrics.json`.
        inference: settings of activation maps; images are ranked on the same device.

    Raises:
        UserError: not a run folder, a damaged file, or runs that cannot be compared.

    """
    run = read_run(folder)
    memory = lifelong_section(run, against=against, experts=experts)
    comparison = None if against is None or memory is not None else compare_runs([folder, against])
    page = render(run, memory, comparison=comparison, inference=inference)
    path = folder / "report.html"
    with atomic_write(path) as file:
        file.write(page.encode(errors="backslashreplace"))  # half a surrogate pair has no bytes
    if experts:
        keep_intransigence(run, experts)
    return path


def render(
    run: RunFolder,
    memory: LifelongSection | None = None,
    *,
    comparison: RunComparison | None = None,
    inference: InferenceSettings = AUTOMATIC,
) -> str:
    """Return the page of a run as HTML.

    Args:
        run: the run.
        memory: the lifelong results of a run of several stages.
        comparison: the run beside another one.
        inference: how its network runs; images are ranked on the same device.

    """
    count, device = max(1, min(3, _LISTS // max(len(run.results), 1))), str(inference.torch_device())
    galleries = [gallery_of(run, result, count=count, device=device) for result in run.results]
    attended, unattended = attended_lists(run, galleries, inference=inference)
    people = identities_section(run)
    name = run.path.resolve().name
    return _template().render(
        title=name,
        version=__version__,
        run=run,
        recipe=run.recipe,
        headlines=_headlines(run, people),
        warnings=list(_warnings(run, galleries)),
        people=people,
        progress=progress(run),
        measures=MEASURES,
        reference_note=REFERENCE_NOTE,
        memory=memory,
        comparison=comparison,
        compared=FIGURES,
        cards=_cards,
        rows=_rows,
        describe=describe_list,
        cameras_rule=cameras_rule,
        galleries=galleries,
        input_mask_rule=input_mask_rule,
        background_bias_rows=background_bias_rows,
        det_curves=_det_curves(run),
        background_bias_sentence=background_bias_sentence,
        triples=triples,
        plates=feature_plates(galleries, device=device),
        attended=attended,
        unattended=unattended,
        scale=scale_uri(),
        alternatives=_ALTERNATIVES,
        curves=_curves(run, galleries),
        shares=shares(run.epochs, batch_sizes=[stage.data.sampler.batch_size for stage in run.recipe.stages]),
        sampling=_sampling(run.recipe),
        drawings={name: _drawing(run, width) for name, width in (("wide", WIDE), ("narrow", NARROW))},
        sources=sources(run.recipe),
        recipe_text=public_text(run.recipe),
        again=f"passerby train {shlex.quote(f'{name}/recipe.yaml')} --out {shlex.quote(f'{name}-again')}",
    )


def _det_curves(run: RunFolder) -> dict[str, PageFigure]:
    """Return the curve of misses over false alarms of each data set with open-set scores."""
    curves = {}
    for result in run.results:
        if result.open_set is not None:
            rates = "; ".join(f"{row[2]:.1f} % found at {row[0]:g} % false alarms" for row in result.open_set.rows)
            alternative = f"Misses over false alarms on {result.name}: {rates or 'no rate is supported'}."
            caption = "Misses over false alarms as the threshold grows; marked: the rates of the table"
            curves[result.name] = page_figure(open_set_curve(result.open_set), alternative, caption)
    return curves


def _sampling(recipe: Recipe) -> str:
    """Return how the first joint stage draws its data sets, in words."""
    return next((stage.data.sampler.sharing for stage in recipe.stages if len(stage.shown) > 1), "")


def _headlines(run: RunFolder, people: IdentitiesSection | None) -> list[str]:
    """Return the headline sentences: scores or, without an evaluation, the predicted identities."""
    if run.results or run.recipe.tested or people is None or not (run.path / "embedder.safetensors").is_file():
        return [headline(result, count_datasets=len(run.results)) for result in run.results]
    return [f"{people.sentences[0]}."]


def _warnings(run: RunFolder, galleries: Sequence[ListGallery]) -> Iterator[str]:
    """Yield sentences on scores near chance, collapsed vectors and a damaged log."""
    for gallery in galleries:
        result = gallery.result
        measured = RankScores(result.plain.mAP / 100, result.plain.rank[1] / 100)
        if result.chance is not None and (text := hardly_learnt(measured, result.chance)) is not None:
            yield f"{result.name}: {text}."
        if gallery.embeddings is not None:
            yield from (f"{result.name}: {note}." for note in spread_notes(gallery.embeddings.vectors))
    if run.count_damaged:
        lines = "1 line" if run.count_damaged == 1 else f"{run.count_damaged:,} lines"
        yield f"{lines} of log.jsonl cannot be read and {'is' if run.count_damaged == 1 else 'are'} left out below."


def _curves(run: RunFolder, galleries: list[ListGallery]) -> list[PageFigure]:
    figures = []
    if run.epochs:
        last = ", ".join(f"{name} {term.value:.3g}" for name, term in run.epochs[-1].terms.items())
        alt = f"Loss terms over the epochs; at the end {last}."
        caption = "Loss curves, each on its own scale"
        figures.append(page_figure(loss_curves(run.records), alt, caption))
    if run.scores:
        final = {s.dataset: f"{s.dataset} rank-1 {100 * s.rank1:.1f} %, mAP {100 * s.mAP:.1f} %" for s in run.scores}
        alt = f"Scores over the epochs; at the end {'; '.join(final.values())}."
        caption = "Scores on the test images, without re-ranking"
        figures.append(page_figure(score_curves(run.records), alt, caption))
    alt = "Learning rate over the epochs of all stages."
    figures.append(page_figure(rate_curve(run.recipe), alt, "Learning rate"))
    for gallery in galleries:
        if gallery.plain is None:
            continue
        on = f" on {gallery.result.name}" if len(galleries) > 1 else ""
        alt = "; ".join(f"rank-{k} {value:.1f} %" for k, value in gallery.result.plain.rank.items())
        caption = f"CMC curve{on}: queries with a correct image among the first k"
        figures.append(page_figure(cmc_curve(gallery.plain, gallery.reranked), f"CMC curve{on}: {alt}.", caption))
    return figures


def _drawing(run: RunFolder, width: float) -> str:
    return data_uri(draw(run.recipe, width=width).encode(), kind="svg+xml")


def _cards(result: DatasetResult) -> list[tuple[str, float, float | None]]:
    """Return (measure, plain, re-ranked) of the three figures that are shown large."""
    reranked = result.reranked
    return [
        ("mAP", result.plain.mAP, None if reranked is None else reranked.mAP),
        ("rank-1", result.plain.rank[1], None if reranked is None else reranked.rank[1]),
        ("mINP", result.plain.mINP, None if reranked is None else reranked.mINP),
    ]


def _rows(result: DatasetResult) -> list[tuple[str, ScoreRow]]:
    rows = [("plain", result.plain)]
    return rows if result.reranked is None else [*rows, ("re-ranked", result.reranked)]


@cache
def _template() -> Template:
    source = resources.files("passerby.report").joinpath("report.html.j2").read_text(encoding="utf-8")
    environment = Environment(autoescape=True, undefined=StrictUndefined)
    environment.filters |= {"without_folders": without_folders, "prose": prose}
    environment.globals["contents"] = contents
    return environment.from_string(source)


def prose(text: str) -> Markup:
    """Return a sentence as HTML: without the folders of this machine, and with `code` where it has backticks.

    >>> str(prose("<b> & `passerby report /home/ann/run`"))
    '&lt;b&gt; &amp; <code>passerby report …/run</code>'
    """
    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(without_folders(text)))))


def contents(main: str) -> list[tuple[str, str]]:
    """Return the id and the heading of every section of the page."""
    return re.findall(r'<section id="([^"]+)">\s*<h2>(.*?)</h2>', main)
