"""Tables of scores and of reference results on the console."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from passerby.background_bias import BackgroundBias
from passerby.metrics.chance import RankScores
from passerby.metrics.open_set import OpenSetScores
from passerby.reference_results import REFERENCE_NOTE, compare
from passerby.report.background_bias import background_bias_rows, background_bias_sentence
from passerby.report.explanations import hardly_learnt
from passerby.training.reference import figures
from passerby.training.results import Result
from passerby.types import CameraRerank, Scores


def print_scores(results: Sequence[Result], console: Console) -> None:
    """Print a table of scores, plain and re-ranked."""
    table = Table("data set", "ranking", "mAP", "rank-1", "rank-5", "rank-10", "mINP", "queries")
    for result in results:
        table.add_row(result.dataset, "plain", *_figures(result.plain))
        if result.reranked is not None:
            table.add_row("", "re-ranked", *_figures(result.reranked))
        chance = (f"{100 * share:.1f}" for share in (result.plain.chance_mAP, result.plain.chance_rank1))
        table.add_row("", "chance", *chance)
    console.print(table)
    for result in results:
        if (text := hardly_learnt(*_rank_scores(result.plain))) is not None:
            console.print(f"{result.dataset}: {text}", style="yellow", highlight=False, markup=False)
    for result in results:
        if result.plain.protocol.camera_norm != "none":
            console.print(
                f"{result.dataset}: camera norm {result.plain.protocol.camera_norm}, by the statistics of query and "
                "gallery; these scores do not compare with scores without",
                highlight=False,
                markup=False,
            )
        if result.plain.protocol.unit == "tracklet":
            console.print(f"{result.dataset}: tracklets are compared, by the mean of their images' vectors")
        if draws := result.plain.protocol.gallery_draws:
            console.print(
                f"{result.dataset}: means over {draws} drawn galleries of one row of each identity", highlight=False
            )
        if result.reranked is not None and isinstance(result.reranked.protocol.rerank, CameraRerank):
            console.print(
                f"{result.dataset}: re-ranking {result.reranked.protocol.rerank}", highlight=False, markup=False
            )
        if (clothes := result.plain.protocol.clothes) != "general":
            worn = "other clothes than the query's" if clothes == "changing" else "the query's clothes"
            console.print(
                f"{result.dataset}: clothes {clothes}: people are looked for in {worn} only",
                highlight=False,
                markup=False,
            )
        if result.open_set is not None:
            _print_open_set(result.dataset, result.open_set, console)
        if result.background_bias is not None:
            _print_background_bias(result.dataset, result.background_bias, console)


def _rank_scores(scores: Scores) -> tuple[RankScores, RankScores]:
    """Return mAP and rank-1 as measured and by chance."""
    return RankScores(scores.mAP, scores.rank(1)), RankScores(scores.chance_mAP, scores.chance_rank1)


def _print_open_set(name: str, scores: OpenSetScores, console: Console) -> None:
    probes = scores.probes
    kinds = {
        "absent": "whose identity the gallery does not hold",
        "left_out": "the same queries with their identity left out of the gallery",
    }
    console.print(
        f"open set of {name}: {len(probes.mated):,} queries with their identity among {probes.count_enrolled:,} in the "
        f"gallery; {len(probes.non_mated):,} others, {kinds[probes.kind]}",
        highlight=False,
        markup=False,
    )
    table = Table("false alarms allowed", "threshold", "found at rank 1 (DIR)", "95 % interval (by identity)")
    for row in scores.rows:
        interval = f"{100 * row.low:.1f} to {100 * row.high:.1f} %"
        table.add_row(f"{100 * row.target:g} %", f"{row.threshold:.4f}", f"{100 * row.dir1:.1f} %", interval)
    console.print(table)
    for target in scores.unresolved:
        console.print(
            f"{100 * target:g} % false alarms need {1 / target:,.0f} queries of people outside the gallery, there are "
            f"{len(probes.non_mated):,}",
            highlight=False,
        )


def _print_background_bias(name: str, bias: BackgroundBias, console: Console) -> None:
    table = Table(f"{name} is shown", "mAP", "rank-1")
    for title, row in background_bias_rows(bias):
        table.add_row(title, f"{100 * row.mAP:.1f}", f"{100 * row.rank1:.1f}")
    console.print(table)
    console.print(background_bias_sentence(bias), highlight=False)


def print_reference_results(results: Sequence[Result], console: Console) -> None:
    """Print measured and reference results, and reservations about comparing them."""
    table = Table("data set", "figure", "reference", "measured", "difference", title="Reference and measured results")
    caveats: dict[str, None] = {}
    for result in results:
        if (reference := result.reference) is None:
            continue
        reranked = None if result.reranked is None else figures(result.reranked)
        measured = figures(result.plain)
        for row in compare(reference.result, measured, reranked, forgetting=result.forgetting, losses=result.losses):
            place = result.dataset if row.figure == "mAP" else ""
            table.add_row(place, row.figure, *row.texts)
        caveats |= dict.fromkeys(reference.caveats)
    if table.row_count:
        console.print(table)
        console.print(REFERENCE_NOTE, *caveats, sep="\n", highlight=False)


def _figures(scores: Scores) -> list[str]:
    shares = (scores.mAP, scores.rank(1), scores.rank(5), scores.rank(10), scores.mINP)
    return [*(f"{100 * share:.1f}" for share in shares), str(int(scores.valid.sum()))]
