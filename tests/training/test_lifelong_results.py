"""A run of several stages is tested on everything after each, and what that says is written down."""

import json

import numpy as np
import pytest
import torch

from passerby.errors import UserError
from passerby.evaluation import evaluate
from passerby.metrics.galleries import search_earlier
from passerby.models.embedder import load_embedder
from passerby.report.lifelong import losses
from passerby.training import run_log
from passerby.training.lifelong_results import lifelong_results_from_json, lifelong_results_json, read_lifelong_results
from passerby.training.run_log import EpochRecord, ScoreRecord, SearchRecord, StageRecord
from passerby.training.trainer import make_trainer
from passerby.types import Embeddings, Split, Stage
from tests.embedded import embed_tested
from tests.training.runs import run, weights

SEQUENCE = [
    "stages=[{train: [market1501], epochs: 1}, {train: [other], epochs: 1}]",
    "data.sampler.identities=3",
    "test.rerank=null",
    "method.lwf={tr_dist: 1.0, heads: 1.0}",
]


def stage(*names, epochs=2):
    split = Split(np.array(["a.jpg"]), np.array([0]), np.array([0]))
    return Stage(" + ".join(names), split, True, epochs, names, np.array([0]))


def scored(stage_number, epoch, **sites):
    return [ScoreRecord(stage_number, epoch, name, mAP / 100, 0.0, mAP / 200) for name, mAP in sites.items()]


STAGES = [stage("plaza"), stage("campus"), stage("station")]
RECORDS = [
    *scored(0, 0, plaza=1, campus=5, station=2, mall=10, quay=20),
    *scored(1, 1, plaza=99, campus=99, station=99, mall=99, quay=99),  # in the middle of a stage
    *scored(1, 2, plaza=82, campus=20, station=3, mall=30, quay=50),
    SearchRecord(1, 2, "merged", "mall + quay", 0.35, 0.1),
    *scored(2, 2, plaza=60, campus=75, station=4, mall=40, quay=60),
    SearchRecord(2, 2, "merged", "mall + quay", 0.45, 0.1),
    SearchRecord(2, 2, "earlier gallery", "plaza", 0.30, 0.25),
    *scored(3, 2, plaza=50, campus=62, station=40, mall=20, quay=30),
    SearchRecord(3, 2, "merged", "mall + quay", 0.15, 0.1),
    SearchRecord(3, 2, "earlier gallery", "plaza", 0.2, 0.25),
    SearchRecord(3, 2, "earlier gallery", "campus", 0.1, 0.05),
    EpochRecord(3, "station", 1, 2, 1e-3, {}, 1.0, 1.0, 5.0),
    EpochRecord(3, "station", 2, 2, 1e-3, {}, 1.0, 1.0, 6.0),
    StageRecord(3, 2, "station", 4.0, {"previous model": {"model": 100}, "lwf": {"kept": 20, "old": 3}}, 7),
]
TESTED = ["plaza", "campus", "station", "mall", "quay"]


def test_the_course_equals_what_was_worked_out_by_hand():
    course = read_lifelong_results(STAGES, TESTED, RECORDS)
    assert course.matrix["mAP"][1].tolist() == pytest.approx([60, 75, 4, 40, 60])
    assert course.trained_order == ("plaza", "campus", "station")
    assert course.unseen == ("mall", "quay")
    found = course.figures("mAP", expert_scores={"plaza": 82.0, "campus": 77.0, "station": 45.0, "mall": 1.0})
    assert (found.average, found.forgetting, found.backward) == pytest.approx((152 / 3, 22.5, -22.5))
    assert found.forward == pytest.approx(8.5)
    assert found.intransigence == pytest.approx([0, 2, 5])
    assert course.figures("rank1").forgetting == pytest.approx(11.25)
    assert course.unseen_average("mAP") == pytest.approx([40, 50, 25])
    assert course.merged["mAP"] == pytest.approx([35, 45, 15])
    assert (course.costs[2].seconds, course.costs[2].bytes, course.costs[2].images) == (15.0, 123, 7)
    first = course.galleries[0]
    assert (first.stage, first.dataset) == (2, "plaza")
    assert (first.old["mAP"], first.mixed["mAP"], first.new["mAP"]) == pytest.approx((82, 30, 60))
    assert course.learnt_before(3) == ["plaza", "campus"]


def test_a_course_survives_json():
    course = read_lifelong_results(STAGES, TESTED, RECORDS)
    written = json.loads(json.dumps(lifelong_results_json(course), allow_nan=False))
    assert lifelong_results_json(lifelong_results_from_json(written, source="it")) == written
    assert written["mAP"]["seen_avg"] == pytest.approx([82.0, 67.5, 152 / 3])
    assert written["mAP"]["unseen_avg"][2] != written["mAP"]["unseen_merged"][2]


@pytest.mark.parametrize("damage", [[], {"stages": []}, "text", {"stages": [{"name": "a", "trained_on": []}]}])
def test_another_json_is_told(damage):
    with pytest.raises(UserError, match="it does not hold lifelong results"):
        lifelong_results_from_json(damage, source="it")


def test_a_matrix_of_another_shape_is_told():
    written = lifelong_results_json(read_lifelong_results(STAGES, TESTED, RECORDS))
    written["mAP"]["matrix"].pop()
    with pytest.raises(UserError, match="it does not hold lifelong results"):
        lifelong_results_from_json(written, source="it")


def test_a_run_that_goes_on_has_the_stages_that_are_done():
    course = read_lifelong_results(STAGES, TESTED, [record for record in RECORDS if record.stage < 3])
    assert course.stages == ("plaza", "campus")
    assert course.figures("mAP").forgetting == pytest.approx(22)
    assert course.unseen == ("mall", "quay")  # the station is not unseen, only not yet learnt
    assert read_lifelong_results(STAGES, TESTED, RECORDS[:10]) is None


def test_without_a_start_there_is_no_forward_transfer():
    course = read_lifelong_results(STAGES, TESTED, RECORDS[5:])
    assert course.start is None
    assert course.figures("mAP").forward is None


@pytest.mark.parametrize(
    "stages",
    [
        [stage("plaza", "campus"), stage("station")],
        [stage("plaza"), stage("campus"), stage("plaza")],
        [stage("quarry")],
    ],
)
def test_stages_that_do_not_go_with_data_sets_have_no_figures(stages):
    course = read_lifelong_results(stages, TESTED, RECORDS)
    assert course.trained_order is None
    assert course.figures("mAP") is None
    assert lifelong_results_json(course)["mAP"]["forgetting"] is None


def test_stages_on_one_data_set_count_as_one():
    course = read_lifelong_results([stage("plaza"), stage("plaza"), stage("campus")], TESTED, RECORDS)
    assert course.trained_order == ("plaza", "campus")
    found = course.figures("mAP")  # from the rows of the second and the third stage
    assert (found.forgetting, found.backward) == pytest.approx((10, -10))
    assert (found.average, found.forward) == pytest.approx((56, 70))
    assert course.seen_average("mAP") == pytest.approx([82, 60, 56])
    assert lifelong_results_json(course)["mAP"]["seen_avg"] == pytest.approx([82, 60, 56])
    only = read_lifelong_results([stage("plaza"), stage("plaza")], TESTED, RECORDS)
    assert (only.figures("mAP").average, only.figures("mAP").forgetting) == (60, None)


def test_known_people_beside_are_no_second_site_of_a_stage():
    split = Split(np.array(["a.jpg", "b.jpg"]), np.array([-1, 0]), np.array([0, 1]))
    adapted = Stage("campus", split, False, 2, ("campus", "plaza"), np.array([0, 1]), source=("plaza",))
    assert adapted.learnt == ("campus",)
    course = read_lifelong_results([stage("plaza"), adapted], ["plaza", "campus", "mall"], RECORDS)
    assert course.trained == (("plaza",), ("campus",))
    assert course.unseen == ("mall",)
    found = course.figures("mAP")
    assert (found.forgetting, found.backward, found.forward) == pytest.approx((22, -22, 15))
    assert found.seen == pytest.approx([82, 67.5])


# ---- a run


@pytest.fixture(scope="module")
def sequence(tiny, tmp_path_factory):
    return run(tiny(*SEQUENCE), tmp_path_factory.mktemp("sequence") / "run")


def test_every_stage_is_scored_everywhere_and_so_is_the_start(sequence):
    records = run_log.read(sequence / "log.jsonl")
    assert [(r.stage, r.dataset) for r in run_log.scores(records)] == [
        (stage, name) for stage in range(3) for name in ("market1501", "other")
    ]
    course = json.loads((sequence / "continual_metrics.json").read_text())
    matrix = np.array(course["mAP"]["matrix"])
    assert matrix.shape == (2, 2)
    found = json.loads((sequence / "scores.json").read_text())
    assert matrix[1].tolist() == pytest.approx([found[name]["plain"]["mAP"] for name in ("market1501", "other")])
    assert course["mAP"]["backward_transfer"] == pytest.approx(matrix[1, 0] - matrix[0, 0])
    assert course["mAP"]["forward_transfer"] == pytest.approx(matrix[0, 1] - course["mAP"]["start"][1])
    assert course["stages"] == [{"name": n, "trained_on": [n]} for n in ("market1501", "other")]


def test_the_earlier_gallery_is_searched_by_the_new_model(sequence, tiny):
    (gallery,) = json.loads((sequence / "continual_metrics.json").read_text())["earlier_gallery"]
    assert (gallery["stage"], gallery["dataset"]) == (2, "market1501")
    dataset = make_trainer(tiny(*SEQUENCE), sequence).setup.datasets["market1501"]
    old, new = (
        embed_tested(load_embedder(sequence / f), dataset) for f in ("stage-1.safetensors", "embedder.safetensors")
    )
    for name, table in (("old", old), ("mixed", search_earlier(new, old)), ("new", new)):
        assert gallery[name]["mAP"] == pytest.approx(100 * evaluate(table).mAP, abs=1e-3)
    assert gallery["old"]["mAP"] != gallery["mixed"]["mAP"]
    kept = Embeddings.load(sequence / "embeddings" / "stage-1" / "market1501.npz")
    assert kept.vectors == pytest.approx(old.gallery.vectors, abs=1e-5)
    assert not (sequence / "embeddings" / "stage-1" / "other.npz").exists()  # not learnt by then


def test_what_the_method_holds_is_counted(sequence):
    first, second = json.loads((sequence / "continual_metrics.json").read_text())["cost"]
    model = load_embedder(sequence / "embedder.safetensors")
    classifier = 4 * 6 * model.dimension
    assert first["memory_footprint"] == {"lwf": {"heads": classifier}}
    size = sum(t.numel() * t.element_size() for t in model.state_dict().values())
    assert second["memory_footprint"]["previous model"] == {"model": size}
    assert second["memory_footprint"]["lwf"] == {
        "old_heads": classifier,
        "heads": classifier + 4 * 3 * model.dimension,
    }
    assert (first["images"], second["images"]) == (0, 0)
    assert second["seconds"] > 0


def test_what_is_tested_between_does_not_matter(sequence, tiny, tmp_path):
    folder = run(tiny(*SEQUENCE, "evaluate=[]", "engine.keep_stages=off", "test.start=off"), tmp_path / "run")
    assert weights(folder) == weights(sequence)
    assert not (folder / "stage-1.safetensors").exists()
    assert not (folder / "continual_metrics.json").exists()
    assert not torch.equal(
        *(load_embedder(sequence / f).neck.weight for f in ("stage-1.safetensors", "embedder.safetensors"))
    )


def test_a_run_of_two_stages_on_the_first_data_set_measures_forgetting(tiny, tmp_path):
    stages = [
        "{train: [market1501], epochs: 1}",
        "{train: [market1501], name: again, epochs: 1}",
        "{train: [other], epochs: 1}",
    ]
    settings = (f"stages=[{', '.join(stages)}]", "data.sampler.identities=3", "test.rerank=null")
    folder = run(tiny(*settings), tmp_path / "run")
    written = json.loads((folder / "continual_metrics.json").read_text())
    matrix = np.array(written["mAP"]["matrix"])
    assert matrix.shape == (3, 2)
    assert written["mAP"]["forgetting"] == pytest.approx(matrix[1, 0] - matrix[2, 0])
    assert written["mAP"]["forward_transfer"] == pytest.approx(matrix[1, 1] - written["mAP"]["start"][1])
    assert written["mAP"]["seen_avg"] == pytest.approx([matrix[0, 0], matrix[1, 0], matrix[2].mean()])
    galleries = [(gallery["stage"], gallery["dataset"]) for gallery in written["earlier_gallery"]]
    assert galleries == [(2, "market1501"), (3, "market1501")]
    (sentence,) = losses(lifelong_results_from_json(written, source="it"))
    assert sentence.startswith("Training on other ")
