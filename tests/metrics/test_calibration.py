"""Thresholds equal a loop over all pairs, intervals follow the identities, and what cannot be had is refused."""

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest

from passerby.errors import UserError
from passerby.metrics import calibration
from passerby.metrics.calibration import calibrate
from passerby.types import Embeddings


def table(people=20, cameras=3, images=2, *, noise=0.6, seed=0):
    generator = np.random.default_rng(seed)
    pid = np.repeat(np.arange(people), cameras * images)
    cam = np.tile(np.repeat(np.arange(cameras), images), people)
    vectors = generator.normal(size=(people, 8))[pid] + noise * generator.normal(size=(len(pid), 8))
    return Embeddings(vectors.astype(np.float32), pid, cam, np.full(len(pid), ""), dataset="drawn")


def pairs_of(embeddings, cameras=None):
    units = embeddings.vectors / np.linalg.norm(embeddings.vectors, axis=1, keepdims=True)
    impostors, genuine = [], []
    for i, j in itertools.combinations(range(len(embeddings)), 2):
        if embeddings.cam[i] == embeddings.cam[j] and embeddings.cam[i] != -1:
            continue
        if cameras is None or {embeddings.cam[i], embeddings.cam[j]} == set(cameras):
            chosen = genuine if embeddings.pid[i] == embeddings.pid[j] else impostors
            chosen.append(1 - float(units[i] @ units[j]))
    return np.sort(impostors), np.array(genuine)


@pytest.mark.parametrize("rows", [7, 1024])
def test_thresholds_equal_a_loop_over_all_pairs(monkeypatch, rows):
    monkeypatch.setattr(calibration, "_ROWS", rows)
    embeddings = table()
    found = calibrate(embeddings, rates=(0.1, 1e-2))
    for row in (found.pooled, *found.by_cameras):
        impostors, genuine = pairs_of(embeddings, row.cameras)
        assert (row.count_impostors, row.count_genuine) == (len(impostors), len(genuine))
        for threshold in row.thresholds:
            allowed = math.floor(threshold.rate * len(impostors) + 1e-9)
            assert (impostors <= threshold.distance + 1e-7).sum() >= allowed
            assert (impostors <= threshold.distance - 1e-7).sum() <= allowed
            assert impostors[allowed - 1] <= threshold.distance <= impostors[allowed] + 1e-7
            assert threshold.accepted == pytest.approx((genuine <= threshold.distance).mean(), abs=0.01)
            assert threshold.low <= threshold.distance <= threshold.high
    assert [row.cameras for row in found.by_cameras] == [(0, 1), (0, 2), (1, 2)]
    assert found.distance(1e-2) < found.distance(0.1)


def test_rates_beyond_the_number_of_pairs_are_left_out_or_refused():
    found = calibrate(table(), rates=(1e-2, 1e-3, 1e-4))  # 4,560 pairs
    assert [row.rate for row in found.pooled.thresholds] == [1e-2]
    assert found.pooled.unsupported == (1e-3, 1e-4)
    with pytest.raises(UserError, match=r"for the false accept rates 0\.01, not for 0\.001"):
        found.distance(1e-3)
    with pytest.raises(UserError, match=r"cannot support a false accept rate of 0\.001, which needs 10,000"):
        calibrate(table(), rates=(1e-3,))


def test_the_interval_follows_identities_and_not_images():
    few, many = (
        calibrate(table(people=10, images=6), rates=(0.1,)),
        calibrate(table(people=60, images=1), rates=(0.1,)),
    )
    (narrow,), (wide,) = many.pooled.thresholds, few.pooled.thresholds
    assert few.pooled.count_impostors > many.pooled.count_impostors / 3
    assert wide.high - wide.low > 1.5 * (narrow.high - narrow.low)


def test_more_copies_of_the_same_images_do_not_narrow_the_interval():
    once = table(people=15, images=1)
    order = np.repeat(np.arange(len(once)), 4)
    again = calibrate(once.select(order), rates=(0.1,)).pooled.thresholds[0]
    plain = calibrate(once, rates=(0.1,)).pooled.thresholds[0]
    assert again.high - again.low == pytest.approx(plain.high - plain.low, rel=0.1)


def test_without_cameras_all_pairs_are_compared():
    embeddings = table()
    unknown = replace(embeddings, cam=np.full(len(embeddings), -1))
    found = calibrate(unknown, rates=(0.1,))
    assert found.pooled.count_impostors == len(pairs_of(unknown)[0])
    assert found.by_cameras == ()


def test_images_of_unknown_identity_are_left_out():
    embeddings = table()
    more = replace(embeddings, pid=np.where(embeddings.pid == 3, -1, embeddings.pid))
    assert calibrate(more, rates=(0.1,)).count_identities == 19


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"pid": 0}, "compares different identities, and the data set has 1"),
        ({"cam": 4}, "all 120 are of camera 4"),
        ({"cam": "pid"}, None),
    ],
)
def test_data_without_impostors_are_refused(change, sentence):
    embeddings = table()
    if sentence is None:  # each identity has a camera of its own: impostors there are, genuine pairs there are not
        found = calibrate(replace(embeddings, cam=embeddings.pid.copy()), rates=(0.1,))
        assert found.pooled.thresholds[0].accepted is None
        return
    ((name, value),) = change.items()
    with pytest.raises(UserError, match=sentence):
        calibrate(replace(embeddings, **{name: np.full(len(embeddings), value)}))
