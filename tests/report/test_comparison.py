"""Runs side by side: repeats by seed, what differs, and what does not compare."""

import json
import statistics

import pytest

from passerby.errors import UserError
from passerby.report.comparison import Spread, compare_runs
from passerby.report.folder import read_run
from tests.report.conftest import plain_recipe, write_run


@pytest.fixture
def runs(tmp_path):
    """Two seeds of one recipe with different scores, and one run of another recipe."""
    folders = []
    for name, change in {
        "a/seed-0": {"engine": {"seed": 0}},
        "a/seed-1": {"engine": {"seed": 1}},
        "b": {"optim": {"lr": 2e-3, "warmup_epochs": 1, "schedule": "multistep", "milestones": [2]}},
    }.items():
        folders.append(write_run(tmp_path / name, recipe=plain_recipe(**change)).folder)
    file = folders[1] / "scores.json"
    scores = json.loads(file.read_text())
    scores["plaza"]["plain"]["mAP"] += 2
    file.write_text(json.dumps(scores))
    return folders


def test_repeats_are_grouped_by_seed_and_other_recipes_say_what_differs(runs):
    found = compare_runs(runs)
    repeats, other = found.groups
    assert repeats.seeds == (0, 1)
    assert [str(change) for change in other.changes] == ["optim.lr=0.002"]
    values = [json.loads((run / "scores.json").read_text())["plaza"]["plain"]["mAP"] for run in runs[:2]]
    mAP = repeats.figures("plaza")["mAP"]
    assert (mAP.mean, mAP.deviation) == (
        pytest.approx(statistics.fmean(values)),
        pytest.approx(statistics.stdev(values)),
    )
    assert other.figures("plaza")["mAP"].deviation is None
    assert found.to_json()[0]["scores"]["plaza"]["mAP"]["mean"] == pytest.approx(mAP.mean)


def test_a_folder_of_runs_stands_for_all_in_it(runs):
    inside = runs[2].parent  # of one run, `b/run`
    assert compare_runs([inside]).groups[0].runs[0].path == runs[2]


def test_unlike_protocols_are_told(runs):
    file = runs[2] / "scores.json"
    scores = json.loads(file.read_text())
    scores["plaza"]["plain"]["protocol"]["files"] = "others"
    file.write_text(json.dumps(scores))
    assert "plaza: these scores cannot be compared: they differ in files" in compare_runs(runs).caveats[0]


def test_a_run_without_scores_is_refused(runs, tmp_path):
    (runs[0] / "scores.json").unlink()
    with pytest.raises(UserError, match=r"has no scores.json with scores"):
        compare_runs(runs)
    with pytest.raises(UserError, match="is no run folder, and holds none"):
        compare_runs([tmp_path / "nothing"])


def test_a_spread_of_one_has_no_deviation():
    assert str(Spread.of([12.34])) == "12.3"


def test_scores_with_the_former_names_are_read(runs):
    file = runs[0] / "scores.json"
    scores = json.loads(file.read_text())
    protocol = scores["plaza"]["plain"]["protocol"]
    protocol["pixels"] = {"none": "whole"}[protocol.pop("input_mask")]
    row = {"mAP": 50.0, "rank1": 25.0}
    shown = {"whole": row, "foreground": row, "background": row, "chance": row, "examples": []}
    file.write_text(json.dumps({"plaza": scores["plaza"] | {"reliance": shown}}))
    site = read_run(runs[0]).results[0]
    assert site.protocol.input_mask == "none"
    assert site.background_bias is not None
    assert site.background_bias.kept_by_background == 1
