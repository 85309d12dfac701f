"""Open-set rates in the report: as scores.json has them, with their definition and a curve."""

import json

import pytest

from passerby.errors import UserError
from passerby.evaluation import evaluate_open_set, open_set_json
from passerby.report.folder import read_run
from passerby.report.open_set import open_set_curve, read_open_set
from passerby.report.page import write_report
from tests.report.conftest import write_run

pytestmark = pytest.mark.usefixtures("undrawn")


@pytest.fixture
def scored(tmp_path):
    written = write_run(tmp_path)
    scores = evaluate_open_set(written.embeddings, camera_norm="centre", targets=(0.4, 0.01))
    path = written.folder / "scores.json"
    entries = json.loads(path.read_text())
    entries["plaza"]["open_set"] = open_set_json(scores)
    entries["plaza"]["plain"]["protocol"]["camera_norm"] = "centre"
    path.write_text(json.dumps(entries))
    return written, scores


def test_the_page_defines_and_shows_the_rates(scored):
    written, scores = scored
    html = write_report(written.folder).read_text()
    (row,) = scores.rows
    assert "Unknown people" in html
    assert "False alarms (FPIR)" in html
    assert f"<td>{100 * row.dir1:.1f} %</td>" in html
    assert f"<td>{row.threshold:.4f}</td>" in html
    assert "1 % false alarms need 100 queries of people outside the gallery; there are 5." in html
    assert "the same queries, each with its identity left out of the gallery" in html
    assert "camera norm centre by the statistics of query and gallery" in html


def test_the_curve_is_that_of_the_scores(scored):
    written, scores = scored
    (site,) = read_run(written.folder).results
    fpir, fnir = scores.curve()
    figure = open_set_curve(site.open_set)
    line, marks = figure.axes[0].get_lines()
    assert line.get_xdata() == pytest.approx(100 * fpir)
    assert line.get_ydata() == pytest.approx(100 * fnir)
    assert marks.get_xydata().tolist() == [[pytest.approx(40), pytest.approx(100 - 100 * scores.rows[0].dir1)]]
    assert site.protocol.camera_norm == "centre"


def test_the_axes_are_named_in_whole_percent_and_not_in_powers(scored):
    _, scores = scored
    entry = open_set_json(scores)
    for fpir, named in (([0.5, 30.0, 100.0], ["1%", "10%", "20%", "100%"]), ([0.01, 30.0, 100.0], ["0.01%", "0.1%"])):
        figure = open_set_curve(read_open_set({**entry, "curve": {"fpir": fpir, "fnir_rank1": [90.0, 50.0, 20.0]}}))
        figure.draw_without_rendering()
        assert set(named) <= {label.get_text() for label in figure.axes[0].get_xticklabels()}
        assert {label.get_text() for label in figure.axes[0].get_yticklabels()} >= {"0%", "100%"}


def test_damaged_entries_are_one_sentence(scored):
    written, _ = scored
    path = written.folder / "scores.json"
    entries = json.loads(path.read_text())
    for damage in ({"rates": 3}, {"curve": {}}, {"non_mated_probes": "x"}):
        broken = {**entries["plaza"], "open_set": {**entries["plaza"]["open_set"], **damage}}
        path.write_text(json.dumps({"plaza": broken}))
        with pytest.raises(UserError, match="scores"):
            read_run(written.folder)


def test_an_entry_without_supported_rates_has_a_curve_all_the_same(scored):
    _, scores = scored
    entry = read_open_set({**open_set_json(scores), "rates": []})
    assert entry.rows == ()
    assert len(entry.fpir) > 1
