"""Every reference row differs from its parent as stated, holds the published results, and trains."""

import json
import shutil
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import timm
import torch

from passerby.errors import UserError
from passerby.models.embedder import Embedder
from passerby.recipe import load_recipe, make_recipe
from passerby.reference_results import (
    Comparison,
    Figures,
    ReferenceResult,
    compare,
    read_rows,
    shipped_recipes,
    shipped_rows,
)
from passerby.settings import parse_yaml
from passerby.training import run_log
from passerby.training.session import train
from tests.conftest import copy_marked
from tests.test_recipes import TINY

LEARNED = {"losses.softmax.weight": "learned"}
SE, A, B = {"model.attention": "se"}, {"model.ibn": "a"}, {"model.ibn": "b"}
THREE = ["market1501", "dukemtmc", "msmt17"]
BEFORE_POOLING = {"method.ebll.place": "before_pooling"}
ARCFACE = {"weight": 1.0, "scale": 64.0, "smoothing": 0.0, "feature": "after_neck", "margin": 0.5, "beyond": "monotone"}

EBLL = {
    "place": "after_pooling", "code": 512, "activation": "sigmoid", "kernel": 1,
    "autoencoders": ["ae", "ae_l1", "ae_l2"], "strength": 0.01, "reduction": "sum", "task": 0.0, "epochs": 150,
    "batch": 128, "lr": 3.5e-4, "milestones": [40, 70], "weight": 1.0, "distance": "mse", "temperature": 10.0,
    "scale": "none",
}  # fmt: skip
TR_DIST = {
    "ce_dist": 0.0, "tr_dist": 1.0, "heads": 0.0, "temperature": 10.0, "scale": "none", "margin": 0.3,
    "heads_temperature": 2.0, "feature": "after_neck",
}  # fmt: skip
THEN_DUKE = {
    "stages.1.train": ["dukemtmc"], "stages.1.optim.lr": 3.5e-5, "stages.1.losses.softmax.weight": 1.0,
    "stages.1.method.lwf": TR_DIST, "stages.1.method.ebll.epochs": 0,
}  # fmt: skip


@dataclass(frozen=True)
class Row:
    """What a row says: its parent, all that differs, and the figures (mAP, rank-1, and where given mean)."""

    parent: str
    differs: dict[str, object]
    figures: dict[str, tuple[float, ...]] = field(default_factory=dict)
    reranked: tuple[float, float] | None = None
    losses: tuple[float, ...] = ()


def market(parent, differs, *figures, reranked=None):
    return Row(f"market1501/{parent}", differs, {"market1501": figures}, reranked)


def code(parent, differs, *figures, losses):
    return Row(parent, differs, {"market1501": figures}, losses=losses)


def held(parent, differs, before, after):
    return Row(f"ebll/ibn_a_resnet50-{parent}", differs, {"market1501": (before,), "dukemtmc": (after,)})


ROWS = {
    "market1501/resnet50-01": Row(
        "baseline", {"stages.0.train": ["market1501"]}, {"market1501": (85.8, 94.2, 90.10)}
    ),
    "market1501/resnet50-02": market("resnet50-01", {}, 85.8, 94.2, 90.10, reranked=(94.2, 95.0)),
    "market1501/resnet50-03": market("resnet50-01", {"data.sampler.identities": 32}, 85.0, 93.8, 89.97),
    "market1501/resnet50-04": market("resnet50-01", {"losses.arcface": ARCFACE}, 70.9, 89.2, 81.01),
    "market1501/resnet50-05": market("resnet50-01", {"losses.triplet.weight": 2.0}, 86.5, 94.1, 90.30),
    "market1501/resnet50-07": market("resnet50-01", {"losses.triplet.weight": 10.0}, 84.4, 92.6, 88.50),
    "market1501/resnet50-08": market("resnet50-01", {"losses.triplet.weight": 5.0}, 85.6, 93.9, 89.70),
    "market1501/resnet50-09": market("resnet50-01", LEARNED, 86.7, 93.9, 90.36),
    "market1501/se_resnet50-11": market("resnet50-09", SE, 86.2, 93.6, 89.94),
    "market1501/ibn_a_resnet50-12": market("resnet50-09", A, 88.3, 95.0, 91.68, reranked=(94.4, 95.6)),
    "market1501/ibn_b_resnet50-13": market("resnet50-09", B, 83.6, 92.8, 88.17),
    "market1501/se_ibn_a_resnet50-14": market("resnet50-09", SE | A, 87.9, 94.5, 91.21),
    "market1501/se_ibn_b_resnet50-15": market("resnet50-09", SE | B, 82.6, 92.6, 87.63),
    "market1501/resnet50-16": market("resnet50-09", {"losses.triplet.weight": 2.0}, 86.5, 93.9, 90.18),
    "market1501/resnet50-17": market("resnet50-16", {"losses.triplet.form": "pull"}, 86.2, 94.3, 90.26),
    "market1501/resnet101-01": market(
        "resnet50-01", {"model.backbone": "resnet101.tv_in1k", **LEARNED}, 87.7, 94.6, 91.15
    ),
    "market1501/se_resnet101-02": market("resnet101-01", SE, 87.5, 94.3, 90.98),
    "market1501/ibn_a_resnet101-03": market("resnet101-01", A, 88.6, 95.0, 91.77, reranked=(94.5, 95.8)),
    "market1501/ibn_b_resnet101-04": market("resnet101-01", B, 83.6, 92.8, 88.22),
    "market1501/se_ibn_a_resnet101-05": market("resnet101-01", SE | A, 88.6, 94.8, 91.70),
    "market1501/se_ibn_b_resnet101-06": market("resnet101-01", SE | B, 83.7, 93.5, 88.57),
    "market1501/resnext101_32x8d-01": market(
        "resnet50-01", {"model.backbone": "resnext101_32x8d.tv_in1k", **LEARNED}, 88.6, 95.0, 91.81
    ),
    "market1501/se_resnext101_32x8d-02": market("resnext101_32x8d-01", SE, 88.3, 95.0, 91.66),
    "market1501/ibn_a_resnext101_32x8d-03": market("resnext101_32x8d-01", A, 89.0, 95.3, 92.16, reranked=(94.5, 95.7)),
    "market1501/ibn_b_resnext101_32x8d-04": market("resnext101_32x8d-01", B, 84.1, 93.1, 88.61),
    "market1501/se_ibn_a_resnext101_32x8d-05": market("resnext101_32x8d-01", SE | A, 88.6, 95.3, 91.98),
    "market1501/se_ibn_b_resnext101_32x8d-06": market("resnext101_32x8d-01", SE | B, 83.4, 92.7, 88.29),
    "dukemtmc/resnet50-01": Row("baseline", {"stages.0.train": ["dukemtmc"]}, {"dukemtmc": (76.4, 86.7)}),
    "dukemtmc/ibn_a_resnet50-02": Row("dukemtmc/resnet50-01", A | LEARNED, {"dukemtmc": (75.4, 86.0)}),
    "dukemtmc/ibn_a_resnet50-03": Row("dukemtmc/ibn_a_resnet50-02", {"engine.seed": 1}, {"dukemtmc": (76.8, 87.9)}),
    "msmt17/resnet50-01": Row("baseline", {"stages.0.train": ["msmt17"], **LEARNED}, {"msmt17": (46.2, 64.8)}),
    "msmt17/ibn_a_resnet50-02": Row(
        "baseline", {"stages.0.train": ["msmt17"], **A, **LEARNED}, {"msmt17": (51.4, 69.8)}
    ),
    "joint/resnet50-01": Row(
        "baseline",
        {"stages.0.train": THREE, "stages.0.epochs": 520},
        {"market1501": (86.8, 94.6), "dukemtmc": (78.6, 88.0), "msmt17": (48.9, 67.5)},
    ),
    "joint/ibn_a_resnet50-02": Row(
        "baseline", {"stages.0.train": THREE, "stages.0.epochs": 540, **A, **LEARNED}, {}
    ),
    "ebll/ibn_a_resnet50-19": code(
        "market1501/ibn_a_resnet50-12", {"method.ebll": EBLL}, 88.1, 94.9, losses=(0.0010, 0.0104, 0.0014)
    ),
    "ebll/ibn_a_resnet50-18": code(
        "ebll/ibn_a_resnet50-19", {"method.ebll.code": 1024}, 88.0, 95.0, losses=(0.0010, 0.0194, 0.0014)
    ),
    "ebll/ibn_a_resnet50-20": code(
        "ebll/ibn_a_resnet50-18", {"method.ebll.strength": 0.1}, 87.7, 94.7, losses=(0.0029, 0.6125, 0.1796)
    ),
    "ebll/ibn_a_resnet50-21": code(
        "ebll/ibn_a_resnet50-18", {"method.ebll.strength": 0.05}, 88.0, 94.6, losses=(0.0010, 0.0915, 0.0014)
    ),
    "ebll/ibn_a_resnet50-06": held(
        "19", {"method.ebll.autoencoders": ["ae"], "method.ebll.distance": "bce", **THEN_DUKE}, 42.0, 72.8
    ),
    "ebll/ibn_a_resnet50-07": held("06", {"method.ebll.autoencoders": ["ae_l1"]}, 41.8, 72.9),
    "ebll/ibn_a_resnet50-08": held("06", {"method.ebll.autoencoders": ["ae_l2"]}, 41.6, 73.0),
    "ebll/ibn_a_resnet50-09": held("06", {"method.ebll.autoencoders": ["ae", "ae_l1", "ae_l2"]}, 41.8, 72.7),
    "ebll/ibn_a_resnet50-10": held("06", {"method.ebll.distance": "mse"}, 41.9, 72.9),
    "ebll/ibn_a_resnet50-11": held("10", {"method.ebll.autoencoders": ["ae_l1"]}, 42.4, 72.7),
    "ebll/ibn_a_resnet50-12": held("10", {"method.ebll.autoencoders": ["ae_l2"]}, 42.9, 72.8),
    "ebll/ibn_a_resnet50-13": held("10", {"method.ebll.autoencoders": ["ae", "ae_l1", "ae_l2"]}, 43.2, 72.6),
    "ebll/ibn_a_resnet50-before_pooling": Row("ebll/ibn_a_resnet50-19", BEFORE_POOLING),
    "ebll/ibn_a_resnet50-before_pooling_bce": Row("ebll/ibn_a_resnet50-09", BEFORE_POOLING),
    "ebll/ibn_a_resnet50-before_pooling_mse": Row("ebll/ibn_a_resnet50-13", BEFORE_POOLING),
}  # fmt: skip
"""The tables, row by row. Two rows that are one run twice differ in the seed."""

BASELINE = {
    "input.size": [256, 128], "data.sampler.identities": 16, "data.sampler.instances": 4, "data.augment.flip": 0.5,
    "data.augment.pad": 10, "data.augment.erase.probability": 0.5, "data.augment.jitter": None,
    "model.backbone": "resnet50.tv_in1k", "model.weights": "pretrained", "model.last_stride": 1, "model.neck": "bnneck",
    "model.ibn": "none", "model.attention": "none", "model.non_local": "none", "model.pool": "avg",
    "losses.softmax.smoothing": 0.1, "losses.softmax.weight": 1.0, "losses.triplet.margin": 0.3,
    "losses.triplet.form": "hard", "losses.triplet.weight": 1.0, "losses.arcface": None, "losses.center": None,
    "optim.name": "adam", "optim.lr": 3.5e-4, "optim.weight_decay": 5e-4, "optim.schedule": "multistep",
    "optim.warmup_epochs": 10.0, "optim.warmup_factor": 0.01, "optim.milestones": [40, 70], "optim.gamma": 0.1,
    "stages.0.epochs": 150,
}  # fmt: skip


def resolved(name):
    """Return the resolved recipe without its description, reference row and reference results."""
    data = load_recipe(name).model_dump(mode="json")
    return {key: value for key, value in data.items() if key not in ("description", "reference", "reference_results")}


def with_stages(differs, *, count=1):
    """Add the places that the stages take over from their recipe."""
    shared = {path: value for path, value in differs.items() if path.startswith(("losses.", "method.", "data."))}
    return {f"stages.{number}.{path}": value for number in range(count) for path, value in shared.items()} | differs


def at(data, path):
    for key in path.split("."):
        data = data[int(key) if isinstance(data, list) else key]
    return data


def differences(before, after, path=""):
    """Every place in which two resolved recipes differ, with what stands there afterwards."""
    if isinstance(before, dict) and isinstance(after, dict):
        assert before.keys() == after.keys()
        found = [differences(before[key], after[key], f"{path}.{key}") for key in before]
        return {place: value for part in found for place, value in part.items()}
    if path == ".stages":  # a stage that was added is compared with the last of those before
        pairs = [(before[min(number, len(before) - 1)], stage) for number, stage in enumerate(after)]
        found = [differences(old, new, f".stages.{number}") for number, (old, new) in enumerate(pairs)]
        return {place: value for part in found for place, value in part.items()}
    return {} if before == after else {path[1:]: after}


def test_the_shipped_rows_are_those_of_the_tables():
    families = {name.partition("/")[0] for name in ROWS}
    assert [name for name in shipped_rows() if name.partition("/")[0] in families] == list(ROWS)


def test_the_baseline_is_what_the_tables_call_so():
    assert {path: at(resolved("baseline"), path) for path in BASELINE} == BASELINE


@pytest.mark.parametrize("name", ROWS)
def test_a_row_differs_from_its_parent_as_stated_and_in_nothing_else(name):
    row = ROWS[name]
    count = len(resolved(name)["stages"])
    assert count >= len(resolved(row.parent)["stages"])
    assert differences(resolved(row.parent), resolved(name)) == with_stages(row.differs, count=count)
    assert shipped_rows()[name].based_on == row.parent


def test_a_row_that_is_two_rows_together_differs_from_each_by_the_other():
    both = resolved("market1501/resnet50-16")
    assert differences(resolved("market1501/resnet50-05"), both) == with_stages(LEARNED)
    assert differences(resolved("market1501/resnet50-09"), both) == with_stages({"losses.triplet.weight": 2.0})


@pytest.mark.parametrize("name", ROWS)
def test_the_reference_results_are_the_published_ones_and_part_of_the_recipe(name):
    row, recipe = ROWS[name], load_recipe(name)
    reranked = None if row.reranked is None else Figures(mAP=row.reranked[0], rank1=row.reranked[1])
    losses = dict(zip(("ae", "ae_l1", "ae_l2"), row.losses, strict=False))
    results = {
        dataset: ReferenceResult(
            **dict(zip(("mAP", "rank1", "mean"), found, strict=False)), reranked=reranked, **losses
        )
        for dataset, found in row.figures.items()
    }
    assert recipe.reference_results == shipped_rows()[name].results == results
    assert recipe.reference == name
    assert make_recipe(parse_yaml(recipe.dump(), source="dump"), source="dump") == recipe


@pytest.mark.parametrize("name", ROWS)
def test_the_whole_network_of_a_row_can_be_built_and_has_weights(name):
    recipe = load_recipe(name, ["model.weights=none"])
    assert timm.models.get_pretrained_cfg(recipe.model.backbone).has_weights
    with torch.device("meta"):
        embedder = Embedder(recipe.model, recipe.input)
    assert embedder.dimension == 2048
    assert load_recipe(name).model.weights == "pretrained"


# ---- two steps of each


def as_duke(site: Path, folder: Path) -> Path:
    """Copy a site in the layout of Market-1501 into that of DukeMTMC-reID."""
    for path in sorted(site.rglob("*.jpg")):
        pid, cam, number, _ = path.stem.split("_")
        (folder / path.parent.name).mkdir(parents=True, exist_ok=True)
        copy_marked(path, folder / path.parent.name / f"{pid}_c{cam[1]}_f{number}.jpg")
    return folder


def as_msmt(site: Path, folder: Path) -> Path:
    """Copy a site in the layout of Market-1501 into that of MSMT17."""
    parts = {"train": "bounding_box_train", "val": "", "query": "query", "gallery": "bounding_box_test"}
    for part, source in parts.items():
        inner, lines = "train" if part in ("train", "val") else "test", []
        for path in sorted((site / source).glob("*.jpg")) if source else []:
            pid, cam, number, _ = path.stem.split("_")
            name = f"{pid}/{pid}_{number[-3:]}_{cam[1:].split('s')[0]:0>2}_{path.parent.name}.jpg"
            (folder / inner / pid).mkdir(parents=True, exist_ok=True)
            copy_marked(path, folder / inner / name)
            lines.append(f"{name} {int(pid) - (1 if inner == 'train' else 7)}\n")
        (folder / f"list_{part}.txt").write_text("".join(lines))
    return folder


@pytest.fixture(scope="module")
def sites(site, tmp_path_factory) -> Path:
    """The tiny site three times, in one folder, as each of the three sets lies."""
    root = tmp_path_factory.mktemp("three")
    shutil.copytree(site, root / "Market-1501-v15.09.15")
    as_duke(site, root / "DukeMTMC-reID")
    as_msmt(site, root / "MSMT17_V1")
    return root


@pytest.mark.parametrize("name", [name for name in ROWS if not name.startswith(("joint", "ebll"))])
def test_a_row_trains(name, sites, tmp_path):
    recipe = load_recipe(name, [f"root={sites}", *TINY, "evaluate=[]"])
    train(recipe, tmp_path)
    (epoch,) = run_log.epochs(run_log.read(tmp_path / "log.jsonl"))
    assert epoch.loss > 0
    assert set(epoch.terms) == set(load_recipe(name).losses.chosen)


@pytest.mark.parametrize("name", [name for name in ROWS if name.startswith("joint")])
def test_a_joint_row_trains_on_all_and_is_tested_on_each(name, sites, tmp_path):
    recipe = load_recipe(name, [f"root={sites}", *TINY, "data.sampler.identities=18"])
    results = train(recipe, tmp_path)
    assert [result.dataset for result in results] == THREE
    scores = json.loads((tmp_path / "scores.json").read_text())
    for dataset, (mAP, rank1) in ROWS[name].figures.items():
        reference = scores[dataset]["reference"]["result"]
        assert (reference["mAP"], reference["rank1"]) == (mAP, rank1)
    assert [dataset for dataset in scores if "reference" in scores[dataset]] == list(ROWS[name].figures)


SMALL_CODE = [
    "method.ebll.code=8", "method.ebll.epochs=60", "method.ebll.lr=0.02", "method.ebll.batch=16",
    "method.ebll.milestones=[]",
]  # fmt: skip


@pytest.mark.parametrize("number", ["18", "06", "13", "before_pooling", "before_pooling_mse"])
def test_a_row_that_leaves_a_code_trains(number, sites, tmp_path):
    name = f"ebll/ibn_a_resnet50-{number}"
    second = ["stages.1.epochs=1"] * (len(load_recipe(name).stages) - 1)
    train(load_recipe(name, [f"root={sites}", *TINY, *SMALL_CODE, *second, "evaluate=[]"]), tmp_path)
    records = run_log.read(tmp_path / "log.jsonl")
    terms = [set(epoch.terms) - {"softmax", "triplet"} for epoch in run_log.epochs(records)]
    held = ["ae"] if number == "06" else ["ae", "ae_l1", "ae_l2"]
    assert terms == [set(), *({"tr_dist", *(f"code 1 {name}" for name in held)} for _ in second)]
    assert [record.stage for record in run_log.metrics(records)] == [1]


# ---- comparing


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
