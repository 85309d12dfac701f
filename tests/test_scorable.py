"""What cannot be scored is told before anything is learnt, with the way on."""

import numpy as np
import pytest
from rich.console import Console

from passerby.commands.evaluating import ChangedRules, Extras, evaluate_run
from passerby.errors import UserError
from passerby.evaluation import evaluate
from passerby.scorable import camera_note, require_scorable, unscorable
from passerby.training.session import train
from passerby.types import UNKNOWN, Dataset, Embeddings, EvaluationRules, Split
from tests.training.runs import run


def dataset(query, gallery):
    """Make a data set of (pid, cam) pairs."""
    query, gallery = (
        Split([f"{name}{n}.jpg" for n in range(len(rows))], *zip(*rows, strict=True))
        for name, rows in (("q", query), ("g", gallery))
    )
    return Dataset("site", Split.empty(), query, gallery)


def test_a_match_from_another_camera_can_be_scored():
    assert unscorable(dataset([(1, 1)], [(1, 2)]), EvaluationRules()) == ""
    assert camera_note(dataset([(1, 1)], [(1, 2)]), "standard") == ""


def test_one_camera_for_all_is_told_with_the_way_on():
    with pytest.raises(UserError, match=r"site: no query can be scored: .*own camera.*; add --cameras ignore to count"):
        require_scorable(dataset([(1, 1)], [(1, 1)]), EvaluationRules(), ignore="--cameras ignore")
    assert unscorable(dataset([(1, 1)], [(1, 1)]), EvaluationRules(cameras="ignore")) == ""


def test_identities_that_do_not_meet_are_not_sent_to_another_rule():
    with pytest.raises(UserError, match=r"never occurs in the gallery; add evaluate=") as caught:
        require_scorable(dataset([(1, 1)], [(2, 2)]), EvaluationRules(), ignore="IT", without="evaluate=[]")
    assert "IT" not in str(caught.value)


@pytest.mark.parametrize(("query", "gallery"), [([(UNKNOWN, 1)], [(1, 2)]), ([(1, 1)], [(UNKNOWN, 2)])])
def test_nobody_known_cannot_be_scored(query, gallery):
    assert unscorable(dataset(query, gallery), EvaluationRules(cameras="ignore"))


def test_unknown_cameras_are_not_one_camera():
    site = dataset([(1, UNKNOWN)], [(1, UNKNOWN), (2, UNKNOWN)])
    assert unscorable(site, EvaluationRules()) == ""
    assert "no test image has a known camera" in camera_note(site, "standard")
    assert "no test image has a known camera" in unscorable(site, EvaluationRules(queries="multi"))


def test_scores_name_the_rule_that_was_applied():
    vectors = np.eye(3, dtype=np.float32)[[0, 0, 1]]
    table = Embeddings(vectors, [1, 1, 2], [UNKNOWN] * 3, ["query", "gallery", "gallery"])
    scores = evaluate(table)
    assert (scores.mAP, scores.protocol.cameras) == (1.0, "ignore")
    with pytest.raises(UserError, match="multi"):
        evaluate(table, queries="multi")


def test_a_run_that_cannot_be_tested_is_refused_before_it_begins(tiny, site, tmp_path):
    rows = [f"{path},{path.name[:4]},1,{role}" for path, role in _listed(site)]
    (tmp_path / "site.csv").write_text("\n".join(["path,pid,cam,role", *rows]))
    described = f"datasets={{market1501: {{kind: csv, path: {tmp_path / 'site.csv'}}}}}"
    with pytest.raises(UserError, match=r"add test.cameras=ignore to count .*, or evaluate=\[\] to train without"):
        train(tiny(described), tmp_path / "run")
    assert not (tmp_path / "run").exists()
    assert (run(tiny(described, "test.cameras=ignore", "stages.0.epochs=1"), tmp_path / "run") / "scores.json").exists()


def _listed(site):
    roles = {"bounding_box_train": "train", "query": "query", "bounding_box_test": "gallery"}
    return [(path, role) for folder, role in roles.items() for path in sorted((site / folder).iterdir())]


def test_a_model_is_not_asked_for_what_cannot_be_scored(site, tmp_path):
    class Model:
        recipe, notes, feature, flip = None, (), "after_neck", False

        def vectors(self, paths, **options):
            raise AssertionError("asked")

    table = tmp_path / "site.csv"
    table.write_text("\n".join(["path,pid,cam,role", *(f"{p},{p.name[:4]},1,{role}" for p, role in _listed(site))]))
    with pytest.raises(UserError, match="add --cameras ignore to count matches from the query's own camera"):
        evaluate_run(
            Model(),
            on="csv",
            data=str(table),
            changes=ChangedRules(cameras="standard"),
            extras=Extras(),
            console=Console(quiet=True),
        )
