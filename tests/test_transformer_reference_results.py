"""Reference rows of vision transformers: their parts, their figures, and that their whole networks can be built."""

import pytest
import torch

from passerby.errors import UserError
from passerby.models.embedder import Embedder
from passerby.recipe import load_recipe
from passerby.reference_results import shipped_rows
from passerby.types import CameraTable

FIGURES = {
    "transreid/market1501-stride12": (88.9, 95.2), "transreid/market1501": (88.2, 95.0),
    "transreid/market1501-baseline": (86.8, 94.7),
    "transreid/dukemtmc-stride12": (82.0, 90.7), "transreid/dukemtmc": (80.6, 89.6),
    "transreid/dukemtmc-baseline": (79.3, 88.8),
    "transreid/msmt17-stride12": (67.4, 85.3), "transreid/msmt17": (64.9, 83.3),
    "transreid/msmt17-baseline": (61.0, 81.8),
    "transreid_ssl/market1501-vit_small": (91.2, 95.8), "transreid_ssl/market1501-vit_small_ics": (91.4, 96.2),
    "transreid_ssl/msmt17-vit_small": (66.3, 84.8), "transreid_ssl/msmt17-vit_small_ics": (68.3, 86.2),
}  # fmt: skip


def kind_of(name):
    return name.partition("-")[2] or "jigsaw"


def test_the_figures_are_the_published_ones():
    rows = {name: row for name, row in shipped_rows().items() if name.startswith("transreid")}
    found = {name: [(r.mAP, r.rank1) for r in row.results.values()] for name, row in rows.items()}
    assert found == {name: [figures] for name, figures in FIGURES.items()}
    assert all(name.partition("/")[2].startswith(dataset) for name, row in rows.items() for dataset in row.results)


@pytest.mark.parametrize("name", FIGURES)
def test_the_parts_of_a_row_are_those_of_its_paper(name):
    recipe, kind = load_recipe(name), kind_of(name)
    architecture, (stage,) = recipe.model.architecture, recipe.stages
    whole = kind in ("jigsaw", "stride12")
    assert architecture["stride"] == (12 if kind == "stride12" else 16)
    assert (architecture["cameras"], architecture.get("jigsaw") is not None, architecture["drop_path"]) == (
        whole,
        whole,
        0.1,
    )
    assert stage.losses.softmax.pieces == stage.losses.triplet.pieces == (5 if whole else 1)
    assert (stage.losses.softmax.smoothing, stage.losses.triplet.form, recipe.test.feature) == (
        0,
        "soft",
        "before_neck",
    )
    start = name.startswith("transreid_ssl")
    assert (stage.optim.lr, stage.optim.warmup_epochs) == ((4e-4, 20) if start else (8e-3, 5))
    assert [(group.match, group.lr_scale) for group in stage.optim.groups] == [("*.bias", 2)]
    assert recipe.model.weights.endswith(".pth") == start


@pytest.mark.parametrize(
    "name", ["transreid/msmt17-stride12", "transreid/msmt17-baseline", "transreid_ssl/msmt17-vit_small_ics"]
)
def test_the_whole_network_takes_a_step(name):
    recipe = load_recipe(name, ["model.weights=none"])
    with torch.device("meta"):
        embedder = Embedder(recipe.model, recipe.input, cameras=CameraTable(("msmt17",), (tuple(range(1, 16)),)))
        images, cam = torch.zeros(2, 3, 256, 128), torch.zeros(2, dtype=torch.int64)
        featuremap, vector = embedder.backbone.body(images, cam)
    expected = {"stride12": ((21, 10), 3840), "baseline": ((16, 8), 768), "vit_small_ics": ((16, 8), 384)}[
        kind_of(name)
    ]
    assert (tuple(featuremap.shape[2:]), vector.shape[1]) == expected
    vector.sum().backward()


def test_a_row_names_the_file_that_it_begins_with(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    recipe = load_recipe("transreid_ssl/market1501-vit_small")
    with torch.device("meta"), pytest.raises(UserError, match=r"no weights file vit_small_cfs_lup\.pth"):
        Embedder(recipe.model, recipe.input)
