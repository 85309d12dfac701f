"""The typed tree of settings of a run."""

from passerby.recipe.method import MethodSettings
from passerby.recipe.protocol import EngineSettings, RerankSettings, TestSettings
from passerby.recipe.reading import find_recipe, load_recipe, make_recipe, recipe_from_text, recipe_of_run
from passerby.recipe.stage import StageSettings
from passerby.recipe.tree import Recipe

__all__ = [
    "EngineSettings",
    "MethodSettings",
    "Recipe",
    "RerankSettings",
    "StageSettings",
    "TestSettings",
    "find_recipe",
    "load_recipe",
    "make_recipe",
    "recipe_from_text",
    "recipe_of_run",
]
