"""The choice of the distance of the graph, and the plain one where cameras are missing."""

import numpy as np
import pytest
from pydantic import ValidationError

from passerby.clustering.algorithms import DbscanSettings, HdbscanSettings, clustering_settings
from passerby.clustering.findings import find_clusters
from passerby.clustering.graph import camera_jaccard_neighbours, jaccard_neighbours
from passerby.types import Embeddings


def vectors_of_two_cameras(count=6, *, images=4, seed=0):
    """Return vectors of people, where the cameras are farther apart than the people, with cameras and people."""
    people = np.random.default_rng(seed).normal(size=(count, 8))
    pid, cam = np.repeat(np.arange(count), 2 * images), np.tile(np.arange(2), count * images)
    noise = 0.05 * np.random.default_rng(seed + 1).normal(size=(len(pid), 10))
    unit = people / np.linalg.norm(people, axis=1, keepdims=True)
    return (np.concatenate([unit[pid], 1.5 * np.eye(2)[cam]], axis=1) + noise).astype(np.float32), cam, pid


SETTINGS = {"k1": 8, "k2": 3, "distance": "ca_jaccard", "k1_intra": 3, "k1_inter": 3, "k2_intra": 1, "k2_inter": 3}


@pytest.mark.parametrize("cls", [DbscanSettings, HdbscanSettings])
def test_the_graph_is_that_of_the_chosen_distance(cls):
    vectors, cam, _ = vectors_of_two_cameras()
    found = cls(**SETTINGS).neighbours(vectors, cam=cam).scipy()
    expected = camera_jaccard_neighbours(vectors, cam, k1=(3, 3), k2=(1, 3)).scipy()
    assert (found != expected).nnz == 0
    assert (found != jaccard_neighbours(vectors, k1=8, k2=3).scipy()).nnz > 0


@pytest.mark.parametrize(
    ("cam", "lack"),
    [(None, "no image has a camera number"), (-1, "no image has a camera number"), (4, "all images are of one camera")],
)
def test_without_two_cameras_the_distance_is_the_plain_one_and_a_sentence_says_so(cam, lack):
    vectors, _, _ = vectors_of_two_cameras()
    cam, settings = None if cam is None else np.full(len(vectors), cam), DbscanSettings(**SETTINGS)
    plain = jaccard_neighbours(vectors, k1=8, k2=3).scipy()
    assert (settings.neighbours(vectors, cam=cam).scipy() != plain).nnz == 0
    note = f"distance: ca_jaccard needs two cameras, and {lack}: the plain Jaccard distance is used"
    assert settings.camera_note(cam) == note
    assert DbscanSettings().camera_note(cam) == ""


def test_with_two_cameras_there_is_no_sentence():
    assert DbscanSettings(distance="ca_jaccard").camera_note(np.array([0, -1, 1])) == ""


def test_people_are_found_across_cameras_that_are_farther_apart_than_the_people():
    vectors, cam, pid = vectors_of_two_cameras()
    table = Embeddings(vectors, pid=pid, cam=cam, role=np.full(len(pid), ""))
    chosen = [f"{name}={value}" for name, value in SETTINGS.items()]
    plain, aware = (
        find_clusters(table, clustering_settings("dbscan", ["eps=0.5", *changes]))
        for changes in (["k1=8", "k2=3"], chosen)
    )
    assert plain.truth.f < 0.8
    assert aware.truth.f > 0.95


def test_settings_of_another_distance_are_refused():
    with pytest.raises(ValidationError, match="k1_inter has no effect with distance: jaccard"):
        DbscanSettings(k1_inter=9)
    assert {"k1_intra", "k2_inter", "share"} <= DbscanSettings().idle
    assert DbscanSettings(**SETTINGS).idle == {"share"}
