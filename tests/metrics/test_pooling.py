"""Tracklets compared by the mean of their images, and scores over drawn galleries, against slow loops."""

import json
from dataclasses import replace

import numpy as np
import pytest

from passerby.errors import UserError
from passerby.evaluation import draw_gallery, evaluate
from passerby.metrics.pooling import average_tracklets
from passerby.types import Embeddings
from tests.cli.invoking import refused, run


def tracklets(seed=0, people=6, cameras=3, length=4):
    """One tracklet of each person and camera with noisy images; camera 0 asks."""
    generator = np.random.default_rng(seed)
    rows = [(pid, cam) for pid in range(people) for cam in range(cameras) for _ in range(length)]
    pid, cam = (np.array(column) for column in zip(*rows, strict=True))
    vectors = np.eye(people)[pid] + generator.normal(0, 0.9, (len(rows), people))
    shuffled = generator.permutation(len(rows))
    table = Embeddings(vectors, pid, cam, np.where(cam == 0, "query", "gallery"), tracklet=pid * cameras + cam)
    return table.select(shuffled)


@pytest.mark.parametrize("distance", ["cosine", "euclidean"])
def test_a_tracklet_is_the_mean_of_its_images(distance):
    table = tracklets()
    found = average_tracklets(table, distance=distance)
    assert (found.unit, len(found)) == ("tracklet", 18)
    seen = []
    for row in range(len(found)):
        mine = table.tracklet == found.tracklet[row]
        vectors = table.vectors[mine]
        if distance == "cosine":
            vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        assert found.vectors[row] == pytest.approx(vectors.mean(axis=0), abs=1e-6)
        first = np.flatnonzero(mine)[0]
        assert (found.pid[row], found.cam[row], found.role[row]) == (
            table.pid[first],
            table.cam[first],
            table.role[first],
        )
        seen.append(first)
    assert seen == sorted(seen), "tracklets stand in the order of their first images"
    assert average_tracklets(found) is found


def test_means_of_tracklets_find_more_than_single_images():
    table = tracklets()
    images, means = evaluate(table), evaluate(average_tracklets(table))
    assert means.mAP > images.mAP + 0.1
    assert (images.protocol.unit, means.protocol.unit) == ("image", "tracklet")
    with pytest.raises(UserError, match="unit"):
        images.protocol.require_like(means.protocol)


def test_images_of_no_tracklet_stay_alone_and_mixed_tracklets_are_refused():
    table = replace(tracklets(), tracklet=np.full(72, -1))
    alone = average_tracklets(table)
    assert len(alone) == 72
    assert evaluate(alone).mAP == pytest.approx(evaluate(table).mAP, abs=1e-9)
    with pytest.raises(UserError, match=r"^tracklet 3 shows two identities \("):
        average_tracklets(replace(table, tracklet=np.full(72, 3)))
    with pytest.raises(UserError, match="there is no column 'tracklet'"):
        average_tracklets(replace(table, tracklet=None))


def test_scores_of_drawn_galleries_are_means_over_the_draws():
    table = tracklets()
    scores = evaluate(table, gallery_draws=5, count_ranks=6)
    query, gallery = table.query, table.gallery
    ap, first = [], []
    for draw in range(5):
        chosen = gallery.select(draw_gallery(gallery.pid, draw))
        assert sorted(chosen.pid.tolist()) == list(range(6))
        unit = [each.vectors / np.linalg.norm(each.vectors, axis=1, keepdims=True) for each in (query, chosen)]
        order = np.argsort(-(unit[0] @ unit[1].T), axis=1, kind="stable")
        place = np.argmax(chosen.pid[order] == query.pid[:, None], axis=1)
        ap.append(1 / (place + 1))
        first.append(np.mean(place == 0))
    assert scores.ap == pytest.approx(np.mean(ap, axis=0))
    assert scores.mAP == pytest.approx(np.mean(ap))
    assert scores.rank(1) == pytest.approx(np.mean(first))
    assert (scores.protocol.gallery_draws, scores.protocol.count_gallery) == (5, 48)
    assert len({tuple(draw_gallery(gallery.pid, draw)) for draw in range(5)}) == 5
    assert evaluate(table).protocol.gallery_draws == 0


def test_a_drawn_image_does_not_ask_for_itself():
    """As in VehicleID, where all test images are queries and gallery and no camera is known."""
    images = Embeddings(np.eye(4), [1, 1, 2, 2], [-1] * 4, ["query"] * 4, path=list("abcd"))
    both = {name: np.concatenate([getattr(images, name)] * 2) for name in ("vectors", "pid", "cam", "path")}
    table = Embeddings(role=["query"] * 4 + ["gallery"] * 4, **both)
    scores = evaluate(table, gallery_draws=1)
    drawn = draw_gallery(images.pid, 0)
    assert sorted(np.flatnonzero(~scores.valid).tolist()) == drawn.tolist()
    assert evaluate(table, gallery_draws=40).valid.all()


def test_a_draw_without_any_match_is_refused():
    table = Embeddings(np.eye(3), [1, 1, 1], [0, 0, 1], ["query", "gallery", "gallery"])
    with pytest.raises(UserError, match=r"^no query has a match in drawn gallery \d; leave gallery_draws at 0$"):
        evaluate(table, gallery_draws=20)


def test_the_command_line_compares_tracklets_and_draws_galleries(tmp_path):
    table = tracklets()
    table.save(tmp_path / "t.npz")
    assert Embeddings.load(tmp_path / "t.npz").tracklet.tolist() == table.tracklet.tolist()
    asked = ("evaluate", "--embeddings", tmp_path / "t.npz", "--json", tmp_path / "s.json")
    result = run(*asked, "--unit", "tracklet", "--gallery-draws", 3)
    scores = json.loads((tmp_path / "s.json").read_text())
    expected = evaluate(average_tracklets(table), gallery_draws=3)
    assert scores["mAP"] == pytest.approx(100 * expected.mAP)
    assert (scores["protocol"]["unit"], scores["protocol"]["gallery_draws"]) == ("tracklet", 3)
    assert "tracklets are compared" in result.output
    assert "means over 3 drawn galleries" in result.output
    average_tracklets(table).save(tmp_path / "means.npz")
    assert Embeddings.load(tmp_path / "means.npz").unit == "tracklet"
    replace(table, tracklet=None).save(tmp_path / "bare.npz")
    text = refused("evaluate", "--embeddings", tmp_path / "bare.npz", "--unit", "tracklet")
    assert "there is no column 'tracklet'" in text
