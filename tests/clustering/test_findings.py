"""`passerby cluster`: what it says of vectors, what it writes, and what it refuses."""

from __future__ import annotations

import csv
import json
from dataclasses import replace

import numpy as np
import pytest
from safetensors.numpy import save_file
from typer.testing import CliRunner

from passerby.cli import app
from passerby.clustering.algorithms import clustering_settings
from passerby.clustering.findings import describe_clusters, find_clusters, write_clusters
from passerby.metrics.calibration import calibrate
from passerby.thresholds import read_calibration, write_calibration
from passerby.types import Embeddings
from tests.clustering.test_algorithms import people


def table_of(vectors, pids, *, names=True):
    count = len(vectors)
    path = np.array([f"folder/{i}, again.jpg" for i in range(count)]) if names else None
    return Embeddings(vectors, pids, np.zeros(count, np.int64), np.full(count, ""), path=path)


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("vectors") / "people.npz"
    table_of(*people()).save(path)
    return path


def run(*words):
    kind = [] if "--kind" in words else ["--kind", "dbscan"]
    return CliRunner().invoke(app, ["cluster", *kind, *map(str, words)])


def test_the_command_says_and_writes_what_it_found(file, tmp_path):
    found = run(file, "eps=0.6", "k1=7", "k2=2", "-o", tmp_path / "c.csv", "--json", tmp_path / "c.json")
    assert found.exit_code == 0, found.output
    assert "5 clusters of 42 images; 4.8 % in no cluster; eps 0.6" in found.output
    assert "smallest 8, median 8, largest 8" in found.output
    assert "with eps=0.58 instead: adjusted Rand index 1.000" in found.output
    assert "pairs: precision 1.000, recall 1.000, F 1.000" in found.output
    rows = list(csv.reader((tmp_path / "c.csv").read_text().splitlines()))
    _, pids = people()
    assert rows[:2] == [["path", "cluster"], ["folder/0, again.jpg", "0"]]
    assert [label == "-1" for _, label in rows[1:]] == (pids < 0).tolist()
    figures = json.loads((tmp_path / "c.json").read_text())
    assert (figures["clusters"], figures["truth"]["identities"], figures["sizes"]) == (5, 5, [8] * 5)


@pytest.mark.parametrize(
    ("kind", "words", "change"),
    [
        ("linkage", ["threshold=0.3"], "threshold=0.29"),
        ("kmeans", ["k=5"], "seed=1"),
        ("hdbscan", ["k1=7"], "min_samples=5"),
        ("infomap", ["k1=7"], "seed=2"),
    ],
)
def test_every_algorithm_has_findings(kind, words, change):
    if kind == "infomap":
        pytest.importorskip("infomap")
    vectors, pids = people()
    found = find_clusters(table_of(vectors[:40], pids[:40]), clustering_settings(kind, words))
    assert found.truth.f == 1
    assert found.moved[0].change == change
    assert len(found.moved) == (2 if kind == "linkage" else 1)
    assert found.to_json()["eps"] is None


def test_without_identities_and_names(tmp_path):
    vectors, pids = people()
    table = table_of(vectors, np.full_like(pids, -1), names=False)
    found = find_clusters(table, clustering_settings("dbscan", ["k1=7", "k2=6", "eps=share"]))
    assert "known identities" not in describe_clusters(found)
    assert found.to_json()["truth"] is None
    write_clusters(tmp_path / "c.csv", table, found.clusters)
    assert (tmp_path / "c.csv").read_text().splitlines()[:2] == ["row,cluster", f"0,{found.clusters.labels[0]}"]


def test_a_silhouette_of_few_images_is_doubted():
    vectors, pids = people()
    clear = find_clusters(table_of(vectors, pids), clustering_settings("dbscan", ["eps=0.6", "k1=7", "k2=2"]))
    assert "says little" not in describe_clusters(clear)
    scattered = np.concatenate([vectors, np.random.default_rng(3).normal(size=(80, vectors.shape[1]))])
    found = find_clusters(
        table_of(scattered, np.full(len(scattered), -1)), clustering_settings("dbscan", ["k1=7", "eps=0.3"])
    )
    assert found.clusters.noise > 0.5
    assert "few images are in clusters at all, so it means little" in describe_clusters(found)


def test_clusters_of_one_camera_are_counted_and_cameras_taken_out(tmp_path):
    vectors, pids = people()
    cam = np.arange(len(pids)) % 2
    apart = vectors + np.where(cam, 1, -1)[:, None] * 3 * np.eye(vectors.shape[1])[0]
    table = replace(table_of(apart, pids), cam=cam)
    settings = clustering_settings("dbscan", ["eps=0.6", "k1=7", "k2=2"])
    misled, found = find_clusters(table, settings), find_clusters(table, settings, camera_norm="standardise")
    assert misled.one_camera == misled.clusters.count
    assert misled.truth.recall < 0.7
    assert found.one_camera == 0
    assert found.truth.precision == 1
    assert found.truth.f > misled.truth.f
    assert find_clusters(table_of(vectors, pids), settings).one_camera is None
    table.save(tmp_path / "t.npz")
    said = run(tmp_path / "t.npz", "k1=7", "k2=2").output
    assert (
        f"clusters of one camera only: {misled.one_camera} of {misled.clusters.count}; --camera-norm standardise"
        in said
    )
    assert (
        "clusters of one camera only: 0 of 5\n"
        in run(tmp_path / "t.npz", "k1=7", "k2=2", "--camera-norm", "standardise").output
    )
    replace(table, cam=np.full(len(pids), -1)).save(tmp_path / "t.npz")
    said = run(tmp_path / "t.npz", "k1=7", "--camera-norm", "centre")
    assert said.exit_code == 2
    assert "camera norm 'centre' needs cameras, and the table has none" in said.output


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["k1=42"], "fewer images than k1: 42 images with k1=42"),
        (["k1=7", "min_samples=30"], "found no cluster, only noise, in 42 images"),
        (["k1=41", "eps=0.99"], "into one cluster"),
        (["eps0.5"], "'eps0.5' is not an override"),
        (["epz=0.5"], "did you mean 'eps'"),
        (["--kind", "dbscn"], "did you mean 'dbscan'"),
        (["--kind", "kmeans", "k=43"], "42 images with k=43"),
    ],
)
def test_mistakes_are_one_sentence(file, words, sentence):
    found = run(file, *words)
    assert found.exit_code == 2, found.output
    assert sentence in found.output
    assert len([line for line in found.output.splitlines() if line.startswith("Error: ")]) == 1


def test_average_linkage_is_the_default_with_cameras_taken_out(tmp_path):
    vectors, pids = people()
    cam = np.arange(len(pids)) % 2
    apart = vectors + np.where(cam, 1, -1)[:, None] * 0.5 * np.eye(vectors.shape[1])[0]
    replace(table_of(apart, pids), cam=cam).save(tmp_path / "t.npz")
    result = CliRunner().invoke(app, ["cluster", str(tmp_path / "t.npz"), "--json", str(tmp_path / "c.json")])
    assert result.exit_code == 0, result.output
    assert "5 clusters of 42 images; 4.8 % in no cluster; threshold 0." in result.output
    assert "F 1.000" in result.output
    threshold = json.loads((tmp_path / "c.json").read_text())["threshold"]
    assert f"with threshold={threshold * 29 / 30:.3g} instead: adjusted Rand index 1.000" in result.output


def test_a_calibrated_model_gives_threshold_and_camera_norm(file, tmp_path):
    model = tmp_path / "model.safetensors"
    save_file({"weight": np.zeros(1, np.float32)}, model)
    write_calibration(model, calibrate(replace(Embeddings.load(file), cam=np.arange(42) % 2), rates=[0.1]))
    result = run(file, "--kind", "linkage", "--accept", "0.1", "--run", model)
    assert result.exit_code == 0, result.output
    assert f"; threshold {read_calibration(model).distance(0.1):.4g}" in result.output
    for words, sentence in [
        (["--accept", "0.1"], "add --run MODEL"),
        (["--run", model], "--run has no effect without --accept"),
        (["--accept", "0.1", "--run", model, "threshold=0.4"], "leave out threshold=..."),
        (["--accept", "0.1", "--run", model, "--camera-norm", "auto"], "calibrated with camera norm 'none'"),
        (["--cameras", "centre"], "no such option --cameras; use --camera-norm"),
    ]:
        refused = run(file, "--kind", "linkage", *words)
        assert (refused.exit_code, sentence in refused.output) == (2, True), refused.output
    assert "use --kind linkage" in run(file, "--accept", "0.1", "--run", model).output
