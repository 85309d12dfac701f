"""Open-set rates equal independent loops, count ties against the system, and depend on nothing that must not matter."""

import json
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch

from passerby.errors import UserError
from passerby.metrics.open_set import find_probes, score_open_set
from passerby.types import Split

ORACLE = json.loads((Path(__file__).parents[1] / "oracles_data" / "open_set.json").read_text())


@dataclass(frozen=True)
class Given:
    """Distances from a table."""

    values: np.ndarray
    rows: int = 3
    offset: float = 1.0
    bounds = (-1.0, 1.0)

    @property
    def shape(self):
        return self.values.shape

    def blocks(self):
        for start in range(0, len(self.values), self.rows):
            yield start, torch.from_numpy(self.values[start : start + self.rows].copy())


def split_of(pid, cam):
    return Split(np.full(len(pid), ""), np.array(pid), np.array(cam))


@pytest.fixture
def probes():
    similarity = np.array(ORACLE["similarity"])
    query = split_of([pid if pid >= 0 else 100 - pid for pid in ORACLE["probe_person"]], ORACLE["probe_camera"])
    gallery = split_of(ORACLE["gallery_person"], ORACLE["gallery_camera"])
    return find_probes(Given(-similarity), query, gallery, cameras="standard")


def distance_of(similarity):
    return 1 - similarity


def test_probes_are_mated_non_mated_or_dropped_as_the_oracle_says(probes):
    expected = ORACLE["protocol"]
    assert 1 - probes.mated == pytest.approx([row["score"] for row in expected["mated"]])
    assert probes.rank.tolist() == [row["rank_pessimistic"] for row in expected["mated"]]
    assert probes.mated_cam.tolist() == [row["camera"] for row in expected["mated"]]
    assert 1 - probes.non_mated == pytest.approx([row["score"] for row in expected["non_mated"]])
    assert probes.count_dropped == len(expected["dropped_probes"])
    assert probes.count_enrolled == expected["n_enrolled_people"]
    assert probes.kind == "absent"


def test_rates_at_thresholds_equal_the_oracle(probes):
    curve = ORACLE["curve"]
    for place, similarity in enumerate(curve["thresholds"]):
        limit = distance_of(similarity) + 1e-9
        assert probes.fpir(limit) == pytest.approx(curve["FPIR"][place])
        assert probes.fnir(limit) == pytest.approx(curve["FNIR_rank1"][place])
        assert probes.fnir(limit, rank=5) == pytest.approx(curve["FNIR_rank5"][place])


@pytest.mark.parametrize("row", ORACLE["threshold_for_fpir"]["rows"])
def test_thresholds_keep_the_rate_also_with_ties(probes, row):
    limit = probes.threshold(row["target"])
    assert limit == pytest.approx(distance_of(row["threshold_is_just_above"]))
    assert limit < distance_of(row["threshold_is_just_above"])
    assert probes.fpir(limit) == pytest.approx(row["FPIR"])
    assert 1 - probes.fnir(limit) == pytest.approx(row["DIR_rank1"])
    assert probes.resolves(row["target"]) == row["resolvable"]


@pytest.mark.parametrize("row", ORACLE["tnir_at_tpir"]["rows"])
def test_the_rate_of_true_rejections_equals_the_oracle(probes, row):
    found = probes.tnir(row["TPIR_target"])
    if row["TNIR"] is None:
        assert found is None
    else:
        assert found == (pytest.approx(distance_of(row["threshold"])), pytest.approx(row["TNIR"]))


def test_scores_leave_out_rates_that_the_probes_do_not_resolve(probes):
    scores = score_open_set(probes, targets=(0.2, 0.1, 0.01))
    assert [row.target for row in scores.rows] == [0.2, 0.1]
    assert scores.unresolved == (0.01,)
    assert all(row.low <= row.dir1 <= row.high for row in scores.rows)
    fpir, fnir = scores.curve()
    assert (np.diff(fpir) > 0).all()
    assert (np.diff(fnir) <= 0).all()
    assert fnir[-1] == pytest.approx(ORACLE["curve"]["FNIR_rank1"][0])


def draw(seed=0, people=12, images=3):
    generator = np.random.default_rng(seed)
    pid = np.repeat(np.arange(people), images)
    return (
        generator,
        split_of(pid[::2], np.arange(len(pid))[::2] % 3),
        split_of(pid[1::2], np.arange(len(pid))[1::2] % 3),
    )


def test_neither_the_order_of_the_gallery_nor_a_copy_of_an_image_changes_anything():
    generator, query, gallery = draw()
    values = generator.normal(size=(len(query), len(gallery)))
    plain = find_probes(Given(values), query, gallery, cameras="standard")
    order = np.concatenate([generator.permutation(len(gallery)), [4, 4]])
    again = find_probes(Given(values[:, order]), query, gallery.select(order), cameras="standard")
    for name in ("mated", "rank", "non_mated"):
        assert np.array_equal(getattr(plain, name), getattr(again, name))


def test_every_probe_is_non_mated_with_its_identity_left_out_where_none_is_absent():
    generator, query, gallery = draw()
    values = generator.normal(size=(len(query), len(gallery)))
    probes = find_probes(Given(values, offset=0.0), query, gallery, cameras="ignore")
    assert probes.kind == "left_out"
    expected = [row[gallery.pid != pid].min() for row, pid in zip(values, query.pid, strict=True)]
    assert np.allclose(probes.non_mated, expected)


def test_intervals_of_people_are_wider_than_those_of_images_taken_for_independent():
    generator = np.random.default_rng(3)
    pid = np.repeat(np.arange(40), 10)
    query = split_of(np.concatenate([pid, 100 + np.arange(100)]), np.zeros(500, int))
    gallery = split_of(np.arange(40), np.ones(40, int))
    values = generator.uniform(0.5, 1.0, size=(500, 40))
    good = generator.uniform(size=40) < 0.5  # all ten images of a person are easy, or none is
    values[np.arange(400), pid] = np.where(good[pid], 0.1, 0.9)
    (row,) = score_open_set(find_probes(Given(values), query, gallery, cameras="standard"), targets=(0.1,)).rows
    independent = 2 * 1.96 * math.sqrt(row.dir1 * (1 - row.dir1) / 400)
    assert row.high - row.low > 2 * independent


def test_galleries_without_mated_probes_are_refused():
    with pytest.raises(UserError, match="there are 0 and 2"):
        find_probes(Given(np.zeros((2, 2))), split_of([5, 6], [0, 0]), split_of([1, 2], [0, 0]), cameras="standard")
