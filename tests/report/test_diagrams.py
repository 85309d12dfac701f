"""The drawing follows the recipe: what it has is drawn, what it has not is not."""

import html
from xml.etree import ElementTree

import pytest

from passerby.recipe import load_recipe
from passerby.reference_results import shipped_recipes
from passerby.report.diagrams import NARROW, draw
from tests.report.conftest import plain_recipe

SVG = "{http://www.w3.org/2000/svg}"


def words(svg):
    return " ".join(element.text for element in ElementTree.fromstring(svg).iter(f"{SVG}text"))


def test_the_whole_path_is_named():
    drawn = words(draw(plain_recipe()))
    for step in (
        "16 identities × 4 images = 64",
        "test_resnet",
        "Pooling: avg",
        "before_neck",
        "Neck: bnneck",
        "after_neck",
    ):
        assert step in drawn
    for step in ("softmax × 1", "triplet × 1", "margin 0.3", "Optimiser: adam", "multistep", "Distance: cosine"):
        assert step in drawn
    assert "Re-ranking" in drawn
    assert "k1 4" in drawn


def test_weights_are_those_of_the_run_that_it_starts_from():
    assert "weights none" in words(draw(plain_recipe()))
    drawn = words(draw(plain_recipe(init_from="runs/plaza")))
    assert "initialised from runs/plaza" in drawn
    assert "weights none" not in drawn


@pytest.mark.parametrize("name", shipped_recipes())
def test_every_chosen_loss_and_stage_of_a_shipped_recipe_is_drawn(name):
    recipe = load_recipe(name)
    for width in (1100, NARROW):
        drawn = words(draw(recipe, width=width))
        for stage in recipe.stages:
            assert stage.title in drawn
            for loss in stage.losses.chosen:
                assert f"{loss} ×" in drawn


def test_another_recipe_is_another_drawing():
    stages = [
        {"train": ["plaza"], "epochs": 3},
        {
            "train": ["plaza"],
            "name": "second site",
            "epochs": 5,
            "losses": {"softmax": None, "triplet": {"weight": 2.0}},
        },
    ]
    drawn = words(draw(plain_recipe(stages=stages, test={"rerank": None}, data={"augment": {"erase": None}})))
    assert "Stage 1 of 2: plaza, 3 epochs" in drawn
    assert "Stage 2 of 2: second site, 5 epochs" in drawn
    assert drawn.count("softmax ×") == 1
    assert "triplet × 2" in drawn
    assert "after stage 1" in drawn
    assert "Re-ranking" not in drawn
    assert "erase" not in drawn


SEQUENCE = [{"train": ["plaza"], "epochs": 3}, {"train": ["plaza"], "name": "again", "epochs": 5}]


def test_the_earlier_model_and_what_is_kept_are_drawn():
    method = {"lwf": {"tr_dist": 1.0, "heads": 1.0}, "average": {}}
    svg = draw(plain_recipe(stages=SEQUENCE, method=method))
    first, second = words(svg).split("Stage 2 of 2")
    assert "Previous model the model after stage 1, frozen used by average, lwf" in second
    assert "Memory: lwf the classifiers of earlier stages" in second
    assert "method: lwf" in second
    assert "After the last epoch: average Average the weights" in second
    for nothing in ("Previous model", "method: lwf", "average"):
        assert nothing not in first
    assert "After the last epoch: lwf Keep the classifier of the stage" in " ".join(first.split())
    assert "method: average" not in svg


def test_the_teacher_points_to_the_losses_that_ask_it():
    plain = draw(plain_recipe(stages=SEQUENCE))
    asked = draw(plain_recipe(stages=SEQUENCE, method={"feature": {}}))
    average = draw(plain_recipe(stages=SEQUENCE, method={"average": {}}))
    assert "Previous model" not in words(plain)
    arrows = [svg.count("<polygon") for svg in (plain, asked, average)]
    assert arrows == [arrows[0], arrows[0] + 4, arrows[0] + 2]  # augmented images, its own arrow, the loss's two


@pytest.mark.parametrize("method", [{"dask": {}}, {"ebll": {}}, {"ewc": {}}, {"replay": {"match": 1.0}}])
def test_a_loss_that_needs_an_earlier_stage_is_drawn_from_the_second_on(method):
    (name,) = method
    sums = [f"Sum of {count} weighted terms" for count in (2, 3)]
    first, second = " ".join(words(draw(plain_recipe(stages=SEQUENCE, method=method))).split()).split("Stage 2 of 2")
    assert (f"method: {name}" in first, f"method: {name}" in second) == (False, True)
    assert (sums[0] in first, sums[1] in second) == (True, True)


def test_a_memory_that_only_leaves_something_adds_no_loss():
    drawn = " ".join(words(draw(plain_recipe(stages=SEQUENCE, method={"replay": {}, "dask": {"weight": 0}}))).split())
    assert drawn.count("Sum of 2 weighted terms") == 2
    assert "method: " not in drawn


def test_a_run_that_tests_nothing_says_so():
    drawn = words(draw(plain_recipe(evaluate=[])))
    assert "No evaluation" in drawn
    for word in ("Re-ranking", "mAP", "Query and gallery", "Distance"):
        assert word not in drawn


def test_what_the_test_averages_is_drawn():
    drawn = words(draw(plain_recipe(test={"flip": True, "queries": "multi"})))
    assert "averaged with the mirror image's" in drawn
    assert "queries averaged over person and camera" in drawn
    assert "averaged" not in words(draw(plain_recipe()))


def test_tricks_of_learning_are_drawn():
    drawn = words(draw(plain_recipe(optim={"ema_decay": 0.999, "freeze_backbone_steps": 200})))
    assert "EMA 0.999" in drawn
    assert "backbone frozen for 200 steps" in drawn
    plain = words(draw(plain_recipe()))
    assert "EMA" not in plain
    assert "still" not in plain


def test_a_margin_that_does_nothing_is_not_drawn():
    losses = {"softmax": {}, "triplet": {"form": "soft"}}
    assert "margin" not in words(draw(plain_recipe(losses=losses)))


def test_a_schedule_is_told_as_it_runs():
    cosine = plain_recipe(optim={"schedule": "cosine", "warmup_epochs": 0, "min_lr": 1e-6})
    drawn = words(draw(cosine))
    assert "decaying to 1e-06" in drawn
    assert "warm-up" not in drawn
    assert "no milestone is reached" in words(draw(plain_recipe(optim={"milestones": [40]})))


@pytest.mark.parametrize(
    ("sampler", "text"), [("pk", "all identities alike"), ("per_domain", "an equal share of each data set")]
)
def test_joint_training_tells_how_it_draws(sampler, text):
    stages = [{"train": ["plaza", "msmt17"], "epochs": 3}]
    assert text in words(draw(plain_recipe(stages=stages, data={"sampler": sampler})))
    assert text not in words(draw(plain_recipe()))


def test_names_are_escaped():
    svg = draw(plain_recipe('<b> & "c"'))
    assert "<b>" not in svg
    assert html.escape("<b>") in svg
    assert '<b> & "c"' in words(svg)


def test_without_a_neck_the_vectors_are_told_to_be_the_same():
    drawn = words(draw(plain_recipe(model={"backbone": "test_resnet", "neck": "none"})))
    assert "no neck: the same vector" in drawn
    assert "Neck:" not in drawn


def without_labels(method, **more):
    stage = {"train": ["plaza"], "labelled": False, "epochs": 12, "iterations": 40, "method": method}
    nothing = {"softmax": None, "triplet": None}
    return plain_recipe(stages=[{**stage, **more}], init_from="runs/elsewhere", losses=nothing)


def test_a_stage_without_labels_shows_the_loop_from_looking_to_learning():
    svg = draw(without_labels({"contrast": {"camera_norm": "centre"}}))
    drawn = words(svg)
    assert "Source: a finished run RUN INITIAL MODEL runs/elsewhere" in drawn
    steps = (
        "12 epochs. Before each: pseudo-labels",
        "All images",
        "The network as it is now",
        "Vectors at unit length",
    )
    steps += (
        "without each camera's mean",
        "Clusters: dbscan",
        "Pseudo-labels",
        "an image in no cluster is left",
    )
    steps += (
        "labels for this epoch",
        "next epoch",
        "In each epoch of plaza",
        "40 batches in an epoch",
        "Memory of clusters",
    )
    for step in steps:
        assert step in drawn
    assert "identities known" not in drawn
    labelled = words(draw(plain_recipe()))
    for step in ("pseudo-labels", "next epoch", "Clusters"):
        assert step not in labelled


@pytest.mark.parametrize(
    ("method", "told"),
    [
        ({"spcl": {}}, ("Hybrid memory", "is an identity of its own", "The memory, as batches updated it")),
        ({"mmt": {}}, ("Second network", "Two mean teachers", "The mean of both mean teachers")),
        ({"pseudo": {"stop": {}}, "dec": {}}, ("Centres", "the stage ends when clusters have converged")),
    ],
)
def test_what_stands_beside_the_network_is_drawn(method, told):
    drawn = words(draw(without_labels(method)))
    for words_of_it in told:
        assert words_of_it in drawn


def test_k_means_leaves_no_image_out():
    drawn = words(draw(without_labels({"contrast": {"cluster": {"kind": "kmeans", "k": 9}}})))
    assert "every image is in a cluster" in drawn
    assert "left out" not in drawn
    assert "the run stops" not in drawn


def test_known_people_beside_are_drawn_apart():
    recipe = plain_recipe(
        datasets={name: {"kind": "market1501", "root": name} for name in ("plaza", "yard")},
        stages=[{"train": ["yard"], "labelled": False, "source": ["plaza"], "epochs": 1, "method": {"pseudo": {}}}],
        init_from="runs/plaza",
    )
    drawn = words(draw(recipe))
    assert "images of plaza are trained on jointly" in drawn
    assert "Source images plaza identities known" in drawn
    assert "identities of plaza keep their labels" in drawn


def test_what_a_recipe_does_not_have_is_not_drawn():
    drawn = words(draw(load_recipe("small")))
    for absent in ("ibn", "attention", "non local"):
        assert absent not in drawn
    assert "weights none" in drawn
