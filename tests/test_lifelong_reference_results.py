"""Reference rows of several stages: settings, published results, training, forgetting."""

import json
import re
import shutil

import pytest
from rich.console import Console

from passerby.commands.printing import print_reference_results
from passerby.data.readers.layout import UNLIKE_PUBLISHED
from passerby.recipe import load_recipe
from passerby.reference_results import ReferenceResult, shipped_rows
from passerby.report.folder import read_run
from passerby.report.page import write_report
from passerby.training import run_log
from passerby.training.session import train
from tests.conftest import copy_marked
from tests.reference_rows import as_duke, at, resolved
from tests.test_recipes import TINY

FAMILIES = ("continual", "lwf", "lifelong")
BOTH = ["market1501", "dukemtmc"]
UNSEEN = ["cuhk01", "cuhk02", "viper", "prid2011", "ilids", "grid", "sensereid"]
ORDERS = {
    "order_1": ["market1501", "cuhk_sysu", "dukemtmc", "msmt17", "cuhk03"],
    "order_2": ["dukemtmc", "msmt17", "market1501", "cuhk_sysu", "cuhk03"],
    "without_duke": ["market1501", "cuhk_sysu", "msmt17", "cuhk03"],
}
FURTHER_ORDERS = {
    "order_51": ["msmt17", "cuhk_sysu", "dukemtmc", "market1501", "cuhk03"],
    "order_52": ["dukemtmc", "market1501", "cuhk03", "msmt17", "cuhk_sysu"],
    "order_53": ["cuhk_sysu", "dukemtmc", "cuhk03", "msmt17", "market1501"],
    "order_54": ["cuhk03", "msmt17", "dukemtmc", "market1501", "cuhk_sysu"],
    "order_55": ["market1501", "msmt17", "dukemtmc", "cuhk_sysu", "cuhk03"],
}
METHODS = ("lwf", "affinity", "lstkc", "lstkc_pp", "dask", "dkp", "dkp_pp")
LWF = {
    "ibn_b_resnet50-01": ({"ce_dist": 1.0}, 1.0, (47.0, -36.3, 66.3)),
    "ibn_b_resnet50-02": ({"ce_dist": 1.0}, 0.2, (46.7, -36.6, 65.0)),
    "ibn_b_resnet50-03": ({"tr_dist": 1.0}, 1.0, (48.6, -34.7, 66.6)),
    "ibn_b_resnet50-04": ({"ce_dist": 1.0, "tr_dist": 1.0}, 1.0, (48.6, -34.7, 66.6)),
    "ibn_b_resnet50-05": (None, None, (47.1, -36.2, 57.2)),
    "ibn_a_resnet50-06": ({"tr_dist": 1.0}, 1.0, None),
    "ibn_a_resnet50-07": ({"ce_dist": 1.0}, 1.0, None),
    "ibn_a_resnet50-08": ({"ce_dist": 1.0, "tr_dist": 1.0}, 1.0, None),
}
"""Terms, weight of the identity loss (None = no such loss), and mAP, change and mAP on dukemtmc."""
PUBLISHED = {
    "order_1-fine_tune": [(32.7, 58.3), (58.0, 60.6), (25.2, 43.8), (4.5, 13.1), (41.3, 43.4)],
    "order_1-lwf": [(56.3, 77.1), (72.9, 75.1), (29.6, 46.5), (6.0, 16.6), (36.1, 37.5)],
    "order_1-dask": [(61.2, 82.3), (81.9, 83.7), (58.5, 74.6), (29.1, 57.6), (46.2, 48.1)],
    "order_1-dkp": [(60.3, 80.6), (83.6, 85.4), (51.6, 68.4), (19.7, 41.8), (43.6, 44.2)],
    "order_1-dkp_pp": [(63.9, 83.6), (83.7, 85.3), (56.7, 74.1), (26.5, 52.6), (46.5, 47.6)],
    "order_1-lstkc_pp": [(65.3, 83.2), (85.8, 87.5), (56.0, 70.5), (21.0, 43.5), (47.7, 48.9)],
    "order_1-lstkc": [(54.7, 76.0), (81.1, 83.4), (49.4, 66.2), (20.0, 43.2), (44.7, 46.5)],
}
LPW = {
    "lifelong": {
        "lwf": [(44.4, 68.7), (66.6, 69.8), (25.0, 36.0), (6.8, 19.6), (52.9, 53.6)],
        "lstkc_pp": [(67.5, 83.9), (86.3, 88.2), (52.1, 61.9), (19.4, 40.3), (47.0, 47.8)],
        "dask": [(49.3, None), (74.9, None), (45.7, None), (17.6, None), (34.5, None)],
        "dkp_pp": [(52.1, None), (75.6, None), (45.2, None), (14.9, None), (40.1, None)],
    },
    "lifelong_clip": {
        "lwf": [(51.4, 77.6), (73.6, 76.5), (36.3, 46.9), (13.7, 35.0), (27.2, 26.0)],
        "lstkc": [(79.8, 91.4), (92.0, 92.7), (65.8, 75.1), (37.8, 63.5), (60.6, 62.4)],
        "lstkc_pp": [(69.3, 85.5), (89.9, 90.9), (60.3, 71.4), (38.3, 64.0), (69.1, 70.4)],
        "dask": [(79.7, 90.7), (91.0, 91.7), (64.7, 73.9), (42.1, 67.9), (63.4, 65.5)],
        "dkp": [(81.1, None), (90.0, None), (66.9, None), (37.4, None), (59.5, None)],
        "dkp_pp": [(79.4, None), (87.8, None), (66.1, None), (37.7, None), (57.9, None)],
    },
}
"""Figures of the order with LPW in the place of dukemtmc, by recipe and method."""
COMMON = {
    "input.size": [256, 128], "input.interpolation": "bicubic",
    "data.sampler.kind": "pk_cameras", "data.sampler.identities": 32, "data.sampler.instances": 4,
    "data.augment.flip": 0.5, "data.augment.pad": 10, "data.augment.erase.probability": 0.5,
    "model.backbone": "resnet50.tv_in1k", "model.last_stride": 1, "model.pool": "gem_learned", "model.neck": "bnneck",
    "losses.softmax.smoothing": 0.0, "losses.triplet.form": "soft", "losses.triplet.distance": "euclidean_norm",
    "losses.triplet.feature": "before_neck", "optim.name": "sgd", "optim.lr": 8e-3, "optim.momentum": 0.9,
    "optim.weight_decay": 1e-4, "optim.schedule": "multistep", "optim.warmup_epochs": 10.0,
    "optim.warmup_factor": 0.01, "optim.milestones": [30], "optim.gamma": 0.1, "test.feature": "before_neck",
    "test.distance": "cosine", "test.rerank": None, "stages.0.epochs": 80, "stages.0.identities": 500,
}  # fmt: skip


def chosen(stage):
    return {name: method for name, method in stage["method"].items() if method is not None}


def without_stages(recipe):
    return {key: value for key, value in recipe.items() if key not in ("stages", "evaluate", "method")}


def test_every_row_of_these_families_is_a_row():
    controls = ("fine_tune", "average", "duke_only", "joint")
    methods = {"order_1": ("joint",), "order_2": (), "without_duke": ("joint",)}
    last = ["lifelong/without_duke-unlabelled"]
    rows = [f"continual/ibn_{kind}_resnet50-{control}" for kind in "ba" for control in controls]
    rows += [f"lwf/{name}" for name in LWF]
    for order, more in methods.items():
        rows += [f"lifelong/{order}-{method}" for method in ("fine_tune", *METHODS, *more)]
        rows += [f"lifelong/{number}-lstkc_pp" for number in FURTHER_ORDERS if order == "order_2"]
    rows += [f"{family}/lpw_1-{method}" for family, figures in LPW.items() for method in ("fine_tune", *figures)]
    assert [name for name in shipped_rows() if name.startswith(FAMILIES)] == [*rows, *last]


@pytest.mark.parametrize("name", LWF)
def test_a_row_of_lwf_is_the_baseline_then_dukemtmc_with_its_terms(name):
    terms, weight, figures = LWF[name]
    recipe, baseline = resolved(f"lwf/{name}"), resolved("baseline")
    ibn = name[4]
    expected = without_stages(baseline) | {"model": {**baseline["model"], "ibn": ibn}}
    assert without_stages(recipe) == expected
    first, second = recipe["stages"]
    assert first == {**baseline["stages"][0], "train": ["market1501"]}
    assert (second["train"], second["epochs"]) == (["dukemtmc"], 30 if weight is None else 150)
    assert second["optim"] == {**baseline["optim"], "lr": 3.5e-5}
    softmax = None if weight is None else {**baseline["losses"]["softmax"], "weight": weight}
    assert second["losses"] == {**baseline["losses"], "softmax": softmax}
    assert set(chosen(second)) == ({"lwf"} if terms else set())
    if terms:
        lwf = second["method"]["lwf"]
        assert {key: lwf[key] for key in ("ce_dist", "tr_dist", "heads") if lwf[key]} == terms
        assert (lwf["temperature"], lwf["scale"], lwf["margin"], lwf["feature"]) == (10.0, "none", 0.3, "after_neck")
    results = {}
    if figures is not None:
        results = {
            "market1501": ReferenceResult(mAP=figures[0], forgetting=figures[1]),
            "dukemtmc": ReferenceResult(mAP=figures[2]),
        }
    assert load_recipe(f"lwf/{name}").reference_results == results


@pytest.mark.parametrize(
    ("name", "count", "distance"), [("", 1, "mse"), ("_bce", 2, "bce"), ("_mse", 2, "mse")], ids=["code", "bce", "mse"]
)
def test_a_code_before_pooling_is_made_in_step_1_and_held_in_step_2(name, count, distance):
    recipe = load_recipe(f"ebll/ibn_a_resnet50-before_pooling{name}")
    assert [stage.train for stage in recipe.stages] == [("market1501",), ("dukemtmc",)][:count]
    codes = [stage.method.ebll for stage in recipe.stages]
    assert {(code.place, code.kernel, code.code, code.autoencoders, code.strength) for code in codes} == {
        ("before_pooling", 1, 512, ("ae", "ae_l1", "ae_l2"), 0.01)
    }
    assert [code.epochs for code in codes] == [150, 0][:count]
    assert {code.distance for code in codes} == {distance}
    assert [stage.method.lwf is not None for stage in recipe.stages] == [False, True][:count]
    assert recipe.reference_results == {}
    assert shipped_rows()[recipe.reference].summary == "no reference results"


@pytest.mark.parametrize("ibn", ["a", "b"])
def test_the_controls_differ_from_the_rows_in_what_they_control(ibn):
    controls = {
        name: resolved(f"continual/ibn_{ibn}_resnet50-{name}")
        for name in ("fine_tune", "average", "duke_only", "joint")
    }
    row = resolved(f"lwf/ibn_{ibn}_resnet50-0{1 if ibn == 'b' else 7}")
    tuned, averaged = (controls[name]["stages"] for name in ("fine_tune", "average"))
    assert tuned == [row["stages"][0], {**row["stages"][1], "method": {**row["stages"][1]["method"], "lwf": None}}]
    assert averaged == [tuned[0], {**tuned[1], "method": {**tuned[1]["method"], "average": {"alpha": 0.5}}}]
    (alone,), (joint,) = (controls[name]["stages"] for name in ("duke_only", "joint"))
    assert (alone["train"], joint["train"]) == (["dukemtmc"], BOTH)
    assert {**alone, "train": None} == {**joint, "train": None} == {**tuned[0], "train": None}
    assert all(without_stages(control) == without_stages(row) for control in controls.values())
    assert load_recipe(f"continual/ibn_{ibn}_resnet50-duke_only").tested == tuple(BOTH)


def test_the_lifelong_recipe_is_the_common_one():
    recipe = resolved("lifelong")
    assert {path: at(recipe, path) for path in COMMON} == COMMON
    assert load_recipe("lifelong", ["root=here"]).dataset("cuhk03").model_dump() == {
        "kind": "cuhk03", "root": "here", "boxes": "labelled", "masks": None,
    }  # fmt: skip


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("method", ["fine_tune", *METHODS])
def test_an_order_learns_500_people_of_each_set_in_turn(order, method):
    recipe, common = load_recipe(f"lifelong/{order}-{method}"), load_recipe("lifelong")
    assert [stage.train for stage in recipe.stages] == [(name,) for name in ORDERS[order]]
    assert [stage.epochs for stage in recipe.stages] == [80] + [60] * (len(recipe.stages) - 1)
    methods = {
        "fine_tune": set(), "lwf": {"lwf"}, "affinity": {"affinity", "average", "grow"},
        "lstkc": {"affinity", "average", "grow"}, "lstkc_pp": {"lstkc_pp", "grow"},
        "dask": {"affinity", "average", "grow", "dask"}, "dkp": {"dkp", "average", "grow"},
        "dkp_pp": {"dkp", "dask", "affinity", "average", "grow"},
    }[method]  # fmt: skip
    for stage in recipe.stages:
        assert stage.identities == 500
        early = method.startswith("dkp") and stage.train == ("msmt17",)
        assert stage.optim == (common.optim.model_copy(update={"milestones": (20, 30)}) if early else common.optim)
        assert stage.losses == common.losses or method in ("lstkc_pp", "dkp", "dkp_pp")
        assert set(stage.method.chosen) == methods
        if method in ("affinity", "lstkc", "dask"):
            assert stage.method.affinity.rectified is (method == "lstkc")
            assert stage.method.average.alpha == ("adaptive" if method == "lstkc" else 0.5)
        if method == "lwf":
            lwf = stage.method.lwf
            assert (lwf.heads, lwf.heads_temperature, lwf.ce_dist, lwf.tr_dist) == (1.0, 2.0, 0.0, 0.0)
    assert sorted(recipe.tested) == sorted([*ORDERS[order], *UNSEEN])
    assert (recipe.input, recipe.model) == (common.input, common.model)
    assert (recipe.data, recipe.test) == (common.data, common.test) or method in ("lstkc_pp", "dkp_pp")


@pytest.mark.parametrize("order", [*ORDERS, *FURTHER_ORDERS])
def test_the_rows_of_lstkc_pp_compare_raw_features_in_batches_of_64(order):
    recipe, common = load_recipe(f"lifelong/{order}-lstkc_pp"), load_recipe("lifelong")
    assert [stage.train for stage in recipe.stages] == [(name,) for name in (ORDERS | FURTHER_ORDERS)[order]]
    for stage in recipe.stages:
        sampler, triplet, method = stage.data.sampler, stage.losses.triplet, stage.method.lstkc_pp
        assert (sampler.kind, sampler.identities, sampler.instances) == ("pk_cameras", 8, 8)
        assert (triplet.distance, triplet.feature) == ("euclidean", "before_neck")
        assert (method.weight, method.temperature, method.scale) == (1.0, 0.1, 400.0)
        assert (method.feature, method.distance) == ("before_neck", "euclidean")
        assert stage.method.grow.new == "means_before_neck"
        assert stage.optim == common.optim
    assert (recipe.test.feature, recipe.test.distance) == ("before_neck", "euclidean")


@pytest.mark.parametrize("order", ORDERS)
def test_the_rows_of_dkp_have_its_losses_of_samples_alone(order):
    plain, better = (load_recipe(f"lifelong/{order}-{name}") for name in ("dkp", "dkp_pp"))
    for stage in (*plain.stages, *better.stages):
        (softmax,) = stage.losses.chosen.values()
        method = stage.method.dkp
        assert softmax.weight + method.softmax == pytest.approx(1)
        assert (softmax.weight / method.softmax, method.samples) == (pytest.approx(1 / 6, rel=0.01), 6)
        assert (method.triplet, method.temperature) == (1.5, 0.1)
        assert (stage.method.average.alpha, stage.method.grow.new) == (0.5, "means_before_neck")
    weights = [(stage.method.dkp.relation, stage.method.dkp.joint) for stage in (plain.stages[1], better.stages[1])]
    assert weights == [(0.1, 0.0), (1.5, 0.75)]
    stage = better.stages[1]
    assert (stage.method.affinity.weight, stage.method.affinity.images) == (0.75, "transferred")
    assert (stage.method.dask.weight, stage.method.dask.steps, stage.method.dask.batch) == (1.0, 20_000, 128)
    assert (stage.data.sampler.identities, stage.data.sampler.instances) == (16, 4)


@pytest.mark.parametrize("order", ["order_1", "without_duke"])
def test_a_joint_upper_bound_learns_the_same_people_at_once(order):
    (stage,) = load_recipe(f"lifelong/{order}-joint").stages
    assert (stage.train, stage.identities, stage.epochs) == (tuple(ORDERS[order]), 500, 80)


def test_the_order_without_dukemtmc_needs_no_dukemtmc():
    for name in (name for name in shipped_rows() if "without_duke" in name):
        recipe = load_recipe(name)
        assert "dukemtmc" not in {*recipe.tested, *(each for stage in recipe.stages for each in stage.train)}


def test_published_figures_stand_only_where_the_method_and_the_order_are_theirs():
    for name, row in shipped_rows().items():
        if not name.startswith("lifelong/") or "lpw" in name:
            continue
        found = PUBLISHED.get(name.removeprefix("lifelong/"), [])
        pairs = zip(ORDERS["order_1"], found, strict=False)
        assert row.results == {site: ReferenceResult(mAP=mAP, rank1=rank1) for site, (mAP, rank1) in pairs}


@pytest.mark.parametrize(("family", "method"), [(family, method) for family in LPW for method in LPW[family]])
def test_the_order_with_lpw_has_the_figures_of_its_table(family, method):
    name, order = f"{family}/lpw_1-{method}", ["market1501", "cuhk_sysu", "lpw", "msmt17", "cuhk03"]
    recipe, alike = load_recipe(name), load_recipe(f"lifelong/order_1-{method}")
    assert [stage.train for stage in recipe.stages] == [(each,) for each in order]
    pairs = zip(order, LPW[family][method], strict=True)
    assert shipped_rows()[name].results == {each: ReferenceResult(mAP=m, rank1=r) for each, (m, r) in pairs}
    assert [stage.method for stage in recipe.stages] == [stage.method for stage in alike.stages]
    assert sorted(recipe.tested) == sorted([*order, *UNSEEN])
    assert (recipe.model.backbone == "clip_vit") == (family == "lifelong_clip")
    if family == "lifelong":
        assert (recipe.data, recipe.stages[0].losses) == (alike.data, alike.stages[0].losses)
        assert (recipe.optim, recipe.test) == (alike.optim, alike.test)


# ---- a few steps of some


def test_a_row_of_lwf_trains_and_shows_what_was_forgotten_beside_the_reference(site, tmp_path):
    as_duke(site, tmp_path / "data" / "DukeMTMC-reID")
    (tmp_path / "data" / "Market-1501-v15.09.15").symlink_to(site)
    recipe = load_recipe("lwf/ibn_b_resnet50-04", [f"root={tmp_path / 'data'}", *TINY, "stages.1.epochs=1"])
    market, duke = train(recipe, tmp_path / "run")
    records = run_log.read(tmp_path / "run" / "log.jsonl")
    terms = [set(epoch.terms) for epoch in run_log.epochs(records)]
    assert terms == [{"softmax", "triplet"}, {"softmax", "triplet", "ce_dist", "tr_dist"}]
    after = {(score.stage, score.dataset): 100 * score.mAP for score in run_log.scores(records)}
    lost = after[2, "market1501"] - after[1, "market1501"]
    assert (market.forgetting, duke.forgetting) == (pytest.approx(lost), None)
    scores = json.loads((tmp_path / "run" / "scores.json").read_text())
    assert scores["market1501"]["forgetting"] == pytest.approx(lost)
    first, second = read_run(tmp_path / "run").results
    assert [(row.figure, row.reference) for row in first.comparisons] == [("mAP", 48.6), ("forgetting", -34.7)]
    assert first.comparisons[1].measured == pytest.approx(lost)
    assert [(row.figure, row.reference) for row in second.comparisons] == [("mAP", 66.6)]
    assert any(UNLIKE_PUBLISHED in caveat for caveat in market.reference.caveats)


def test_a_row_that_leaves_a_code_shows_its_losses_beside_the_reference(site, tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "Market-1501-v15.09.15").symlink_to(site)
    small = ["method.ebll.code=8", "method.ebll.epochs=60", "method.ebll.lr=0.02", "method.ebll.batch=16"]
    small.append("method.ebll.milestones=[]")
    recipe = load_recipe("ebll/ibn_a_resnet50-18", [f"root={tmp_path / 'data'}", *TINY, *small])
    (result,) = train(recipe, tmp_path / "run")
    (finding,) = run_log.metrics(run_log.read(tmp_path / "run" / "log.jsonl"))
    (site_read,) = read_run(tmp_path / "run").results
    rows = {row.figure: row for row in site_read.comparisons}
    for name, reference in (("ae", 0.0010), ("ae_l1", 0.0194), ("ae_l2", 0.0014)):
        assert result.losses[name] == finding.values[name]
        assert finding.values[name] >= finding.values[f"{name} error"] * (1 - 1e-6)  # of its own autoencoder
        row = rows[f"{name} (loss)"]
        assert (row.reference, row.measured) == (reference, pytest.approx(finding.values[name]))
    console = Console(record=True, width=120)
    print_reference_results([result], console)
    assert re.search(r"ae_l1 \(loss\) +│ +0\.0194 +│ +\d\.\d{4}", console.export_text())
    assert "<td>0.0194</td>" in write_report(tmp_path / "run").read_text()


def test_a_lifelong_order_trains_through_all_its_stages(site, tmp_path):
    names = [*ORDERS["without_duke"][:3], "last"]
    roots = {name: shutil.copytree(site, tmp_path / "sites" / name, copy_function=copy_marked) for name in names}
    same = ", ".join(f"{name}: {{kind: market1501, root: {root}}}" for name, root in roots.items())
    tiny = [value for value in TINY if not value.startswith("test.rerank")]
    short = [f"stages.{number}.epochs=1" for number in range(4)]
    overrides = [f"datasets={{{same}}}", *tiny, *short, "stages.3.train=[last]", "evaluate=[market1501]"]
    said = []
    (result,) = train(load_recipe("lifelong/without_duke-lstkc", overrides), tmp_path / "run", say=said.append)
    assert "cuhk_sysu: cuhk_sysu has 6 identities, so identities: 500 leaves none out" in said
    records = run_log.read(tmp_path / "run" / "log.jsonl")
    assert [set(epoch.terms) - {"softmax", "triplet"} for epoch in run_log.epochs(records)] == [
        set(), {"affinity"}, {"affinity"}, {"affinity"},
    ]  # fmt: skip
    assert [finding.stage for finding in run_log.metrics(records)] == [2, 3, 4]
    assert (result.reference, result.reranked) == (None, None)
    assert result.plain.protocol.feature == "before_neck"
    assert result.forgetting is not None
