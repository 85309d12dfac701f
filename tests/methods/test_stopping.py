"""When clusters count as at rest."""

import pytest
from pydantic import ValidationError

from passerby.methods.pseudo import PseudoSettings
from passerby.methods.stopping import StopSettings


def test_clusters_are_at_rest_when_they_are_those_of_the_epoch_before():
    stop = StopSettings(agreement=0.9)
    told = [stop.judge(agreement=value, silhouette=None, tightest=0.5) for value in (None, 0.89, 0.9, 1.0)]
    assert told == [(False, 0.5), (False, 0.5), (True, 0.5), (True, 0.5)]


def test_clusters_are_at_rest_when_they_get_no_tighter_than_ever():
    stop, tightest, told = StopSettings(when="silhouette"), float("-inf"), []
    for value in (0.1, 0.3, 0.2, 0.3, float("nan"), 0.4):
        resting, tightest = stop.judge(agreement=1.0, silhouette=value, tightest=tightest)
        told.append(resting)
    assert told == [False, False, True, True, True, False]
    assert tightest == 0.4


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
def test_what_cannot_be_judged_is_refused(make, message):
    with pytest.raises(ValidationError, match=message):
        make()
