"""Explanations of the measures in plain words, for readers new to re-identification."""

from __future__ import annotations

from passerby.console import duration
from passerby.metrics.chance import RankScores
from passerby.report.folder import DatasetResult, RunFolder
from passerby.types import InputMask

MEASURES = {
    "rank-1": (
        "For how many queries the first image found shows the right person. Rank-5 and rank-10: the right person is "
        "among the first five, or ten."
    ),
    "mAP": (
        "Mean average precision. Walk down a list and note, at every right image, the share of right ones so far; the "
        "mean of these is the list's average precision (AP), and mAP is the mean over all queries. It is 100 % only "
        "when every right image comes before every wrong one."
    ),
    "mINP": (
        "Mean inverse negative penalty. How far down the hardest right image lies: with 4 right images of which the "
        "last is at rank 8, a list has 4 / 8 = 50 %. It says how much one must look through to find them all."
    ),
    "re-ranking": (
        "After the search, images are moved up when they and the query are among each other's nearest neighbours. It "
        "needs the whole set of queries and gallery at once, so compare re-ranked scores with re-ranked scores only."
    ),
}
"""Every measure of the score table, explained without formulas."""


def of_hundred(percent: float) -> str:
    """Return a rate as a count of 100, never rounded up to all nor down to none.

    >>> of_hundred(81.3), of_hundred(99.8), of_hundred(0.2)
    ('81 of 100', 'more than 99 of 100', 'fewer than 1 of 100')
    """
    if 99.5 <= percent < 100:
        return "more than 99 of 100"
    if 0 < percent < 0.5:
        return "fewer than 1 of 100"
    return f"{percent:.0f} of 100"


def headline(result: DatasetResult, *, count_datasets: int) -> str:
    """Return the result on one data set as a sentence."""
    on = f"On {result.name}, for" if count_datasets > 1 else "For"
    text = f"{on} {of_hundred(result.plain.rank[1])} queries the first image found shows the same person"
    if result.chance is not None:
        text = f"{text} (a random order: {of_hundred(100 * result.chance.rank1)})"
    if result.reranked is None:
        return f"{text}."
    return f"{text}; with re-ranking, for {of_hundred(result.reranked.rank[1])}."


def hardly_learnt(scores: RankScores, chance: RankScores) -> str | None:
    """Return a warning where scores are hardly above those of a random order, else None."""
    if not scores.hardly_above(chance):
        return None
    return (
        f"mAP {100 * scores.mAP:.1f} % is hardly above that of a random order ({100 * chance.mAP:.1f} %): the model "
        "hardly separates these identities"
    )


def progress(run: RunFolder) -> str:
    """Return the progress of a run, as a sentence."""
    epochs = run.epochs
    planned = sum(stage.epochs for stage in run.recipe.stages)
    if not epochs:
        return "No epoch is finished yet."
    seconds = sum(record.seconds for record in epochs)
    images = sum(record.images_per_second * record.seconds for record in epochs) / max(seconds, 1e-9)
    waiting = 1 - sum(record.busy * record.seconds for record in epochs) / max(seconds, 1e-9)
    stages = f" in {len(run.recipe.stages)} stages" if len(run.recipe.stages) > 1 else ""
    finished = len(epochs)
    of = "" if finished == planned else f" of {planned}"
    return (
        f"Trained for {finished}{of} {'epoch' if planned == 1 else 'epochs'}{stages} in {duration(seconds)}, "
        f"{images:,.0f} images per second, {100 * waiting:.0f} % of the time waiting for images."
    )


def cameras_rule(rule: str) -> str:
    """Return the description of a camera rule."""
    if rule == "standard":
        return "standard: images of the same person from the query's own camera are left out"
    return "ignore: cameras play no part; only the query's own file is left out"


def input_mask_rule(input_mask: InputMask) -> str:
    """Return the description of the input mask of test images."""
    words: dict[InputMask, str] = {
        "none": "whole images",
        "foreground": "people without background",
        "background": "backgrounds without people",
        "weighted": "whole images, pooled by the mask of the person",
    }
    return words[input_mask]
