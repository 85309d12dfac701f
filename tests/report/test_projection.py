"""Projections are whole people, come again the same, and are told apart by shape as well as by colour."""

import numpy as np
import pytest

from passerby.errors import UserError
from passerby.report.palette import mark_of
from passerby.report.projection import (
    NAMED_PEOPLE,
    Projection,
    camera_pull,
    choose_identities,
    features_figure,
    project,
)
from passerby.types import Embeddings


@pytest.fixture(scope="module")
def projection(run):
    return project([run.embeddings])


def series(figure):
    return {line.get_label(): line for line in figure.axes[0].lines}


def test_every_known_image_is_a_point_and_comes_again_in_its_place(run, projection):
    assert len(projection) == projection.count_all == (run.embeddings.pid >= 0).sum()
    np.testing.assert_array_equal(project([run.embeddings]).xy, projection.xy)
    np.testing.assert_allclose(np.linalg.norm(projection.vectors, axis=1), 1, rtol=1e-5)


def test_neighbours_stay_neighbours(projection):
    def nearest(x):
        distances = np.linalg.norm(x[:, None] - x, axis=-1) + 1e9 * np.eye(len(x))
        return projection.pid[distances.argmin(axis=1)]

    agreement = (nearest(projection.xy) == nearest(projection.vectors)).mean()
    assert agreement > 0.7


def test_groups_are_named_with_all_their_points(projection):
    by_camera = series(features_figure(projection, colour="camera"))
    assert {name: len(line.get_xdata()) for name, line in by_camera.items()} == {
        f"camera {cam}": (projection.cam == cam).sum() for cam in range(3)
    }
    by_person = series(features_figure(projection))
    assert list(by_person) == [f"person {pid}" for pid in range(5)]  # none is left over
    assert list(series(features_figure(projection, colour="dataset"))) == ["plaza"]


def crowd(people=30, name="a", images=4, seed=0):
    pid = np.repeat(np.arange(people), images)
    cam = np.tile(np.arange(images) % 2, people)
    vectors = np.random.default_rng(seed).normal(size=(len(pid), 6)).astype(np.float32)
    return Embeddings(vectors, pid, cam, np.full(len(pid), "gallery"), dataset=name)


def test_of_many_people_some_are_named_and_the_others_are_grey():
    lines = series(features_figure(project([crowd()])))
    assert len(lines) == NAMED_PEOPLE + 1
    assert "other people (18)" in lines
    named = [line for name, line in lines.items() if name.startswith("person")]
    shapes = {(line.get_marker(), line.get_markerfacecolor() == "white") for line in named}
    assert len(shapes) == NAMED_PEOPLE


def test_data_sets_share_the_picture_and_keep_their_people_apart():
    projection = project([crowd(name="a"), crowd(name="b", seed=1)], most=80)
    assert len(projection) == 80
    assert (projection.dataset == "a").sum() == 40
    assert all((projection.pid == pid).sum() in (0, 4, 8) for pid in range(30))  # whole people
    assert list(series(features_figure(projection, colour="dataset"))) == ["a", "b"]
    assert list(series(features_figure(projection, colour="camera"))) == [
        f"{site}, camera {cam}" for site in "ab" for cam in (0, 1)
    ]
    title = features_figure(projection).axes[0].get_title(loc="left")
    assert title == "By person: 80 of 240 images, 20 people"


def test_a_single_crowded_person_is_cut():
    assert len(choose_identities(np.zeros(50, np.int64), most=20, generator=np.random.default_rng(0))) == 20


def test_the_pull_of_cameras_is_counted():
    pid, cam = np.repeat(np.arange(10), 2), np.tile([0, 1], 10)
    by_camera = np.stack([cam * 10.0, pid * 0.01], axis=1).astype(np.float32)

    def pulled(vectors):
        return camera_pull(Projection(np.zeros((20, 2)), pid, cam, np.full(20, "a"), vectors, 20))

    assert pulled(by_camera).observed == 1.0
    assert pulled(by_camera).expected == pytest.approx(9 / 18)
    alternating = np.stack([pid * 10.0 + 4.9 * cam, 0 * cam], axis=1).astype(np.float32)
    assert pulled(alternating).observed < 0.2
    assert "100 % of the images" in str(pulled(by_camera))
    alone = Projection(np.zeros((20, 2)), pid, 0 * cam, np.full(20, "a"), by_camera, 20)
    assert camera_pull(alone) is None


def test_marks_do_not_repeat():
    assert len({mark_of(number) for number in range(84)}) == 84
    assert len({mark_of(number)[1:] for number in range(12)}) == 12


def test_what_cannot_be_projected_is_refused():
    with pytest.raises(UserError, match="at least 10 images of known identity, got 8"):
        project([crowd(people=2)])
    same = crowd()
    same.vectors[:] = 1
    with pytest.raises(UserError, match="all vectors are the same"):
        project([same])
    longer = Embeddings(np.zeros((40, 7), np.float32), np.arange(40), np.zeros(40, int), np.full(40, "gallery"))
    with pytest.raises(UserError, match="different lengths"):
        project([crowd(), longer])
