"""Reference rows of CLIP: their figures, their parts, and their image tower."""

import pytest

from passerby.models.transformer_backbones import CLIP_STARTS
from passerby.recipe import load_recipe
from passerby.reference_results import shipped_rows

FIGURES = {
    "clipreid/market1501": (89.6, 95.5), "clipreid/market1501-stride12": (90.5, 95.4),
    "clipreid/market1501-resnet50": (89.8, 95.7),
    "clipreid/dukemtmc": (82.5, 90.0), "clipreid/dukemtmc-stride12": (83.1, 90.8),
    "clipreid/dukemtmc-resnet50": (80.7, 90.0),
    "clipreid/msmt17": (73.4, 88.7), "clipreid/msmt17-stride12": (75.8, 89.7),
    "clipreid/msmt17-resnet50": (63.0, 84.4),
    "pclclip/market1501": (91.4, 95.9), "pclclip/dukemtmc": None, "pclclip/msmt17": (76.1, 89.8),
    "pclclip/market1501-unlabelled": (88.5, 94.7), "pclclip/msmt17-unlabelled": (67.5, 85.1),
}  # fmt: skip
PROMPTED = [name for name in FIGURES if name.startswith("clipreid/")]


def dataset_of(name):
    return name.partition("/")[2].partition("-")[0]


def test_the_figures_are_the_published_ones():
    rows = {name: row for name, row in shipped_rows().items() if name.startswith(("clipreid/", "pclclip/"))}
    found = {name: [(r.mAP, r.rank1) for r in row.results.values()] for name, row in rows.items()}
    assert found == {name: [] if figures is None else [figures] for name, figures in FIGURES.items()}
    assert all(dataset_of(name) == dataset for name, row in rows.items() for dataset in row.results)


@pytest.mark.parametrize("name", PROMPTED)
def test_prompts_come_before_images_of_the_same_identities(name):
    recipe = load_recipe(name)
    prompts, images = recipe.stages
    assert not recipe.lifelong
    assert prompts.train == images.train == (dataset_of(name),)
    assert (prompts.method.prompts.train, images.method.prompts.train) == ("prompts", "images")
    assert not prompts.reads_images
    assert (prompts.data.sampler.kind, prompts.data.sampler.batch_size) == ("shuffle", 64)
    assert (prompts.optim.lr, prompts.optim.weight_decay, prompts.optim.schedule) == (3.5e-4, 1e-4, "cosine")
    assert prompts.optim.lr * prompts.optim.warmup_factor == pytest.approx(1e-5, rel=0.01)
    assert prompts.method.prompts.text_tower == recipe.model.weights
    residual = name.endswith("resnet50")
    assert (prompts.epochs, images.epochs) == ((60, 120) if residual else (120, 60))
    assert (images.losses.softmax.weight, images.losses.softmax.pieces) == (1.0 if residual else 0.25, "projection")
    assert (images.losses.triplet.pieces, images.losses.triplet.margin) == ("projection", 0.3)
    assert (images.optim.name, images.optim.lr) == ("adam", 3.5e-4 if residual else 5e-6)
    assert (images.optim.milestones, images.data.sampler.batch_size) == ((39, 69) if residual else (29, 49), 64)
    architecture = {"cameras": True, "stride": 12} if name.endswith("stride12") else {}
    assert (recipe.model.architecture, recipe.test.feature) == (architecture, "before_neck")


@pytest.mark.parametrize("name", [name for name in FIGURES if name not in PROMPTED])
def test_prototypes_and_clusters_on_the_image_tower(name):
    recipe = load_recipe(name)
    (stage,) = recipe.stages
    labelled = not name.endswith("unlabelled")
    assert stage.labelled == labelled
    assert list(stage.method.chosen) == ["prototypes" if labelled else "contrast"]
    assert list(stage.losses.chosen) == (["softmax"] if labelled else [])
    assert (stage.data.sampler.batch_size, stage.epochs, stage.iterations) == (256, 60, 200)
    assert (stage.freeze, recipe.test.feature) == (("backbone.body.conv1.*",), "after_neck")
    assert (stage.optim.name, stage.optim.lr, stage.optim.weight_decay) == ("sgd", 3.5e-4, 5e-4)
    if not labelled:
        method = stage.method.contrast
        radius = {"market1501": 0.5, "msmt17": 0.7}[dataset_of(name)]
        assert (method.momentum, method.update, method.cluster.eps) == (0.1, "all", radius)


def test_the_image_tower_of_the_rows_is_the_published_one():
    from passerby.models.clip_vit import ClipVitSettings

    settings = ClipVitSettings()
    assert (settings.width, settings.depth, settings.heads) in CLIP_STARTS
    assert (settings.projection, settings.patch, settings.sie_coefficient) == (512, 16, 1.0)
