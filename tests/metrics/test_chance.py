"""The chance level of a ranking, against orders that were really drawn."""

import numpy as np
import pytest

from passerby.evaluation import evaluate, scores_json
from passerby.metrics.chance import RankScores
from passerby.types import Embeddings


def table(vectors, rng):
    pid = np.repeat(np.arange(6), 5)
    role = np.tile(["query", "gallery", "gallery", "gallery", "gallery"], 6)
    return Embeddings(vectors.astype(np.float32), pid, rng.integers(0, 3, 30), role)


def test_scores_carry_the_mean_over_random_orders():
    rng = np.random.default_rng(0)
    pid_cam = table(rng.normal(size=(30, 4)), np.random.default_rng(1))
    drawn = [
        evaluate(Embeddings(rng.normal(size=(30, 4)).astype(np.float32), pid_cam.pid, pid_cam.cam, pid_cam.role))
        for _ in range(400)
    ]
    assert drawn[0].chance_mAP == pytest.approx(np.mean([scores.mAP for scores in drawn]), abs=0.01)
    assert drawn[0].chance_rank1 == pytest.approx(np.mean([scores.rank(1) for scores in drawn]), abs=0.02)
    assert scores_json(drawn[0])["chance"] == {
        "mAP": pytest.approx(100 * drawn[0].chance_mAP),
        "rank1": pytest.approx(100 * drawn[0].chance_rank1),
    }


@pytest.mark.parametrize(("mAP", "rank1", "hardly"), [(0.12, 0.11, True), (0.2, 0.11, False), (0.12, 0.2, False)])
def test_scores_near_chance_are_hardly_above_it(mAP, rank1, hardly):
    assert RankScores(mAP, rank1).hardly_above(RankScores(0.1, 0.1)) is hardly
