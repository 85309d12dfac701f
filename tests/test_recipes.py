"""Every recipe that is shipped reads, reads back, and trains."""

import json

import pytest
import timm
import torch
from timm.models import register_model
from timm.models.resnet import Bottleneck, ResNet

from passerby.errors import UserError
from passerby.models.embedder import Embedder
from passerby.recipe import load_recipe, make_recipe
from passerby.reference_results import shipped_recipes
from passerby.settings import parse_yaml
from passerby.training import run_log
from passerby.training.session import train
from tests.models.tiny_clip import ARCHITECTURE, clip_file

NAMES = sorted(shipped_recipes())
TINY = [
    "model.weights=none", "model.backbone=test_resnet", "input.size=[32, 16]",
    "data.sampler.identities=6", "data.sampler.instances=4", "data.augment.pad=2",
    "stages.0.epochs=1", "test.rerank.k1=6", "test.rerank.k2=2", "engine.device=cpu",
    "engine.precision=float32",
]  # fmt: skip
"""Two steps of 6 x 4 images."""
NETWORKS = {"agw": "tiny_bottlenecks", "sbs": "tiny_bottlenecks", "vit": "test_vit", "transreid": "vit"}
NETWORKS |= dict.fromkeys(("clipreid", "pclclip", "lifelong_clip"), "clip_vit")
"""Where the smallest ResNet of timm has no place for what a recipe adds, or is another kind of network."""
MORE = {
    "unlabelled": ["method.pseudo.cluster={kind: kmeans, k: 6}", "stages.0.iterations=2"],
    "transreid": ["model.architecture={width: 16, depth: 2, heads: 2, patch: 8, stride: 6}"],
    "clipreid": [
        f"model.architecture={json.dumps(ARCHITECTURE)}",
        f"method.prompts.text_tower={clip_file()}",
        "stages.0.data.sampler={kind: shuffle, size: 24}",
        "stages.1.epochs=1",
    ],
    "pclclip": [f"model.architecture={json.dumps(ARCHITECTURE)}", "stages.0.iterations=2"],
    "lifelong_clip": [f"model.architecture={json.dumps(ARCHITECTURE)}"],
}
"""What else must be smaller on a site of 48 images."""


@register_model
def tiny_bottlenecks(num_classes, **_of_timm):
    """A ResNet-50 in the number of its blocks, of 1/16 the width."""
    return ResNet(Bottleneck, (3, 4, 6, 3), num_classes, channels=(4, 8, 16, 32), stem_width=4)


@pytest.mark.parametrize("name", NAMES)
def test_a_shipped_recipe_describes_itself_and_reads_back_equal(name):
    recipe = load_recipe(name)
    assert recipe.description == shipped_recipes()[name]
    assert 20 < len(recipe.description) < 130
    assert make_recipe(parse_yaml(recipe.dump(), source="dump"), source="dump") == recipe


@pytest.mark.parametrize("name", NAMES)
def test_a_shipped_recipe_trains(name, site, tmp_path):
    backbone = f"model.backbone={NETWORKS.get(name, 'test_resnet')}"
    recipe = load_recipe(name, [f"root={site}", *TINY, backbone, *MORE.get(name, [])])
    train(recipe, tmp_path / "run")
    epochs = run_log.epochs(run_log.read(tmp_path / "run" / "log.jsonl"))
    assert len(epochs) == len(recipe.stages)
    assert all(epoch.loss > 0 for epoch in epochs)
    assert json.loads((tmp_path / "run" / "scores.json").read_text())


@pytest.mark.parametrize(
    ("name", "losses", "model", "epochs"),
    [
        ("baseline", ["softmax", "triplet"], ("none", "avg", 1, 2048), 150),
        ("agw", ["softmax", "triplet", "center"], ("half", "gem_learned", 1, 2048), 120),
        ("sbs", ["circle_softmax", "triplet"], ("half", "gem_learned", 1, 2048), 60),
        ("vit", ["softmax", "triplet"], ("none", "avg", 2, 768), 120),
    ],
)
def test_a_strong_recipe_has_its_parts_and_its_whole_network_can_be_built(name, losses, model, epochs):
    recipe = load_recipe(name, ["model.weights=none"])
    assert list(recipe.stages[0].losses.chosen) == losses
    assert recipe.stages[0].epochs == epochs
    assert timm.models.get_pretrained_cfg(recipe.model.backbone).has_weights
    with torch.device("meta"):
        embedder = Embedder(recipe.model, recipe.input)
    assert (recipe.model.non_local, recipe.model.pool, recipe.model.last_stride, embedder.dimension) == model


def test_the_forms_of_the_triplet_and_the_tested_vector_are_those_of_the_papers():
    found = {name: load_recipe(name) for name in ("bag_of_tricks", "agw", "sbs", "vit")}
    forms = {name: recipe.stages[0].losses.triplet.form for name, recipe in found.items()}
    assert forms == {"bag_of_tricks": "hard", "agw": "weighted", "sbs": "soft", "vit": "soft"}
    assert {name: recipe.test.feature for name, recipe in found.items() if recipe.test.feature != "after_neck"} == {
        "vit": "before_neck"
    }


def _leaves(data, path=()):
    """Yield the path and value of every setting below the keys that stages inherit."""
    for key, value in data.items():
        if isinstance(value, dict):
            yield from _leaves(value, (*path, key))
        else:
            yield (*path, key), value


def _other(value):
    """Return an override that differs from a value and is likely to be allowed, or None."""
    match value:
        case bool():
            return str(not value).lower()
        case int():
            return str(value + 1)
        case float():
            return str(value / 2) if value else "0.125"
        case _:
            return None


def _at(data, path):
    for key in path:
        data = None if data is None else data[key]  # losses and methods that a stage leaves out
    return data


STRUCTURES = ("baseline", "clipreid", "lifelong", "unlabelled")
"""Of the shipped recipes, one of each kind: one stage, stages of their own losses, many stages, and no labels."""


@pytest.mark.parametrize(
    "name",
    [
        *(pytest.param(name, marks=() if name in STRUCTURES else pytest.mark.slow) for name in NAMES),
        *("uda/msmt17_market1501-mmt", "lwf/ibn_b_resnet50-05", "ebll/ibn_a_resnet50-09"),
    ],
)
def test_an_override_of_a_dumped_recipe_reaches_the_stages_as_it_does_in_the_recipe(name, tmp_path):
    file = tmp_path / "recipe.yaml"
    file.write_text(load_recipe(name).dump())
    dumped = parse_yaml(file.read_text(), source="dump")
    changed = 0
    for key in ("optim", "losses", "method"):
        for path, value in _leaves({key: dumped[key]}):
            assignment = f"{'.'.join(path)}={_other(value)}"
            try:
                wanted = load_recipe(name, [assignment])
            except UserError:
                continue
            again = load_recipe(str(file), [assignment])
            assert again.stages == wanted.stages, assignment
            assert any(
                _at(stage.model_dump(mode="json"), path) == _at(again.model_dump(mode="json"), path)
                for stage in again.stages
            ), assignment
            changed += 1
    assert changed > 5


def test_an_override_that_every_stage_has_a_value_of_its_own_for_is_refused(tmp_path):
    file = tmp_path / "r.yaml"
    file.write_text("stages: [{train: [auto], optim: {lr: 0.01}}]\n")
    with pytest.raises(UserError, match=r"optim.lr has no effect: every stage has a value .* stages.0.optim.lr"):
        load_recipe(str(file), ["optim.lr=0.5"])
    assert load_recipe(str(file), ["stages.0.optim.lr=0.5"]).stages[0].optim.lr == 0.5
