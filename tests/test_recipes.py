"""Every recipe that is shipped reads, reads back, and trains."""

import json

import pytest
from timm.models import register_model
from timm.models.resnet import Bottleneck, ResNet

from passerby.recipe import load_recipe, make_recipe
from passerby.settings import parse_yaml
from passerby.targets import shipped_recipes
from passerby.train import journal
from passerby.train.session import train

NAMES = sorted(shipped_recipes())
TINY = [
    "model.weights=none", "model.backbone=test_resnet", "input.size=[32, 16]", "data.identities=6", "data.instances=4",
    "data.augment.pad=2", "stages.0.epochs=1", "test.rerank.k1=6", "test.rerank.k2=2", "engine.device=cpu",
    "engine.precision=float32",
]  # fmt: skip
"""Two steps of 6 x 4 images."""
NETWORKS = {"agw": "tiny_bottlenecks", "sbs": "tiny_bottlenecks", "vit": "test_vit"}
"""Where the smallest ResNet of timm has no place for what a recipe adds, or is another kind of network."""


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
    recipe = load_recipe(name, [f"root={site}", *TINY, f"model.backbone={NETWORKS.get(name, 'test_resnet')}"])
    train(recipe, tmp_path / "run")
    (epoch,) = journal.epochs(journal.read(tmp_path / "run" / "journal.jsonl"))
    assert epoch.loss > 0
    assert json.loads((tmp_path / "run" / "scores.json").read_text())
