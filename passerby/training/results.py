"""The result of a run on each data set, and its entry in scores.json."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from passerby.background_bias import BackgroundBias
from passerby.evaluation import open_set_json, scores_json
from passerby.metrics.open_set import OpenSetScores
from passerby.reference_results import Reference
from passerby.types import Scores


@dataclass(frozen=True, eq=False)
class Result:
    """Result of a finished run on one data set.

    Attributes:
        dataset: its name.
        plain, reranked: the scores; `reranked` is None when the recipe switches re-ranking off.
        reference: the reference results of the recipe there; None without any.
        background_bias: None when it is switched off, or when not all test images have a mask.
        forgetting: change of the mAP since the set was learnt, in points, negative = lost; None when nothing was learnt
            after it.
        losses: of the autoencoder that it left, by name; None when it left none.
        open_set: the identification with unknown people; None when it was not asked for.

    """

    dataset: str
    plain: Scores
    reranked: Scores | None
    reference: Reference | None = None
    background_bias: BackgroundBias | None = None
    forgetting: float | None = None
    losses: Mapping[str, float] | None = None
    open_set: OpenSetScores | None = None


def result_json(result: Result, *, trained: Mapping[str, str]) -> dict[str, object]:
    """Return the entry of one data set in scores.json; `trained` is the vector that each loss of the last stage saw."""
    entry: dict[str, object] = {"plain": scores_json(result.plain)}
    if result.reranked is not None:
        entry["reranked"] = scores_json(result.reranked)
    if result.reference is not None:
        entry["reference"] = result.reference.model_dump(mode="json")
    if result.background_bias is not None:
        entry["background_bias"] = result.background_bias.to_json()
    if result.forgetting is not None:
        entry["forgetting"] = result.forgetting
    if result.losses is not None:
        entry["losses"] = dict(result.losses)
    if result.open_set is not None:
        entry["open_set"] = open_set_json(result.open_set)
    return {**entry, "trained": dict(trained)}
