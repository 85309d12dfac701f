"""The tree of settings: defaults, what stages take from the recipe, epochs and descriptions."""

import pytest

from passerby.data.transforms import EraseSettings
from passerby.errors import UserError
from passerby.losses.triplet import TripletSettings
from passerby.optim import learning_rate_at, never_falls
from passerby.recipe import Recipe, RerankSettings, load_recipe, make_recipe
from passerby.settings import parse_yaml


def test_nothing_given_is_a_recipe():
    recipe = make_recipe({}, source="here")
    assert recipe.stages[0].train == ("auto",)
    assert list(recipe.stages[0].losses.chosen) == ["softmax", "triplet"]
    assert recipe.data.augment.erase == EraseSettings()
    assert recipe.test.rerank == RerankSettings()


def test_a_stage_takes_from_the_recipe_what_it_does_not_say():
    recipe = make_recipe(
        {
            "losses": {"softmax": {"smoothing": 0.2}, "triplet": {"margin": 0.5}},
            "optim": {"lr": 0.1, "milestones": [3]},
            "stages": [
                {"train": ["market1501"]},
                {"train": ["msmt17"], "optim": {"lr": 0.2}, "losses": {"softmax": None, "triplet": {"weight": 2}}},
            ],
        },
        source="here",
    )
    first, second = recipe.stages
    assert (first.optim.lr, second.optim.lr) == (0.1, 0.2)
    assert first.optim.milestones == second.optim.milestones == (3,)
    assert second.losses.chosen == {"triplet": TripletSettings(margin=0.5, weight=2)}
    assert first.losses == recipe.losses


def test_a_description_says_what_was_changed():
    plain = load_recipe("small").description
    assert load_recipe("small", ["root=elsewhere", "engine.device=cpu"]).description == plain
    found = load_recipe("small", ["stages.0.epochs=2", "input.size=[64, 32]", "evaluate=[]"])
    assert found.description == f"{plain}; changed: input.size=[64, 32], stages.0.epochs=2"
    assert load_recipe("small", ["input.size=[64, 32]", "description=mine"]).description == "mine"
    assert load_recipe("small", ["stages.0.epochs=2", "description=null"]).description == ""


def test_a_stage_may_cluster_in_another_way_than_the_recipe():
    stages = [{"train": ["market1501"], "labelled": False}, {"train": ["msmt17"], "labelled": False}]
    stages[1]["method"] = {"contrast": {"cluster": {"kind": "kmeans", "k": 50}}}
    method = {"contrast": {"cluster": {"kind": "dbscan", "eps": 0.4, "k1": 12}, "momentum": 0.2}}
    first, second = make_recipe({"stages": stages, "method": method}, source="here").stages
    assert (first.method.contrast.cluster.kind, first.method.contrast.cluster.k1) == ("dbscan", 12)
    assert (second.method.contrast.cluster.kind, second.method.contrast.cluster.k) == ("kmeans", 50)
    assert second.method.contrast.momentum == 0.2


def test_a_recipe_is_frozen():
    with pytest.raises(Exception, match="frozen"):
        Recipe().root = "x"


def test_a_data_set_described_without_a_root_lies_where_the_others_lie():
    recipe = make_recipe(
        {"root": "here", "masks": "m", "datasets": {"a": {"kind": "cuhk03"}, "b": {"kind": "cuhk03", "root": "there"}}},
        source="test",
    )
    assert (recipe.datasets["a"].root, recipe.datasets["a"].masks) == ("here", "m")
    assert (recipe.datasets["b"].root, recipe.datasets["b"].masks) == ("there", None)


@pytest.mark.parametrize("name", ["small", "bag_of_tricks", "lwf/ibn_b_resnet50-05"])
@pytest.mark.parametrize("epochs", [3, 7, 240])
def test_epochs_stretch_the_schedule(name, epochs):
    plain, stretched = load_recipe(name), load_recipe(name, epochs=epochs)
    for before, after in zip(plain.stages, stretched.stages, strict=True):
        assert after.epochs == epochs
        assert never_falls(after.optim, epochs) == never_falls(before.optim, before.epochs)
        if epochs > 3:  # milestones are whole epochs
            late = [
                learning_rate_at(s.optim, int(s.epochs * 990), steps_per_epoch=1000, epochs=s.epochs)
                for s in (before, after)
            ]
            assert late[0] == pytest.approx(late[1], rel=0.35) or max(late) < 0.1 * after.optim.lr
    assert "changed: epochs=" in stretched.description
    assert make_recipe(parse_yaml(stretched.dump(), source="dump"), source="dump") == stretched


def test_epochs_by_override_leave_a_schedule_that_never_falls():
    (stage,) = load_recipe("small", ["stages.0.epochs=5"]).stages
    assert never_falls(stage.optim, stage.epochs)


def test_no_stage_has_no_epochs():
    with pytest.raises(UserError, match="epochs is 0"):
        load_recipe("small", epochs=0)
