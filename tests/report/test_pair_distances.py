"""Distances within and between people equal a slow loop over all pairs."""

import numpy as np
import pytest

from passerby.errors import UserError
from passerby.evaluation import evaluate
from passerby.metrics.verification import RATES
from passerby.report.pair_distances import FPR, count_pairs, distances_figure


def slow_pairs(table, *, cameras, metric):
    """Distances of all pairs by kind."""
    found = {"same": [], "other": [], "other_same_camera": []}
    query, gallery = table.query, table.gallery.select(table.gallery.pid != -1)
    for q in range(len(query)):
        for g in range(len(gallery)):
            a, b = query.vectors[q].astype(np.float64), gallery.vectors[g].astype(np.float64)
            cosine = 1 - a @ b / np.linalg.norm(a) / np.linalg.norm(b)
            distance = cosine if metric == "cosine" else ((a - b) ** 2).sum()
            own = query.cam[q] == gallery.cam[g]
            if query.pid[q] != gallery.pid[g]:
                found["other_same_camera" if own else "other"].append(distance)
            elif cameras == "ignore" or not own:
                found["same"].append(distance)
    return found


@pytest.mark.parametrize("cameras", ["standard", "ignore"])
@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_counts_equal_a_loop(run, cameras, metric):
    pairs = count_pairs(run.embeddings, cameras=cameras, distance=metric)
    slow = slow_pairs(run.embeddings, cameras=cameras, metric=metric)
    for kind, distances in slow.items():
        counts = getattr(pairs, kind)
        assert counts.sum() == len(distances)
        middles = np.repeat((pairs.edges[:-1] + pairs.edges[1:]) / 2, counts)
        np.testing.assert_allclose(middles, sorted(distances), atol=2 * (pairs.edges[1] - pairs.edges[0]))
    different = np.array(slow["other"] + slow["other_same_camera"])
    assert (different < pairs.threshold).mean() <= FPR
    assert pairs.tpr == pytest.approx((np.array(slow["same"]) < pairs.threshold).mean())


def test_the_threshold_is_that_of_the_evaluation(run):
    scores = evaluate(run.embeddings)
    assert count_pairs(run.embeddings).tpr == scores.tpr[RATES.index(FPR)]


def test_the_overlap_is_the_best_balanced_error(run):
    slow = slow_pairs(run.embeddings, cameras="standard", metric="cosine")
    same, different = np.array(slow["same"]), np.array(slow["other"] + slow["other_same_camera"])
    errors = [((same >= t).mean() + (different < t).mean()) / 2 for t in np.linspace(0, 2, 4001)]
    assert count_pairs(run.embeddings).overlap == pytest.approx(min(errors), abs=2e-3)


def test_the_figure_holds_all_pairs_in_percent(run):
    pairs = count_pairs(run.embeddings)
    (panel,) = distances_figure(pairs).axes
    drawn = {step.get_label(): step for step in panel.patches}
    assert list(drawn) == [
        "same person, other cameras",
        "other person, other cameras",
        "other person, same camera",
        "overlap",
    ]
    for label, step in drawn.items():
        values = step.get_data().values
        if label != "overlap":
            assert values.sum() == pytest.approx(100)
    assert len({str(step.get_linestyle()) for label, step in drawn.items() if label != "overlap"}) == 3
    assert drawn["overlap"].get_hatch()
    assert f"{100 * pairs.tpr:.0f} % of the same" in panel.texts[0].get_text()
    assert f"finds {100 * pairs.tpr:.0f} % of the pairs" in str(pairs)


def test_what_has_no_pairs_is_refused(run):
    table = run.embeddings
    with pytest.raises(UserError, match="no pair of the same person"):
        count_pairs(table.select((table.role == "query") | (table.pid == -1)))
    with pytest.raises(UserError, match="no pair of different people"):
        count_pairs(table.select(table.pid == 2))
