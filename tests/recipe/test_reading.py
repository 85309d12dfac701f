"""Recipes by name, from files that extend others, from stored text, and with overrides."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from passerby.data.readers.folder import Folder
from passerby.errors import UserError
from passerby.recipe import RerankSettings, find_recipe, load_recipe, make_recipe, recipe_from_text, recipe_of_run
from passerby.reference_results import shipped_recipes
from passerby.settings import override, parse_yaml
from passerby.types import CameraRerank


@pytest.mark.parametrize(
    ("override", "look"),
    [
        ("losses.triplet=null", lambda r: list(r.stages[0].losses.chosen) == ["softmax"]),
        ("losses.triplet.margin=0.5", lambda r: r.stages[0].losses.triplet.margin == 0.5),
        ("stages.0.losses.softmax=null", lambda r: list(r.stages[0].losses.chosen) == ["triplet"]),
        ("stages.0.epochs=3", lambda r: r.stages[0].epochs == 3),
        ("data.augment.erase=null", lambda r: r.data.augment.erase is None),
        ("data.augment.jitter={}", lambda r: r.data.augment.jitter is not None),
        ("test.rerank=null", lambda r: r.test.rerank is None),
        ("test.rerank.k1=5", lambda r: r.test.rerank == RerankSettings(k1=5)),
        (
            "test.rerank={distance: ca_jaccard, k1_inter: 9}",
            lambda r: r.test.rerank.parameters == CameraRerank(k1_inter=9),
        ),
        ("optim.milestones=null", lambda r: r.optim.milestones == (40, 70)),
        ("evaluate=[msmt17]", lambda r: r.tested == ("msmt17",)),
        ("evaluate=[]", lambda r: r.tested == ()),
        ("evaluate=null", lambda r: r.tested == ("auto",)),
        ("datasets.mine={kind: folder, root: somewhere}", lambda r: r.dataset("mine").root == "somewhere"),
        ("pattern='{pid}_*'", lambda r: r.dataset("auto") == Folder(root="data", pattern="{pid}_*")),
        ("root=elsewhere", lambda r: r.dataset("msmt17").root == "elsewhere"),
    ],
)
@pytest.mark.parametrize("name", ["bag_of_tricks", "small"])
def test_overrides_reach_everything(name, override, look):
    recipe = load_recipe(name, [override])
    assert look(recipe)
    assert make_recipe(parse_yaml(recipe.dump(), source="dump"), source="dump") == recipe


@given(st.sampled_from(["optim.lr=1", "engine.seed=5", "stages.0.epochs=2", "data.sampler.identities=8"]), st.data())
def test_overrides_of_different_keys_may_come_in_any_order(one, data):
    other = data.draw(st.sampled_from(["model.pool=avg", "test.every=3", "input.size=[64, 32]"]))
    assert load_recipe("small", [one, other]) == load_recipe("small", [other, one])


def test_names_of_recipes(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert {"bag_of_tricks", "small"} <= set(shipped_recipes())
    assert find_recipe("small.yaml") == find_recipe("small")
    (tmp_path / "mine.yaml").write_text("extends: small\nengine: {seed: 7}")
    assert load_recipe("mine.yaml").engine.seed == 7
    assert load_recipe(str(tmp_path / "mine.yaml")).model.backbone == "resnet18"
    with pytest.raises(UserError, match=r"no recipe 'smal': neither a file nor a shipped name; did you mean 'small'\?"):
        load_recipe("smal")


def test_null_in_an_extending_file_takes_away_what_is_on_by_default(tmp_path):
    (tmp_path / "a.yaml").write_text("extends: small\ntest: {rerank: null}\ndata: {augment: {erase: null}}")
    recipe = load_recipe(str(tmp_path / "a.yaml"))
    assert recipe.test.rerank is None
    assert recipe.data.augment.erase is None


def test_override_by_hand_equals_override_by_word():
    data = override({}, "stages=[{train: [msmt17], epochs: 2}]")
    assert make_recipe(data, source="x") == make_recipe({"stages": [{"train": ["msmt17"], "epochs": 2}]}, source="y")


def test_a_stored_recipe_with_former_names_of_vectors_is_read(tmp_path):
    recipe = load_recipe("small", ["test.feature=before_neck", "losses.center={}"])
    former = recipe.dump().replace("before_neck", "feature").replace("after_neck", "embedding")
    (tmp_path / "recipe.yaml").write_text(former)
    for read in (recipe_from_text(former, source="a model"), recipe_of_run(tmp_path / "recipe.yaml")):
        assert (read.test, read.losses, read.stages) == (recipe.test, recipe.losses, recipe.stages)
    with pytest.raises(UserError, match="it is called 'after_neck' now"):
        recipe_from_text(former, ["test.feature=embedding"], source="a model")
