"""Reference results beside measured ones, their summaries, and mistakes in a file of reference rows."""

from pathlib import Path

import pytest

from passerby.errors import UserError
from passerby.recipe import load_recipe
from passerby.reference_results import (
    Comparison,
    Figures,
    ReferenceResult,
    compare,
    read_rows,
    shipped_recipes,
    shipped_rows,
)


def test_every_reference_figure_is_compared_with_the_measured_one():
    reference = ReferenceResult(mAP=80, rank1=90, mean=85, reranked=Figures(mAP=88, rank1=91))
    plain, reranked = Figures(mAP=79, rank1=91), Figures(mAP=89, rank1=92)
    assert compare(reference, plain, reranked) == [
        Comparison("mAP", 80, 79),
        Comparison("rank-1", 90, 91),
        Comparison("mean", 85, 85),
        Comparison("re-ranked mAP", 88, 89),
        Comparison("re-ranked rank-1", 91, 92),
    ]
    assert compare(reference, plain, reranked)[0].difference == -1
    assert [row.figure for row in compare(reference, plain, None)] == ["mAP", "rank-1", "mean"]
    assert [row.figure for row in compare(ReferenceResult(mAP=80, rank1=90), plain, reranked)] == ["mAP", "rank-1"]
    assert [row.figure for row in compare(ReferenceResult(mAP=80), plain, reranked)] == ["mAP"]


def test_forgetting_is_compared_where_it_was_measured():
    reference, plain = ReferenceResult(mAP=47, forgetting=-36), Figures(mAP=50, rank1=70)
    assert compare(reference, plain, None, forgetting=-30) == [
        Comparison("mAP", 47, 50),
        Comparison("forgetting", -36, -30),
    ]
    assert compare(reference, plain, None, forgetting=-30)[1].difference == 6
    assert [row.figure for row in compare(reference, plain, None)] == ["mAP"]
    assert [row.figure for row in compare(ReferenceResult(mAP=47), plain, None, forgetting=-30)] == ["mAP"]


def test_losses_of_an_autoencoder_are_compared_where_it_left_some():
    reference, plain = ReferenceResult(mAP=88, ae=0.001, ae_l1=0.0194), Figures(mAP=87, rank1=94)
    rows = compare(reference, plain, None, losses={"ae": 0.0015, "ae_l1": 0.0094, "ae_l2": 7.0})
    assert [row.texts for row in rows] == [
        ("88.0", "87.0", "-1.0"), ("0.0010", "0.0015", "+0.0005"), ("0.0194", "0.0094", "-0.0100"),
    ]  # fmt: skip
    assert [row.figure for row in rows] == ["mAP", "ae (loss)", "ae_l1 (loss)"]
    assert [row.figure for row in compare(reference, plain, None)] == ["mAP"]


def test_summaries_are_one_line():
    rows = shipped_rows()
    assert rows["market1501/resnet50-02"].summary == "85.8 / 94.2, re-ranked 94.2 / 95.0"
    assert rows["joint/resnet50-01"].summary == "market1501 86.8 / 94.6, dukemtmc 78.6 / 88.0, msmt17 48.9 / 67.5"
    losses = "ae / ae_l1 / ae_l2 0.0010 / 0.0194 / 0.0014"
    assert rows["ebll/ibn_a_resnet50-18"].summary == f"88.0 / 95.0, {losses}"
    assert rows["ebll/ibn_a_resnet50-06"].summary == "market1501 mAP 42.0, dukemtmc mAP 72.8"
    assert rows["joint/ibn_a_resnet50-02"].summary == "no reference results"
    assert rows["lwf/ibn_b_resnet50-01"].summary == "market1501 mAP 47.0 (-36.3), dukemtmc mAP 66.3"


# ---- mistakes and names


GOOD = "based_on: small, differs: less"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (f"a: {{{GOOD}, overides: []}}", "a: unknown key overides; did you mean 'overrides'?"),
        (
            f"a: {{{GOOD}, results: {{x: {{mAP: 1, rank-1: 2}}}}}}",
            "a: unknown key results.x.rank-1; did you mean 'rank1'?",
        ),
        (f"a: {{{GOOD}, results: {{x: {{rank1: 2}}}}}}", "a: results.x.mAP is missing"),
        (f"a: {{{GOOD}, results: {{x: {{mAP: 1, forgetting: -101}}}}}}", "a: results.x.forgetting is -101"),
        (f"a: {{{GOOD}, results: {{x: {{mAP: 101, rank1: 2}}}}}}", "a: results.x.mAP is 101"),
        ("a: {based_on: smal, differs: x}", "nor a reference row above; did you mean 'small'?"),
        (f"a: {{based_on: b, differs: x}}\nb: {{{GOOD}}}", "neither a shipped recipe nor a reference row above"),
        ("a: {based_on: a, differs: x}", "neither a shipped recipe nor a reference row above"),
        ("a: small", "a must hold 'key: value' lines, got 'small'"),
        (f"a: {{{GOOD}}}\na: {{{GOOD}}}", "key 'a' stands twice"),
        ("a: {based_on: small}", "a: differs is missing"),
    ],
)
def test_mistakes_in_a_file_of_reference_rows(tmp_path, text, sentence):
    (tmp_path / "reference_results.yaml").write_text(text)
    with pytest.raises(UserError) as caught:
        read_rows(tmp_path / "reference_results.yaml")
    assert sentence in str(caught.value)
    assert str(tmp_path / "reference_results.yaml") in str(caught.value)
    assert "\n" not in str(caught.value)


def test_names_of_rows_are_names_of_recipes(tmp_path, monkeypatch):
    with pytest.raises(UserError, match=r"no recipe 'market1501/resnet50-9'.*did you mean 'market1501/resnet50-09'\?"):
        load_recipe("market1501/resnet50-9")
    with pytest.raises(UserError, match=r"no recipe 'reference_results': neither"):
        load_recipe("reference_results")
    monkeypatch.chdir(tmp_path)
    Path("baseline").write_text("engine: {seed: 9}")  # what lies about does not change what is shipped
    assert load_recipe("market1501/resnet50-01").engine.seed == 0
    assert "reference_results" not in shipped_recipes()


def test_an_own_recipe_may_extend_a_row(tmp_path):
    (tmp_path / "mine.yaml").write_text("extends: market1501/resnet50-09\noptim: {lr: 1e-3}")
    recipe = load_recipe(str(tmp_path / "mine.yaml"))
    assert recipe.reference == "market1501/resnet50-09"
    assert recipe.losses.softmax.weight == "learned"
    assert recipe.optim.lr == 1e-3
