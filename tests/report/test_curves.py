"""The figures hold the series of the run, told apart by more than colour."""

import html

import numpy as np
import pytest
from matplotlib.figure import Figure

from passerby.evaluation import evaluate
from passerby.report.curves import cmc_curve, epoch_position, loss_curves, score_curves
from passerby.report.folder import read_run
from passerby.report.palette import LOOKS, svg_text
from passerby.training.run_log import EpochRecord, ScoreRecord
from tests.report.conftest import RERANK, plain_recipe


@pytest.fixture(scope="module")
def records(run):
    return read_run(run.folder).records


def test_each_loss_term_has_a_panel_of_its_own(records):
    figure = loss_curves(records)
    assert [panel.get_title(loc="left") for panel in figure.axes] == ["softmax", "triplet (weight 2)"]
    lines = [panel.lines[0] for panel in figure.axes]
    np.testing.assert_allclose(lines[0].get_ydata(), [3, 1.5, 1])
    np.testing.assert_allclose(lines[1].get_ydata(), [1, 0.5, 1 / 3])
    np.testing.assert_allclose(lines[0].get_xdata(), [1, 2, 3])


def test_later_stages_follow_on_the_same_axis(tmp_path):
    from tests.report.conftest import write_run

    stages = [{"train": ["plaza"], "epochs": 3}, {"train": ["plaza"], "epochs": 2, "name": "again"}]
    written = write_run(tmp_path, recipe=plain_recipe(stages=stages))
    records = read_run(written.folder).records
    panel = loss_curves(records).axes[0]
    assert [list(line.get_xdata()) for line in panel.lines[:2]] == [[1, 2, 3], [4, 5]]  # another classifier each
    assert list(score_curves(records).axes[0].lines[0].get_xdata()) == [3, 5]


def test_scores_are_drawn_in_percent(records, run):
    lines = {line.get_label(): line for line in score_curves(records).axes[0].lines}
    assert set(lines) == {"rank-1", "mAP"}
    assert lines["mAP"].get_ydata()[-1] == pytest.approx(100 * evaluate(run.embeddings).mAP)


def test_legends_cover_nothing(records, run):
    for figure in (score_curves(records), cmc_curve(evaluate(run.embeddings))):
        svg_text(figure)  # which lays it out
        (legend,), (panel,) = figure.legends, figure.axes
        assert panel.get_legend() is None
        assert legend.get_window_extent().y1 <= panel.get_tightbbox().y0 + 1


def test_a_name_is_never_taken_for_a_formula(run):
    records = [ScoreRecord(1, 1, name, 0.5, 0.4, 0.6) for name in ("a$\\frac$", "b")]
    assert r"a$\frac$" in html.unescape(svg_text(score_curves(records)))


def test_cmc_holds_both_rankings(run):
    plain, reranked = evaluate(run.embeddings), evaluate(run.embeddings, rerank=RERANK)
    figure = cmc_curve(plain, reranked, ranks=10)
    first, second = figure.axes[0].lines
    np.testing.assert_allclose(first.get_ydata(), 100 * plain.cmc[:10])
    np.testing.assert_allclose(second.get_ydata(), 100 * reranked.cmc[:10])
    assert len(cmc_curve(plain).axes[0].lines) == 1
    assert first.get_linestyle() != second.get_linestyle()
    assert first.get_marker() != second.get_marker()


def test_looks_differ_in_colour_line_or_marker_each():
    assert len({look.colour for look in LOOKS}) == len(LOOKS)
    assert len({look.marker for look in LOOKS}) == len(LOOKS)


def test_a_figure_always_gives_the_same_svg(records):
    first, second = svg_text(loss_curves(records)), svg_text(loss_curves(records))
    assert first == second
    assert "softmax" in first  # text stays text


def test_an_empty_log_is_drawn_as_an_empty_panel():
    assert isinstance(loss_curves([]), Figure)
    assert isinstance(score_curves([]), Figure)


def test_a_stage_that_ended_early_is_as_long_as_it_was():
    found = [epoch_record(stage, epoch) for stage, epoch in ((1, 1), (1, 2), (2, 1))]  # of 5 epochs each
    assert [epoch_position(found, record.stage, record.epoch) for record in found] == [1, 2, 3]


def epoch_record(stage, epoch):
    return EpochRecord(stage, "a", epoch, 5, 0.1, {}, images_per_second=1.0, busy=1.0, seconds=1.0)
