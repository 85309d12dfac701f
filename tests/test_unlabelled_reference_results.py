"""Reference rows of unlabelled stages: settings, published results, training."""

import shutil

import pytest

from passerby.data.samplers.per_domain import PerDomainSettings
from passerby.data.samplers.pk_cameras import PkCamerasSettings
from passerby.recipe import load_recipe
from passerby.reference_results import ReferenceResult, shipped_rows
from passerby.training import run_log
from passerby.training.session import train
from tests.conftest import copy_marked
from tests.reference_rows import as_duke, at, differences, resolved
from tests.test_lifelong_reference_results import UNSEEN
from tests.test_recipes import TINY

PAIRS = [("market1501", "dukemtmc"), ("dukemtmc", "market1501"), ("market1501", "msmt17"), ("msmt17", "market1501")]
SITES = ["market1501", "dukemtmc", "msmt17"]
PARTS = {"pseudo": "pseudo", "contrast": "contrast", "spcl": "spcl", "mmt": "mmt", "pplr": "pplr", "ssg": "ssg"}
"""Method of a row, and the part that makes its labels."""
FIGURES = {
    "uda/market1501_dukemtmc-source_only": (29.6, 46.0), "uda/dukemtmc_market1501-source_only": (31.8, 61.9),
    "uda/market1501_dukemtmc-ssg": (53.4, 73.0), "uda/dukemtmc_market1501-ssg": (58.3, 80.0),
    "uda/market1501_dukemtmc-ssg_asked": (60.3, 76.0), "uda/dukemtmc_market1501-ssg_asked": (68.7, 86.2),
    "uda/market1501_msmt17-spcl": (26.8, 53.7), "uda/msmt17_market1501-spcl": (77.5, 89.7),
    "uda/market1501_dukemtmc-mmt": (65.1, 78.0), "uda/dukemtmc_market1501-mmt": (71.2, 87.7),
    "usl/market1501-contrast": (82.1, 92.3), "usl/dukemtmc-contrast": (72.6, 84.9), "usl/msmt17-contrast": (27.6, 56.0),
    "usl/market1501-spcl": (73.1, 88.1), "usl/msmt17-spcl": (19.1, 42.3),
    "usl/market1501-ca_jaccard": (84.8, None), "usl/msmt17-ca_jaccard": (42.8, None),
    "usl/market1501-cap": (79.2, 91.4), "usl/msmt17-cap": (36.9, 67.4),
    "usl/market1501-o2cap": (82.7, 92.5), "usl/msmt17-o2cap": (42.4, 72.0),
}  # fmt: skip
"""mAP and rank-1 on the new site, as published."""
CAMERA_AWARE = {"market1501": 0.4, "msmt17": 0.6}
"""Radius of the camera-aware distance."""
LENGTHS = {
    "pseudo": (50, 400),
    "contrast": (50, 200),
    "spcl": (50, 400),
    "mmt": (40, 800),
    "pplr": (50, 400),
    "ssg": (30, 1500),
}
"""Epochs, and batches in each; ClusterContrast takes 400 and SpCL 800 on msmt17."""
BATCHES = {"pseudo": (16, 4), "contrast": (16, 16), "spcl": (16, 4), "mmt": (16, 4), "pplr": (16, 4), "ssg": (32, 4)}
PEOPLE = {"market1501": 500, "dukemtmc": 700, "msmt17": 1000}
"""Clusters of k-means for MMT."""
DBSCAN = {"kind": "dbscan", "eps": 0.6, "share": 1.6e-3, "min_samples": 4, "k1": 30, "k2": 6, "form": "clustering"}
DBSCAN |= {"distance": "jaccard", "k1_intra": 5, "k1_inter": 20, "k2_intra": 2, "k2_inter": 4}
SAYS = {
    "pseudo": {"cluster": DBSCAN, "feature": "after_neck"},
    "contrast": {"cluster": DBSCAN, "temperature": 0.05, "momentum": 0.1, "update": "all", "weight": 1.0},
    "spcl": {"cluster": DBSCAN, "temperature": 0.05, "momentum": 0.2, "step": 0.02, "batch_norm": "domain_specific"},
    "mmt": {"soft_softmax": 0.5, "soft_triplet": 0.8, "decay": "auto", "smoothing": 0.1, "second": None},
    "ssg": {"cluster": DBSCAN | {"eps": "share", "k1": 20, "form": "reranking"}, "margin": 0.5, "oracle": "none"},
    "pplr": {"cluster": DBSCAN | {"eps": 0.5}, "neighbours": 20, "trust": 0.5, "from_epoch": 5, "triplet": 1.0},
}
COMMON = {
    "input.size": [256, 128], "data.sampler.identities": 16, "data.sampler.instances": 4, "data.augment.flip": 0.5,
    "data.augment.pad": 10, "data.augment.erase.probability": 0.5, "model.backbone": "resnet50.tv_in1k",
    "model.weights": "pretrained", "model.last_stride": 1, "model.neck": "bnneck", "model.pool": "avg",
    "optim.name": "adam", "optim.lr": 3.5e-4, "optim.weight_decay": 5e-4, "optim.schedule": "multistep",
    "optim.warmup_epochs": 0.0, "optim.milestones": [20, 40], "optim.gamma": 0.1, "test.feature": "after_neck",
    "stages.0.labelled": False, "stages.0.epochs": 50, "stages.0.iterations": 400,
}  # fmt: skip

ADAPTED = [(source, site, method) for source, site in PAIRS for method in PARTS]
FOUND = [(None, site, method) for site in SITES for method in PARTS]


def name_of(source, site, method):
    return f"usl/{site}-{method}" if source is None else f"uda/{source}_{site}-{method}"


def test_every_row_of_these_families_is_a_row():
    rows = []
    for source, site in PAIRS:
        rows += [f"uda/{source}_{site}-{method}" for method in ("source_only", *PARTS, "ssg_asked", "ssg_dec")]
    rows += [name_of(*row) for row in FOUND]
    rows += [f"usl/{site}-{method}" for site in CAMERA_AWARE for method in ("ca_jaccard", "cap", "o2cap")]
    assert [name for name in shipped_rows() if name.startswith(("uda/", "usl/"))] == rows


def test_the_figures_are_the_published_ones_and_stand_nowhere_else():
    for name, row in shipped_rows().items():
        if name.startswith(("uda/", "usl/")):
            site = name.partition("/")[2].partition("-")[0].rpartition("_")[2]
            found = FIGURES.get(name)
            assert row.results == ({} if found is None else {site: ReferenceResult(mAP=found[0], rank1=found[1])})


def test_the_recipe_without_labels_is_the_common_one():
    recipe = resolved("unlabelled")
    assert {path: at(recipe, path) for path in COMMON} == COMMON


@pytest.mark.parametrize(("source", "site", "method"), [*ADAPTED, *FOUND])
def test_a_row_learns_the_new_site_without_labels_by_its_method(source, site, method):
    recipe = load_recipe(name_of(source, site, method))
    last = recipe.stages[-1]
    assert (last.train, last.labelled) == ((site,), False)
    batches = {("msmt17", "contrast"): 400, ("msmt17", "spcl"): 800}.get((site, method), LENGTHS[method][1])
    assert (last.epochs, last.iterations) == (LENGTHS[method][0], batches)
    assert list(last.method.chosen) == [PARTS[method]]
    assert set(last.losses.chosen) == ({"softmax", "triplet"} if method == "pseudo" else set())
    says = SAYS[method] | (
        {"cluster": {"kind": "kmeans", "k": PEOPLE[site], "restarts": 1, "seed": 0}} if method == "mmt" else {}
    )
    part = last.method.chosen[PARTS[method]].model_dump(mode="json")
    assert {key: part[key] for key in says} == says
    rates = {"mmt": ("adam", "constant", 3.5e-4), "ssg": ("sgd", "constant", 6e-5)}
    assert (last.optim.name, last.optim.schedule, last.optim.lr) == rates.get(method, ("adam", "multistep", 3.5e-4))
    assert recipe.model.pool == ("gem_learned" if method == "contrast" else "avg")
    as_published = method in ("contrast", "spcl", "mmt", "pplr")
    assert bool(recipe.data.sampler.without_cameras) == as_published
    assert recipe.input.interpolation == ("bicubic" if as_published else "bilinear")
    seen = {"pplr": ((384, 128), 3), "ssg": ((256, 128), 2)}.get(method, ((256, 128), None))
    assert (recipe.input.size, recipe.model.stripes) == seen


@pytest.mark.parametrize(("source", "site", "method"), ADAPTED)
def test_a_row_has_its_source_first_or_beside(source, site, method):
    recipe = load_recipe(name_of(source, site, method))
    if method == "spcl":
        (stage,) = recipe.stages
        assert stage.source == (source,)
        assert recipe.data.sampler == PerDomainSettings(identities=32, instances=4, across_cameras=True)
        return
    first, last = recipe.stages
    alone = load_recipe(f"uda/{source}_{site}-source_only")
    assert alone.tested == (site,)
    assert (first.train, first.labelled, last.source) == ((source,), True, ())
    plain = load_recipe("bag_of_tricks", [f"stages=[{{train: [{source}], epochs: 80}}]"]).stages[0]
    if method == "mmt":
        assert first.model_copy(update={"method": plain.method}) == alone.stages[0]
    else:
        assert first.model_copy(update={"method": plain.method, "data": plain.data}) == plain
    assert (recipe.data.sampler.identities, recipe.data.sampler.instances) == BATCHES[method]
    assert recipe.tested == (source, site)


@pytest.mark.parametrize(("source", "site"), PAIRS)
def test_the_source_alone_is_trained_as_the_authors_of_its_figures_did(source, site):
    recipe = load_recipe(f"uda/{source}_{site}-source_only")
    (stage,) = recipe.stages
    assert (stage.epochs, stage.iterations, stage.optim.warmup_epochs, stage.optim.milestones) == (
        80,
        200,
        10,
        (40, 70),
    )
    assert (stage.data.sampler, stage.data.augment.erase) == (PkCamerasSettings(identities=16, instances=4), None)
    assert (stage.losses.triplet.form, recipe.input.interpolation, recipe.model.pool) == ("soft", "bicubic", "avg")


@pytest.mark.parametrize(("source", "site", "method"), FOUND)
def test_a_row_without_a_source_begins_with_imagenet(source, site, method):
    recipe = load_recipe(name_of(source, site, method))
    assert (len(recipe.stages), recipe.init_from, recipe.model.weights) == (1, None, "pretrained")
    assert (recipe.data.sampler.identities, recipe.data.sampler.instances) == BATCHES[method]


@pytest.mark.parametrize(("source", "site"), PAIRS)
def test_further_rows_of_ssg_add_what_they_say(source, site):
    plain, asked, dec = (resolved(f"uda/{source}_{site}-{name}") for name in ("ssg", "ssg_asked", "ssg_dec"))
    places = ("method", "stages.0.method", "stages.1.method")  # stages take the method over
    assert differences(plain, asked) == {f"{place}.ssg.oracle": "cluster" for place in places}
    assert differences(plain, dec).keys() == {f"{place}.dec" for place in places}


def test_a_lifelong_row_learns_two_labelled_sites_and_two_without():
    recipe, labelled = load_recipe("lifelong/without_duke-unlabelled"), load_recipe("lifelong/without_duke-affinity")
    assert recipe.stages[:2] == tuple(
        stage.model_copy(update={"method": recipe.method}) for stage in labelled.stages[:2]
    )
    assert [(stage.train, stage.labelled, stage.identities, tuple(stage.losses.chosen)) for stage in recipe.stages] == [
        (("market1501",), True, 500, ("softmax", "triplet")), (("cuhk_sysu",), True, 500, ("softmax", "triplet")),
        (("msmt17",), False, None, ()), (("cuhk03",), False, None, ()),
    ]  # fmt: skip
    assert {*recipe.method.chosen} == {"affinity", "average", "contrast"}
    assert recipe.method.contrast.feature == recipe.test.feature == "before_neck"
    assert sorted(recipe.tested) == sorted([*(stage.train[0] for stage in recipe.stages), *UNSEEN])


@pytest.mark.parametrize("site", CAMERA_AWARE)
def test_rows_that_are_aware_of_cameras_add_what_they_say(site):
    plain, aware, cap, o2cap = (
        load_recipe(f"usl/{site}-{name}") for name in ("contrast", "ca_jaccard", "cap", "o2cap")
    )
    cluster = plain.method.contrast.cluster.model_copy(update={"distance": "ca_jaccard", "eps": CAMERA_AWARE[site]})
    assert aware.method.contrast == plain.method.contrast.model_copy(update={"cluster": cluster})
    assert (aware.model.pool, aware.data.sampler) == ("avg", plain.data.sampler)
    weights = [
        (proxies.intra, proxies.inter, proxies.online, proxies.from_epoch)
        for proxies in (cap.method.camera_proxies, o2cap.method.camera_proxies)
    ]
    assert weights == [(1, 0.5, 0, 5), (0, 1, 1, 0)]
    for recipe in (cap, o2cap):
        assert recipe.data.sampler == PkCamerasSettings(identities=8, instances=4)
        assert list(recipe.stages[0].active) == ["pseudo", "camera_proxies"]
        assert not recipe.stages[0].losses.chosen
        assert (recipe.method.pseudo.cluster.eps, recipe.method.pseudo.cluster.k1) == (0.5, 20)


# ---- a few steps of some

SMALL = {
    "pseudo": "{kind: kmeans, k: 6}", "contrast": "{kind: kmeans, k: 6}", "mmt": "{kind: kmeans, k: 6}",
    "spcl": "{k1: 6, k2: 2, min_samples: 2}",
}  # fmt: skip
TERMS = {
    "pseudo": {"softmax", "triplet"},
    "contrast": {"contrast"},
    "spcl": {"memory"},
    "mmt": {"hard labels", "soft labels", "hard triplet", "soft triplet"},
}


@pytest.mark.parametrize("method", ["spcl", "mmt"])  # the others in the lifelong row and as a recipe
def test_an_adaptation_trains(method, site, tmp_path):
    as_duke(site, tmp_path / "data" / "DukeMTMC-reID")
    (tmp_path / "data" / "Market-1501-v15.09.15").symlink_to(site)
    name = f"uda/market1501_dukemtmc-{method}"
    short = [f"stages.{number}.epochs=1" for number in range(len(load_recipe(name).stages))]
    changes = [f"method.{PARTS[method]}.cluster={SMALL[method]}", f"stages.{len(short) - 1}.iterations=2"]
    train(load_recipe(name, [f"root={tmp_path / 'data'}", *TINY, *short, *changes, "evaluate=[]"]), tmp_path / "run")
    *_, last = run_log.epochs(run_log.read(tmp_path / "run" / "log.jsonl"))
    assert set(last.terms) == TERMS[method]


def test_a_lifelong_row_trains_through_labelled_and_unlabelled_stages(site, tmp_path):
    names = ["market1501", "cuhk_sysu", "msmt17", "last"]
    roots = {name: shutil.copytree(site, tmp_path / "sites" / name, copy_function=copy_marked) for name in names}
    same = ", ".join(f"{name}: {{kind: market1501, root: {root}}}" for name, root in roots.items())
    tiny = [value for value in TINY if not value.startswith("test.rerank")]
    short = [f"stages.{number}.epochs=1" for number in range(4)] + [f"stages.{n}.iterations=2" for n in (2, 3)]
    changes = [f"method.contrast.cluster={SMALL['contrast']}", "stages.3.train=[last]", "evaluate=[market1501]"]
    recipe = load_recipe("lifelong/without_duke-unlabelled", [f"datasets={{{same}}}", *tiny, *short, *changes])
    (result,) = train(recipe, tmp_path / "run", say=lambda _: None)
    records = run_log.read(tmp_path / "run" / "log.jsonl")
    assert [set(epoch.terms) for epoch in run_log.epochs(records)] == [
        {"softmax", "triplet"}, {"softmax", "triplet", "affinity"}, {"contrast", "affinity"}, {"contrast", "affinity"},
    ]  # fmt: skip
    found = [(finding.stage, finding.method) for finding in run_log.metrics(records)]
    assert found == [(2, "average"), (3, "clusters"), (3, "average"), (4, "clusters"), (4, "average")]
    assert result.forgetting is not None
