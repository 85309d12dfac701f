"""Former names of settings: each is refused, and the sentence says what it is called now."""

import re

import pytest

from passerby.errors import UserError
from passerby.recipe import Recipe, make_recipe
from passerby.renamed import RENAMED
from passerby.settings import paths_of


def nested(path: str) -> dict:
    """Return plain data in which a setting stands at a dotted path, of the first stage where one is meant."""
    first, _, rest = path.partition(".")
    if first == "stages":
        return {"stages": [{"train": ["market1501"], **nested(rest.removeprefix("*."))}]}
    return {first: nested(rest) if rest else 1}


@pytest.mark.parametrize("path", RENAMED)
def test_a_former_name_is_refused_with_the_present_one(path):
    was, now = path.replace("*", "0"), RENAMED[path].replace("*", "0")
    with pytest.raises(UserError, match=rf"unknown key {re.escape(was)}; it is called {re.escape(now)} now"):
        make_recipe(nested(path), source="recipe")


@pytest.mark.parametrize("path", [path for path in RENAMED if path.partition(".")[0] in ("optim", "losses", "method")])
def test_so_is_one_that_a_stage_has(path):
    with pytest.raises(UserError, match=rf"unknown key stages\.0\.{re.escape(path)}; it is called stages\.0\."):
        make_recipe(nested(f"stages.*.{path}"), source="recipe")


@pytest.mark.parametrize("path", RENAMED.values())
def test_the_present_name_exists(path):
    assert path.replace("*", "0") in set(paths_of(Recipe, path.rpartition(".")[2]))
