"""What methods that find people by clustering share."""

from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from passerby.clustering.algorithms import DbscanSettings
from passerby.distances.camera_norm import normalise_cameras
from passerby.methods.clustered import number_after_labelled, unit
from passerby.methods.pseudo import PseudoSettings
from passerby.types import Split, Stage

centred = partial(normalise_cameras, how="centre")
standardised = partial(normalise_cameras, how="standardise")


def test_what_a_camera_adds_to_all_its_images_is_taken_out():
    generator = np.random.default_rng(0)
    people, cam = generator.normal(size=(40, 6)).astype(np.float32), np.arange(40) % 4
    shift = generator.normal(size=(4, 6)).astype(np.float32) * 50
    spread = generator.uniform(1, 9, size=(4, 6)).astype(np.float32)
    assert np.allclose(centred(people + shift[cam], cam), centred(people, cam), atol=1e-4)
    even = standardised(people, cam)
    assert np.allclose(standardised(people * spread[cam] + shift[cam], cam), even, atol=1e-4)
    assert np.allclose(even[cam == 2].std(axis=0), 1, atol=1e-4)
    assert not np.allclose(centred(people * spread[cam], cam), centred(people, cam), atol=0.1)


def test_a_camera_of_one_image_has_nothing_of_its_own():
    assert np.isfinite(standardised(np.ones((3, 2), np.float32), np.array([0, 1, -1]))).all()


def test_clusters_are_numbered_after_known_people():
    train = Split(["a", "b", "c", "d", "e"], [-1, 0, -1, 1, -1], [0] * 5)
    stage = Stage("here", train, labelled=False, epochs=1)
    assert number_after_labelled(stage, np.array([1, -1, 0])).tolist() == [3, 0, -1, 1, 2]


def test_vectors_of_length_zero_stay():
    assert unit(np.array([[3.0, 4.0], [0.0, 0.0]], np.float32)).tolist() == [[np.float32(0.6), np.float32(0.8)], [0, 0]]


def test_clusters_are_found_on_the_device_of_the_run(monkeypatch):
    stage = Stage("here", Split(["a", "b"], [-1, -1], [0, 0]), labelled=False, epochs=1)
    run = SimpleNamespace(stage=stage, device=torch.device("cuda", 1))
    asked = []

    def neighbours(_settings, _vectors, *, cam, device):
        assert cam.tolist() == [0, 0]
        asked.append(device)
        raise StopIteration

    monkeypatch.setattr(DbscanSettings, "neighbours", neighbours)
    with pytest.raises(StopIteration):
        PseudoSettings().make().cluster_images(run, np.eye(2, dtype=np.float32))
    assert asked == ["cuda:1"]


@pytest.mark.parametrize(("count", "epoch", "has_note"), [(2, 0, False), (1, 0, True), (1, 1, False)])
def test_the_graph_gets_the_cameras_of_unlabelled_images_and_the_log_a_note_without_any(count, epoch, has_note):
    rows, cam = np.repeat(np.eye(3, 8, dtype=np.float32), 8, axis=0), np.arange(24) % count
    rows = rows + np.random.default_rng(0).normal(scale=0.02, size=rows.shape).astype(np.float32)
    train = Split([str(row) for row in range(25)], [0] + [-1] * 24, [7, *cam])
    notes, settings = [], DbscanSettings(distance="ca_jaccard", k1=6, k2=2, k1_intra=2, k1_inter=3)
    run = SimpleNamespace(
        stage=Stage("here", train, labelled=False, epochs=2), device=torch.device("cpu"), epoch=epoch,
        record_clustering=lambda *_, **__: None, log_metrics=lambda *_, note: notes.append(note),
    )  # fmt: skip
    method = PseudoSettings(cluster=settings).make()
    clusters, graph = method.cluster_images(run, np.concatenate([rows[:1], rows]))
    assert clusters.count == 3
    assert (graph.scipy() != settings.neighbours(unit(rows), cam=cam).scipy()).nnz == 0
    assert ("all images are of one camera: the plain Jaccard distance is used" in notes[0]) == has_note
