"""Figures of clusters, and the section on predicted identities of the report."""

import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from passerby.cli import app
from passerby.clustering.moves import MOVES
from passerby.device import InferenceSettings
from passerby.errors import UserError
from passerby.inputs import InputSettings
from passerby.models.embedder import Embedder, save_embedder
from passerby.report.clusterings import read_clusterings, require_clusterings, with_vectors
from passerby.report.clusters import cards, epoch_curves, flow_shares, frame_of, radius_curve, thumbnails
from passerby.report.folder import read_run
from passerby.report.page import write_report
from passerby.report.predicted_identities import clusters_figure, identities_section
from passerby.report.projection import features_figure, project_clusters
from passerby.training import run_log
from passerby.training.pseudo_labels import PseudoLabels, read_pseudo_labels, save_vectors, vectors_file
from passerby.training.run_log import MetricRecord
from passerby.types import Embeddings
from tests.report.conftest import plain_recipe

pytestmark = pytest.mark.usefixtures("undrawn")

LABELS = np.array([0, 0, 0, 0, 1, 1, 1, 2, 2, 2, -1, -1])
TRUTH = np.array([5, 5, 5, 9, 7, 7, 7, 8, 8, 8, 8, -1])
COUNT = len(LABELS)
UNLABELLED = {"train": ["plaza"], "labelled": False, "epochs": 2, "method": {"contrast": {}}}


def vectors():
    """One direction for each cluster, and a pull away from it that grows within the cluster."""
    found = np.zeros((COUNT, 4), np.float32)
    for row, label in enumerate(LABELS):
        found[row, label] = 1
        found[row, 3] += 0.1 * row * (label != 1)
    return found


def grouping(labels=LABELS, *, epoch=1, truth=TRUTH, folder=None):
    path = np.array([f"{folder}/{row:02d}.jpg" for row in range(len(labels))])
    hidden, cam = np.ones(len(labels), np.bool_), np.arange(len(labels)) % 3
    curve = np.linspace(0.1, 0.9, len(labels), dtype=np.float32)
    return PseudoLabels(1, epoch, labels, path, cam, truth, hidden, curve)


@pytest.fixture
def run(tmp_path):
    """A run folder with two epochs of clusters, written by hand."""
    folder, images = tmp_path / "run", tmp_path / "images"
    images.mkdir()
    for row in range(COUNT):
        Image.new("RGB", (16, 32), (20 * row, 90, 120)).save(images / f"{row:02d}.jpg")
    folder.mkdir()
    (folder / "recipe.yaml").write_text(plain_recipe(stages=[UNLABELLED], evaluate=[]).dump())
    later = np.where(LABELS == 2, 1, LABELS)
    for epoch, labels in enumerate((LABELS, later)):
        found = grouping(labels, epoch=epoch + 1, folder=images)
        found.save(folder)
        values = {"people": float(labels.max() + 1), "share in no cluster": 2 / COUNT, "eps": 0.5, "silhouette": 0.4}
        run_log.append(folder / "log.jsonl", MetricRecord(1, epoch, "clusters", values))
    save_vectors(folder, found, vectors())
    return folder


def test_cards_come_by_size_or_by_spread_and_images_by_distance():
    found = cards(grouping(), vectors())
    assert [card.title for card in found] == ["Cluster 0", "Cluster 1", "Cluster 2"]
    assert [len(card.rows) for card in found] == [4, 3, 3]
    assert all((np.diff(card.away) >= 0).all() for card in found)
    assert cards(grouping(), vectors(), order="doubtful")[-1].title == "Cluster 1"  # its images are all alike
    own = vectors()[7:10] / np.linalg.norm(vectors()[7:10], axis=1, keepdims=True)
    mean = own.mean(axis=0) / np.linalg.norm(own.mean(axis=0))
    assert found[2].spread == pytest.approx(float((1 - own @ mean).mean()), abs=1e-6)
    assert found[0].people == ((5, 3), (9, 1))
    assert found[0].sentence() == f"4 images, from 3 cameras, spread {found[0].spread:.2f}"
    (outside,) = cards(grouping(), vectors(), order="outside")
    assert (outside.title, outside.rows.tolist()) == ("In no cluster", [10, 11])


def test_the_nearest_and_the_farthest_are_always_shown():
    (card, *_) = cards(grouping(), vectors())
    assert card.shown_positions(2).tolist() == [0, 3]
    assert card.shown_positions(99).tolist() == [0, 1, 2, 3]
    parts = card.divided(3)
    assert [len(part.rows) for part in parts] == [3, 1]
    assert [part.sentence() for part in parts] == ["1 to 3 of 4 images", "4 to 4 of 4 images"]


def test_frames_tell_people_by_colour_and_line():
    (card, *_) = cards(grouping(), vectors())
    looks = [frame_of(card, pid) for pid in (5, 9, -1)]
    assert len({colour for colour, _ in looks}) == len({line for _, line in looks[:2]}) + 1 == 3
    figure = thumbnails(grouping(), [card])
    assert len(figure.axes) == 4
    words = [text.get_text() for text in figure.texts]
    assert {"person 5: 3", "person 9: 1", "Cluster 0"} <= set(words)


def test_an_image_alone_in_its_cluster_is_in_none():
    assert grouping(np.array([4, 4, 2, -1]), truth=np.full(4, -1)).clusters.tolist() == [0, 0, -1, -1]


def test_known_people_beside_are_not_clusters():
    found = PseudoLabels(
        1,
        1,
        np.array([3, 3, 0, 1]),
        *(np.array([""] * 4), np.zeros(4, int), np.zeros(4, int)),
        np.array([1, 1, 0, 0], bool),
    )
    assert found.clusters.tolist() == [0, 0]


def test_shares_of_what_images_did():
    shares = flow_shares([grouping(), grouping(np.where(LABELS == 2, 1, LABELS), epoch=2)])
    assert shares.shape == (1, len(MOVES))
    assert dict(zip(MOVES, (shares[0] * COUNT).round().astype(int).tolist(), strict=True)) == {
        "kept": 7,
        "merged": 3,
        "split": 0,
        "found": 0,
        "lost": 0,
        "outside": 2,
    }


def test_the_radius_says_how_many_images_hold_clusters_together():
    figure = radius_curve(np.array([0.1, 0.4, 0.6, 1.0], np.float32), eps=0.5, nearest=3)
    (panel,) = figure.axes
    (words,) = (text.get_text() for text in figure.legends[0].get_texts())
    assert words.startswith("radius eps 0.5: 2 of 4 images have at least\n3 images within it")
    assert not panel.texts  # nothing is printed over the curve
    assert panel.get_ylabel() == "Jaccard distance\nto the 3rd nearest image"


def test_curves_show_what_was_told():
    told = [MetricRecord(1, e, "clusters", {"people": 9.0 + e, "share in no cluster": 0.25}) for e in range(3)]
    people, outside, agreed = epoch_curves(told, known_identities=12).axes
    assert people.lines[0].get_ydata().tolist() == [9, 10, 11]
    assert outside.lines[0].get_ydata().tolist() == [25, 25, 25]
    assert not agreed.lines
    assert agreed.get_title(loc="left") == "agreement (1 = best)"
    assert all(float(tick).is_integer() for tick in people.get_yticks())
    told = [replace(told[0], values={**told[0].values, "silhouette": 0.3})]
    assert epoch_curves(told).axes[2].get_title(loc="left") == "silhouette (1 = best)"
    told = [replace(told[0], values={**told[0].values, "pairwise F": 0.3})]
    assert epoch_curves(told).axes[2].get_title(loc="left") == "agreement and silhouette (1 = best)"


def test_what_was_found_in_the_end_is_drawn_with_the_epochs(run):
    final = {"people": 3, "noise": 0.25, "silhouette": None, "stability": 0.7, "truth": {"rand": 0.4, "f": 0.6}}
    (run / "clusters.json").write_text(json.dumps(final))
    assert [record.epoch for record in require_clusterings(read_run(run)).metrics] == [
        0,
        1,
    ]  # no look after the last epoch
    grouping(epoch=3).save(run)
    found = require_clusterings(read_run(run))
    assert [record.epoch for record in found.metrics] == [0, 1, 2]
    assert found.metrics[-1].values == {
        "people": 3,
        "share in no cluster": 0.25,
        "eps": 0.5,
        "agreement with the epoch before": 0.7,
        "adjusted Rand index": 0.4,
        "pairwise F": 0.6,
    }
    curves, flow = clusters_figure(found, show="epochs"), clusters_figure(found, show="moves")
    assert curves.axes[0].lines[0].get_xdata()[-1] == 2
    assert curves.axes[2].get_xlabel() == flow.axes[0].get_xlabel() == "epochs trained"


def test_a_picture_says_how_many_images_it_shows_and_their_cameras():
    found = grouping(np.zeros(COUNT, int))
    (card,) = cards(found, None)
    figure = thumbnails(found, [card])
    assert any("8 of 12 images" in text.get_text() for text in figure.texts)
    below = [panel.texts[-1].get_text() for panel in figure.axes]
    assert below == [f"camera {found.cam[row]}" for row in card.rows[card.shown_positions()]]
    (card,) = cards(found, vectors())
    assert thumbnails(found, [card]).axes[0].texts[-1].get_text().endswith(f"\n{card.away[0]:.2f}")
    unknown = replace(found, cam=np.full(COUNT, -1))
    assert thumbnails(unknown, [card]).axes[0].texts[-1].get_text() == f"{card.away[0]:.2f}"


def test_points_are_coloured_by_cluster_though_nobody_is_known():
    table = Embeddings(vectors(), np.full(COUNT, -1), np.full(COUNT, -1), np.full(COUNT, ""))
    figure = features_figure(project_clusters(table, LABELS), colour="cluster")
    labels = [line.get_label() for line in figure.axes[0].lines]
    assert labels == ["in no cluster", "cluster 0", "cluster 1", "cluster 2"]
    many = Embeddings(np.tile(vectors(), (2, 1)), *([np.full(2 * COUNT, -1)] * 2), np.full(2 * COUNT, ""))
    drawn = project_clusters(many, np.concatenate([LABELS, np.where(LABELS < 0, -1, LABELS + 3)]), most=12)
    assert len(drawn) <= 12
    assert (drawn.cluster < 0).sum() == 2  # as large a share of those in none
    with pytest.raises(UserError, match="t-SNE needs at least 10 images, got 9"):
        project_clusters(table.select(np.arange(9)), LABELS[:9])


def test_cameras_of_two_data_sets_are_told_apart():
    site = np.array(["plaza", "hall"])[np.arange(COUNT) % 2]
    found = replace(grouping(), dataset=site)
    assert cards(found, None)[0].sentence() == "4 images, from 4 cameras"
    table = Embeddings(vectors(), np.full(COUNT, -1), found.cam, np.full(COUNT, ""))
    figure = features_figure(project_clusters(table, LABELS, datasets=site), colour="camera")
    labels = [line.get_label() for line in figure.axes[0].lines]
    assert labels == [f"{name}, camera {number}" for name in ("hall", "plaza") for number in range(3)]


def test_groupings_are_read_back(run):
    first, second = read_pseudo_labels(run)
    assert (first.epoch, first.learnt, second.epoch) == (1, 0, 2)
    assert first.labels.tolist() == LABELS.tolist()
    assert len(Embeddings.load(vectors_file(run, 1))) == COUNT
    path = run / "clusters" / "stage-1-epoch-003.npz"
    with np.load(run / "clusters" / "stage-1-epoch-001.npz") as file:
        np.savez(path, **file, site=np.full(COUNT, "plaza"))  # the name of the column in version 0.1
    assert read_pseudo_labels(run)[2].dataset.tolist() == ["plaza"] * COUNT
    path.write_text("x")
    with pytest.raises(UserError, match="is not clusters as a run writes them"):
        read_pseudo_labels(run)


def test_the_page_shows_whom_it_took_for_one_person(run):
    text = write_report(run).read_text()
    assert "Predicted identities (clusters)" in text
    assert "2 predicted identities in 12 images, 16.7 % of which are in no cluster." in text
    for word in ("The largest clusters", "Images in no cluster", "person 5", "camera 2"):
        assert word in text
    assert "The most doubtful" not in text, "both clusters stand among the largest"
    assert len(text) < 700_000


def test_doubtful_clusters_are_others_than_the_largest(run, monkeypatch):
    monkeypatch.setattr("passerby.report.predicted_identities._CARDS", 1)
    rows = identities_section(read_run(run)).rows
    doubtful = rows["The other clusters with the largest spread"]
    assert {row.title for row in doubtful}.isdisjoint(row.title for row in rows["The largest clusters"])
    assert len(doubtful) == 1


def test_a_run_with_labels_has_no_such_section(tmp_path):
    (tmp_path / "recipe.yaml").write_text(plain_recipe().dump())
    assert read_clusterings(read_run(tmp_path)) is None
    assert "Whom it took" not in write_report(tmp_path).read_text()
    with pytest.raises(UserError, match="has no clusters"):
        require_clusterings(read_run(tmp_path))


@pytest.mark.parametrize("show", ["images", "epochs", "moves", "radius", "features"])
def test_every_picture_is_a_command(run, tmp_path, show):
    out = tmp_path / "picture.png"
    found = CliRunner().invoke(app, ["visualise", "clusters", str(run), "--show", show, "--out", str(out)])
    assert found.exit_code == 0, found.output
    with Image.open(out) as picture:
        assert picture.width > 100


def test_what_cannot_be_drawn_is_told(run):
    found = require_clusterings(read_run(run))
    with pytest.raises(UserError, match="there are 1 pages of 6 rows, so there is no page 2"):
        clusters_figure(found, show="images", page=2)
    found = replace(found, table=None)
    with pytest.raises(UserError, match="the run folder does not hold the vectors of the clustered images"):
        clusters_figure(found, show="features")


def test_collapsed_vectors_are_reported(run, tmp_path):
    assert not any("collapsed" in text for text in identities_section(read_run(run)).sentences)
    (grouping,) = [each for each in read_pseudo_labels(run) if each.epoch == 2]
    save_vectors(run, grouping, np.ones((COUNT, 4), np.float32))
    assert identities_section(read_run(run)).sentences[-1].startswith(f"all {COUNT} vectors are equal: the model has")
    words = ["visualise", "clusters", str(run), "--show", "images", "-o", str(tmp_path / "picture.png")]
    assert "the model has collapsed" in CliRunner().invoke(app, words).output


def test_vectors_that_are_gone_are_made_again_by_the_final_model(run):
    folder = read_run(run)
    found = require_clusterings(folder)
    assert with_vectors(folder, found) is found
    vectors_file(run, 1).unlink()
    embedder = Embedder(folder.recipe.model, InputSettings(size=(32, 16)))
    save_embedder(embedder, run / "embedder.safetensors", recipe=folder.recipe.dump())
    found = require_clusterings(folder)
    assert found.table is None
    again = with_vectors(folder, found, inference=InferenceSettings(batch=5, workers=0)).table
    assert again.path.tolist() == found.last.path[found.last.hidden].tolist()
    assert len(np.unique(again.vectors, axis=0)) == COUNT
    clusters_figure(replace(found, table=again), show="features")
    (run / "embedder.safetensors").unlink()
    with pytest.raises(UserError, match="cannot be embedded again: no trained model"):
        with_vectors(folder, found)
