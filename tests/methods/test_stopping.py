"""When clusters count as converged."""

import pytest
from pydantic import ValidationError

from passerby.methods.pseudo import PseudoSettings
from passerby.methods.stopping import StopSettings, rises


def test_clusters_have_converged_when_they_are_those_of_the_epoch_before():
    stop = StopSettings(agreement=0.9)
    values = (None, 0.89, 0.9, 1.0)
    converged = [stop.has_converged(agreement=value, silhouette=None, best_silhouette=0.5) for value in values]
    assert converged == [False, False, True, True]


def test_clusters_have_converged_when_they_get_no_tighter_than_ever():
    stop, best, converged = StopSettings(when="silhouette"), float("-inf"), []
    for value in (0.1, 0.3, 0.2, 0.3, float("nan"), 0.4):
        converged.append(stop.has_converged(agreement=1.0, silhouette=value, best_silhouette=best))
        best = value if rises(value, best) else best
    assert converged == [False, False, True, True, True, False]
    assert best == 0.4
    assert not rises(None, best)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: StopSettings(when="silhouette", agreement=0.5), "agreement has no effect with when: silhouette"),
        (
            lambda: PseudoSettings(cluster={"kind": "kmeans"}, stop={"when": "silhouette"}),
            "silhouette needs a clustering on the graph, and cluster is kmeans",
        ),
    ],
)
def test_what_cannot_be_measured_is_refused(make, message):
    with pytest.raises(ValidationError, match=message):
        make()
