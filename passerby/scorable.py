"""Check that a test can be scored, from labels and cameras alone, before embedding or training."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from passerby.distances.cameras import lack_of_cameras
from passerby.errors import UserError
from passerby.evaluation import MULTI_NEEDS_CAMERAS, explain_skipped
from passerby.inference.tested import label_vectors, tested_paths
from passerby.types import AnyRerank, CameraRerank, Cameras, Dataset, EvaluationRules, camera_rule


def unscorable(dataset: Dataset, rules: EvaluationRules) -> str:
    """Return why no query of a data set has a match that it may find, or `""` where one has.

    Args:
        dataset: the data set, with query and gallery images.
        rules: of the test; those of cameras, queries and clothes count.

    """
    table = label_vectors(np.zeros((len(tested_paths(dataset)), 1), np.float32), dataset, feature="after_neck")
    try:
        skipped = explain_skipped(table, cameras=rules.cameras, clothes=rules.clothes)
    except UserError as error:  # nobody in the query or in the gallery is known, or no clothes
        return str(error)
    if skipped.count == skipped.count_query:
        return f"no query can be scored: {skipped}"
    if rules.queries == "multi" and skipped.cameras == "ignore":
        return f"no test image has a known camera; {MULTI_NEEDS_CAMERAS}"
    return ""


def require_scorable(dataset: Dataset, rules: EvaluationRules, *, ignore: str = "", without: str = "") -> None:
    """Raise `UserError` unless a data set can be scored; see also `unscorable`.

    Args:
        dataset: the data set.
        rules: of the test; those of cameras, queries and clothes count.
        ignore: how `cameras: ignore` is asked for, to be named where it helps.
        without: how to go on without a test.

    """
    reason = unscorable(dataset, rules)
    if not reason:
        return
    helps = (
        ignore
        and (rules.cameras, rules.queries, rules.clothes) == ("standard", "single", "general")
        and not unscorable(dataset, replace(rules, cameras="ignore"))
    )
    ways = [f"{ignore} to count matches from the query's own camera"] if helps else []
    ways += [without] if without else []
    raise UserError(f"{dataset.name}: {reason}{'; add ' * bool(ways)}{', or '.join(ways)}")


def require_rerankable(dataset: Dataset, rerank: AnyRerank) -> None:
    """Raise `UserError` where re-ranking needs cameras that the test images of a data set do not have."""
    lack = lack_of_cameras(np.concatenate([dataset.query.cam, dataset.gallery.cam]))
    if isinstance(rerank, CameraRerank) and lack:
        raise UserError(
            f"{dataset.name}: re-ranking by ca_jaccard needs two cameras, and {lack}; re-rank by jaccard "
            "(test.rerank.distance), or not at all"
        )


def camera_note(dataset: Dataset, cameras: Cameras) -> str:
    """Return the sentence that no camera of a test is known, so that the rule has nothing to leave out; or `""`."""
    if camera_rule(dataset.query, dataset.gallery, cameras) == cameras:
        return ""
    return (
        f"{dataset.name}: no test image has a known camera, so matches from the query's own camera count too "
        "(test.cameras: ignore)"
    )
