"""Right, wrong and left out differ by more than colour, and a picture of lists holds what was asked for."""

import numpy as np
import pytest
from matplotlib.patches import Rectangle

from passerby.errors import UserError
from passerby.report.list_figures import draw_lists, ranks_figure
from passerby.report.ranked_lists import rank_for
from tests.report.conftest import PEOPLE, RERANK


def test_marks_are_signs_lines_and_words(run):
    lists = rank_for(run.embeddings, range(PEOPLE), k=8, left_out="show")
    figure = draw_lists(lists)
    shots = [shot for found in lists for shot in (found.query, *found.shots)]
    assert len(figure.axes) == len(shots)
    kinds = set()
    for panel, shot in zip(figure.axes, shots, strict=True):
        (frame,) = [patch for patch in panel.patches if isinstance(patch, Rectangle) and patch.get_gid()]
        word = shot.mark
        assert frame.get_gid() == word
        assert any(word in text.get_text() for text in panel.texts)
        if shot.mark != "query":
            (sign,) = {line.get_gid() for line in panel.lines}
            kinds.add((word, sign, frame.get_linestyle() == "-"))
    assert kinds == {("same", "tick", True), ("other", "cross", False), ("own camera", "bar", False)}


def test_a_missing_image_is_said_and_not_a_crash(run, tmp_path):
    moved = run.embeddings.select(np.arange(len(run.embeddings)))
    moved.path[:] = [str(tmp_path / "gone.jpg")] * len(moved)
    figure = draw_lists(rank_for(moved, [0], k=2))
    assert all("not found" in panel.texts[0].get_text() for panel in figure.axes)


def words(figure):
    return [text.get_text() for text in figure.texts]


def test_every_kind_of_query_has_its_heading_and_its_lists(run):
    figure = ranks_figure(run.embeddings, count=2, k=4)
    assert [w for w in words(figure) if w.endswith("lists") or "random" in w] == [
        "The best lists",
        "The worst lists",
        "Lists drawn at random",
    ]
    assert sum(w.startswith("Person") for w in words(figure)) == 6
    assert sum(panel.patches[0].get_gid() == "query" for panel in figure.axes) == 6


def test_the_re_ranked_list_stands_below_the_plain_one(run):
    figure = ranks_figure(run.embeddings, kinds=["worst"], count=2, k=4, rerank=RERANK)
    heads = [w.split(".")[0] for w in words(figure) if not w.endswith("lists")]
    assert heads == ["Plain", "With re-ranking"] * 2
    rows = [panel.get_position().y0 for panel in figure.axes if panel.patches[0].get_gid() == "query"]
    assert rows == sorted(rows, reverse=True)


def test_the_same_picture_comes_again(run):
    first, second = (ranks_figure(run.embeddings, kinds=["random"], count=3) for _ in range(2))
    assert words(first) == words(second)


def test_no_query_is_refused(run):
    with pytest.raises(UserError, match="at least one query"):
        ranks_figure(run.embeddings, count=0)
