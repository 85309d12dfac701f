"""The measures of forgetting against published definitions worked out by hand."""

import json
from pathlib import Path

import numpy as np
import pytest

from passerby.errors import UserError
from passerby.metrics.continual import continual_metrics

ORACLE = json.loads((Path(__file__).parents[1] / "oracles_data" / "continual_metrics.json").read_text())


def test_equals_the_known_figures():
    matrix = np.array(ORACLE["R_mAP_rows_after_stage_cols_dataset"])
    found = continual_metrics(
        matrix, start=np.array(ORACLE["zero_step_baseline_b"]), alone=np.array(ORACLE["single_task"])
    )
    assert found.seen == pytest.approx(ORACLE["seen_avg_per_stage"])
    assert found.average == pytest.approx(ORACLE["ACC"])
    assert (found.backward, found.forgetting) == pytest.approx((ORACLE["BWT"], ORACLE["forgetting"]))
    assert found.forward == pytest.approx(ORACLE["FWT"])
    assert found.intransigence == pytest.approx(ORACLE["intransigence"])


def test_a_table_of_two_stages_is_read_off_the_same_matrix():
    matrix, table = np.array(ORACLE["R_mAP_rows_after_stage_cols_dataset"])[:2, :2], ORACLE["table_report"]
    found = continual_metrics(matrix)
    assert matrix[-1].tolist() == [table["market_map"], table["duke_map"]]
    assert (found.backward, -found.forgetting) == (table["market_forget"], table["market_forget"])


def test_forgetting_counts_from_the_best_time_and_backward_from_the_first():
    found = continual_metrics(np.array([[50.0, 0, 0], [60.0, 70, 0], [40.0, 80, 90]]))
    assert found.forgetting == pytest.approx(((60 - 40) + (70 - 80)) / 2)
    assert found.backward == pytest.approx(((40 - 50) + (80 - 70)) / 2)


def test_one_stage_has_nothing_to_forget():
    found = continual_metrics(np.array([[80.0]]), start=np.array([1.0]))
    assert (found.average, found.forgetting, found.backward, found.forward) == (80.0, None, None, None)
    assert found.intransigence is None


@pytest.mark.parametrize(
    ("matrix", "start", "text"),
    [
        (np.zeros((2, 3)), None, "the matrix of a sequence must have the shape"),
        (np.zeros((0, 0)), None, "the matrix of a sequence must have the shape"),
        (np.array([[1.0, np.nan], [1, 1]]), None, "not finite"),
        (np.zeros((2, 2)), np.zeros(3), "start of a sequence must have the shape"),
    ],
)
def test_what_does_not_fit_is_told(matrix, start, text):
    with pytest.raises(UserError, match=text):
        continual_metrics(matrix, start=start)
