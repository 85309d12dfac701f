"""What joint training drew from each data set, summed over epochs and shown on the page."""

import re

import pytest

from passerby.report.joint_sampling import DrawnShare, shares
from passerby.report.page import write_report
from passerby.training import run_log
from passerby.training.run_log import DrawnRecord, EpochRecord
from tests.report.conftest import plain_recipe, write_run

pytestmark = pytest.mark.usefixtures("undrawn")


def epoch(number, drawn, stage=1):
    return EpochRecord(stage, f"leg {stage}", number, 2, 1e-3, {}, 100.0, 0.9, 1.0, drawn=drawn)


def test_epochs_of_a_stage_are_summed():
    found = [
        epoch(1, {"a": DrawnRecord(30, 4), "b": DrawnRecord(10, 3)}),
        epoch(2, {"a": DrawnRecord(34, 4), "b": DrawnRecord(6, 2)}),
        epoch(1, {}, stage=2),
        epoch(1, {"a": DrawnRecord(20, 4), "c": DrawnRecord(20, 4)}, stage=3),
    ]
    assert shares(found, batch_sizes=[10, 10, 10]) == [
        DrawnShare("leg 1", "a", 64, 80.0, 8, 8),
        DrawnShare("leg 1", "b", 16, 20.0, 5, 8),
        DrawnShare("leg 3", "a", 20, 50.0, 4, 4),
        DrawnShare("leg 3", "c", 20, 50.0, 4, 4),
    ]
    assert shares([epoch(1, {})], batch_sizes=[10, 10, 10]) == []


def test_the_page_shows_them(tmp_path):
    recipe = plain_recipe(stages=[{"train": ["plaza", "msmt17"], "epochs": 1}], data={"sampler": "per_domain"})
    written = write_run(tmp_path, recipe=recipe)
    assert "drawn from each data set" not in write_report(written.folder).read_text()
    record = epoch(1, {"<plaza>": DrawnRecord(6400, 200), "msmt17": DrawnRecord(6400, 200)})
    run_log.append(written.folder / "log.jsonl", record)
    html = write_report(written.folder).read_text()
    rows = re.findall(
        r"<tr><td>(\S+)</td><td>([\d,]+)</td><td>\s*([\d.]+) %</td><td>([\d,]+ of [\d,]+)</td></tr>", html
    )
    assert rows == [("&lt;plaza&gt;", "6,400", "50.0", "200 of 200"), ("msmt17", "6,400", "50.0", "200 of 200")]
    assert "Joint training, an equal share of each data set in every batch." in html
