"""The section on what was kept and lost: its words, its numbers, and the runs that may be set beside it."""

import json
import re

import matplotlib as mpl
import pytest

from passerby.errors import UserError
from passerby.report.folder import read_run
from passerby.report.lifelong import lifelong_section, losses, stored_vectors
from passerby.report.lifelong_figures import dataset_curves, heat_map
from passerby.report.page import write_report
from passerby.training.lifelong_results import lifelong_results_json, read_lifelong_results
from tests.report.conftest import plain_recipe, write_run
from tests.training.test_lifelong_results import RECORDS, STAGES, TESTED, stage

pytestmark = pytest.mark.usefixtures("undrawn")


def write_course(folder, *, records=RECORDS, stages=STAGES, plaza=0.0):
    """Write a run folder of three stages; `plaza` is added to its mAP after the first one."""
    folder.mkdir()
    course = read_lifelong_results(stages, TESTED, records)
    course.matrix["mAP"][1:, 0] += plaza
    (folder / "continual_metrics.json").write_text(json.dumps(lifelong_results_json(course)))
    datasets = {name: {"kind": "market1501", "root": "nowhere"} for name in TESTED}
    steps = [{"train": list(each.sources), "epochs": 2} for each in stages]
    (folder / "recipe.yaml").write_text(plain_recipe(datasets=datasets, stages=steps, evaluate=TESTED).dump())
    return folder


@pytest.fixture
def course():
    return read_lifelong_results(STAGES, TESTED, RECORDS)


def test_losses_are_told_in_plain_words(course):
    assert list(losses(course)) == [
        "Training on campus cost plaza 22.0 mAP points.",
        "Training on station cost plaza 10.0 mAP points, and cost campus 13.0 mAP points.",
    ]
    course.matrix["mAP"][1, 0] = 83
    assert next(losses(course)) == "Training on campus gave plaza 1.0 mAP points."


def test_another_run_stands_beside(tmp_path):
    mine = write_course(tmp_path / "lwf", plaza=3.1)
    other = write_course(tmp_path / "finetune")
    first = lifelong_section(read_run(mine), against=other).sentences[0]
    assert first == "Training on campus cost plaza 18.9 mAP points (22.0 lost in finetune: 3.1 saved)."
    first = lifelong_section(read_run(other), against=mine).sentences[0]
    assert first == "Training on campus cost plaza 22.0 mAP points (18.9 lost in lwf: 3.1 more lost)."


@pytest.mark.parametrize(
    ("mine", "theirs", "told"),
    [
        (20.0, 24.0, "gave plaza 20.0 mAP points (24.0 won in plain: 4.0 fewer won)"),
        (24.0, 20.0, "gave plaza 24.0 mAP points (20.0 won in plain: 4.0 more won)"),
        (20.0, -3.0, "gave plaza 20.0 mAP points (3.0 lost in plain: 23.0 better)"),
        (-3.0, 20.0, "cost plaza 3.0 mAP points (20.0 won in plain: 23.0 worse)"),
        (-3.0, -3.0, "cost plaza 3.0 mAP points (3.0 lost in plain: the same)"),
    ],
)
def test_points_won_and_lost_are_compared_in_their_own_words(tmp_path, mine, theirs, told):
    folders = [write_course(tmp_path / name, plaza=22 + won) for name, won in (("held", mine), ("plain", theirs))]
    assert lifelong_section(read_run(folders[0]), against=folders[1]).sentences[0] == f"Training on campus {told}."


def test_stored_vectors_are_to_be_extracted_again_where_it_helps(course):
    plaza, campus = stored_vectors(course)
    assert plaza.startswith("plaza: the new model reaches mAP 20.0 % on vectors stored before station, 50.0 %")
    assert plaza.endswith("the previous model reached 60.0 %. Advice: embed the gallery again (+30.0).")
    course.galleries[2].mixed["mAP"] = 61.5
    assert list(stored_vectors(course))[1].endswith("Advice: keep the stored vectors.")
    assert campus.endswith("embed the gallery again (+52.0).")


def test_the_section_stands_on_the_page(tmp_path):
    folder = write_course(tmp_path / "run")
    html = write_report(folder).read_text()
    text = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", html))
    for words in (
        "Lifelong re-identification",
        "forgetting: loss against the best earlier value 22.5 11.2",
        "forward transfer: gain over the initial model before training on it 8.5",
        "unseen data sets, mean 25.0",
        "unseen data sets, merged gallery 15.0",
        "station 15 s previous model model, lwf kept, lwf old 0.1 kB 7",
    ):
        assert words in text
    assert "mAP in percent, after plaza: plaza 82.0, campus 20.0" in html


def test_a_run_of_one_stage_has_no_such_section(tmp_path):
    written = write_run(tmp_path)
    assert "Lifelong" not in write_report(written.folder).read_text()
    with pytest.raises(UserError, match=r"has no continual_metrics\.json"):
        write_report(written.folder, experts=[tmp_path])


def test_experts_tell_what_was_not_learnt(tmp_path):
    folder = write_course(tmp_path / "run")
    experts = []
    for name, points in (("plaza", 5.0), ("campus", 2.0), ("station", -1.0)):
        written = write_run(tmp_path / name, name=name)
        path = written.folder / "scores.json"
        scores = json.loads(path.read_text())
        own = read_lifelong_results(STAGES, TESTED, RECORDS).matrix["mAP"][len(experts), len(experts)]
        scores[name]["plain"]["mAP"] = own + points
        path.write_text(json.dumps(scores))
        experts.append(written.folder)
    found = {row[0]: row[1] for row in lifelong_section(read_run(folder), experts=experts).measures}
    told = "intransigence on {}: gap to a model trained on it alone"
    assert [found[told.format(name)] for name in ("plaza", "campus", "station")] == ["5.0", "2.0", "-1.0"]
    with pytest.raises(UserError, match="no run is trained on station alone"):
        lifelong_section(read_run(folder), experts=experts[:2])
    path = folder / "continual_metrics.json"
    before = path.read_text()
    with pytest.raises(UserError, match="no run is trained on station alone"):
        write_report(folder, experts=experts[:2])
    assert path.read_text() == before
    write_report(folder, experts=experts)
    written = json.loads(path.read_text())
    assert written["mAP"].pop("intransigence") == pytest.approx({"plaza": 5.0, "campus": 2.0, "station": -1.0})
    assert set(written["rank1"].pop("intransigence")) == {"plaza", "campus", "station"}
    assert written == json.loads(before)
    assert not list(folder.glob("*.part"))


def test_runs_that_differ_are_not_compared(tmp_path):
    folder = write_course(tmp_path / "run")
    other = write_course(tmp_path / "other", stages=[STAGES[0], stage("station"), stage("campus")])
    with pytest.raises(UserError, match="its stages differ"):
        write_report(folder, against=other)
    written = write_run(tmp_path / "one")
    with pytest.raises(UserError, match="it must be a run of several stages"):
        write_report(folder, against=written.folder)


def test_every_cell_has_its_number_and_can_be_read(course):
    panel = heat_map(course, "mAP").axes[0]
    cells = [text for text in panel.texts if re.fullmatch(r"[\d.]+", text.get_text())]
    assert len(cells) == 4 * 5
    shown = mpl.colormaps["cividis"]
    for text in cells:
        value = float(text.get_text()) / course.matrix["mAP"].max()
        paper, ink = (luminance(mpl.colors.to_rgb(c)) for c in (shown(value), text.get_color()))
        low, high = sorted((paper, ink))
        assert (high + 0.05) / (low + 0.05) > 4  # contrast ratio of WCAG
    grey = [luminance(shown(step / 20)[:3]) for step in range(21)]
    assert grey == sorted(grey)


def luminance(colour):
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in colour]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_curves_begin_at_the_start_where_it_was_tested(course):
    lines = {line.get_label(): line for line in dataset_curves(course, "mAP").axes[0].lines}
    assert list(lines["plaza"].get_xdata()) == [0, 1, 2, 3]
    assert list(lines["plaza"].get_ydata()) == pytest.approx([1, 82, 60, 50])
    later = read_lifelong_results(STAGES, TESTED, RECORDS[5:])
    lines = {line.get_label(): line for line in dataset_curves(later, "mAP").axes[0].lines}
    assert list(lines["mall (unseen)"].get_xdata()) == [1, 2, 3]
