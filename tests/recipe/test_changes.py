"""The changes between two recipes, and those of one since its defaults."""

import pytest

from passerby.recipe import load_recipe, make_recipe
from passerby.recipe.changes import changes
from passerby.reference_results import shipped_recipes
from passerby.settings import parse_yaml


@pytest.mark.parametrize("name", [*shipped_recipes(), "ebll/ibn_a_resnet50-09", "usl/market1501-mmt"])
def test_the_changes_of_a_recipe_read_back_to_it(name):
    recipe = load_recipe(name)
    text = recipe.dump_changes()
    assert len(text) < len(recipe.dump())
    assert make_recipe(parse_yaml(text, source="changes"), source="changes") == recipe


def test_changes_are_those_of_the_top_level_without_what_stages_inherit():
    before, after = load_recipe("small"), load_recipe("small", ["optim.lr=0.5", "engine.seed=4"])
    assert [str(one) for one in changes(before, after, ignore=["description"])] == ["optim.lr=0.5", "engine.seed=4"]
    assert changes(before, after, ignore=["description"])[0].before == "0.001"
