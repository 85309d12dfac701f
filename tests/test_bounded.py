"""A few bytes of YAML never stand for gigabytes, wherever a recipe is read."""

from __future__ import annotations

import time

import pytest

from passerby.bounded import DEEPEST, MOST_CHARACTERS
from passerby.errors import UserError
from passerby.recipe import load_recipe, recipe_from_text
from passerby.reference_results import shipped_recipes, shipped_rows
from passerby.settings import override, parse_yaml

BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 9)}]\n" for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)

REFUSED = {
    "aliases": BOMB,
    "an alias of itself": "a: &a [*a]",
    "an alias of itself, deeper": "a: &a {b: [{c: *a}]}",
    "depth": "[" * 3000,
    "depth of mappings": "{a: " * (DEEPEST + 1) + "1" + "}" * (DEEPEST + 1),
    "depth by dashes": "- " * 3000 + "x",
    "length": "a: " + "x" * MOST_CHARACTERS,
    "digits": "a: " + "1" * 400,
    "digits of a fraction": "a: 0." + "1" * 400,
}


@pytest.mark.parametrize("text", REFUSED.values(), ids=REFUSED.keys())
def test_what_would_blow_up_is_refused_at_once(text):
    begun = time.process_time()
    with pytest.raises(UserError, match=r"text.*: not valid YAML"):
        parse_yaml(text, source="text")
    with pytest.raises(UserError):
        recipe_from_text(text, source="the recipe in x.safetensors")
    assert time.process_time() - begun < 2


def test_the_bomb_is_refused_in_files_and_overrides(tmp_path):
    file = tmp_path / "bomb.yaml"
    file.write_text(BOMB)
    with pytest.raises(UserError, match=r"bomb\.yaml, line 1: not valid YAML \(its aliases"):
        load_recipe(str(file))
    (tmp_path / "extending.yaml").write_text("extends: bomb.yaml")
    with pytest.raises(UserError, match=r"bomb\.yaml, line 1: not valid YAML \(its aliases"):
        load_recipe(str(tmp_path / "extending.yaml"))
    with pytest.raises(UserError, match="the value of losses, line 1"):
        override({}, f"losses={{{BOMB.strip().replace(chr(10), ', ')}}}")
    with pytest.raises(UserError, match="has 3000 keys"):
        override({}, ".".join(["a"] * 3000) + "=1")


def test_aliases_within_the_bounds_are_read():
    assert parse_yaml("a: &a {x: 1}\nb: [*a, *a]", source="text") == {"a": {"x": 1}, "b": [{"x": 1}, {"x": 1}]}


def test_what_is_shipped_is_far_from_the_bounds():
    assert shipped_recipes()
    assert shipped_rows()
