"""A model that can only be run becomes a trained network of another kind, on the images of a folder alone."""

import json
from pathlib import Path

import numpy as np
import pytest
import yaml

from passerby.adaptation.recipe import require_adaptation, resumed_adaptation, source_of
from passerby.adaptation.student import student_adaptation
from passerby.encoders import load_model, load_trained
from passerby.errors import UserError
from passerby.methods.clustered import unit
from passerby.recipe import recipe_of_run
from passerby.recipe.places import public_text
from passerby.training import run_log
from passerby.training.pseudo_labels import read_pseudo_labels
from tests.adaptation.test_recipe import IMAGES, PEOPLE, adapt, paint, refused
from tests.methods.steps import TEACHER
from tests.onnx_graphs import helper, write_graph

SMALL = [
    "--backbone", "test_resnet", "input.size=[32, 16]", "model.last_stride=1", "engine.device=cpu", "engine.threads=1",
    "data.workers=0", "stages.0.epochs=2", "stages.0.iterations=4",
]  # fmt: skip
CLUSTERS = f"cluster={{k1: {IMAGES}, k2: 2, min_samples: 3}}"
STUDENT = [*SMALL, f"method.pseudo.{CLUSTERS}"]
OWN = ["--method", "contrast", f"method.contrast.{CLUSTERS}", "stages.1.epochs=1", "stages.1.iterations=2"]


@pytest.fixture(scope="module")
def crops(tmp_path_factory):
    return paint(tmp_path_factory.mktemp("crops") / "crops")


@pytest.fixture(scope="module")
def taught(crops, tmp_path_factory):
    """A student of a graph, and what was printed meanwhile."""
    out = tmp_path_factory.mktemp("taught") / "run"
    result = adapt(TEACHER, crops, out, *STUDENT)
    assert result.exit_code == 0, result.output
    return out, result.output


def test_a_graph_becomes_a_model_that_embeds(taught, crops):
    out, printed = taught
    assert f"{TEACHER}: {PEOPLE} clusters in {PEOPLE * IMAGES} images" in printed
    assert "The teacher embeds them, a clustering algorithm groups" in (out / "report.html").read_text()
    model = load_trained(out)
    assert model.recipe.model.backbone == "test_resnet"
    vectors = model.vectors(np.array(sorted(str(path) for path in crops.rglob("*.png"))))
    assert vectors.shape == (PEOPLE * IMAGES, model.embedder.dimension)
    assert json.loads((out / "clusters.json").read_text())["images"] == PEOPLE * IMAGES


def test_it_learns_vectors_and_clusters_of_the_teacher(taught, crops):
    out, _ = taught
    first, last = run_log.epochs(run_log.read(out / "log.jsonl"))
    assert set(first.terms) == set(last.terms) == {"distil cosine", "distil affinity", "softmax", "triplet"}
    (stage,) = recipe_of_run(out / "recipe.yaml").stages
    assert (stage.optim.lr, stage.optim.weight_decay, stage.data.augment.pad) == (3e-3, 1e-3, 1)
    pseudo = stage.method.chosen["pseudo"]
    assert pseudo.embedder == "teacher"
    vectors = load_model(TEACHER).vectors(np.array(sorted(str(path) for path in crops.rglob("*.png"))))
    expected, _ = pseudo.make().find(unit(vectors))
    labels = [each.labels for each in read_pseudo_labels(out)]
    assert len(labels) == 3, "of two epochs and of the identities that the run ends with"
    for each in labels:
        np.testing.assert_array_equal(each, expected.labels)


def test_with_a_method_it_goes_on_with_clusters_of_its_own(crops, tmp_path):
    result = adapt(TEACHER, crops, tmp_path / "run", *SMALL, *OWN)
    assert result.exit_code == 0, result.output
    first, *_, last = run_log.epochs(run_log.read(tmp_path / "run" / "log.jsonl"))
    assert set(first.terms) == {"distil cosine", "distil affinity", "softmax", "triplet"}
    assert set(last.terms) == {"contrast"}
    recipe = recipe_of_run(tmp_path / "run" / "recipe.yaml")
    pseudo, contrast = recipe.stages[0].method.chosen["pseudo"], recipe.stages[1].method.chosen["contrast"]
    assert (pseudo.embedder, contrast.embedder) == ("teacher", "model")
    assert pseudo.cluster == contrast.cluster, "an override of the clustering holds for both"
    assert recipe.stages[0].optim.lr > recipe.stages[1].optim.lr


def test_camera_norm_holds_for_clusters_and_vectors(crops, tmp_path):
    adapt(TEACHER, crops, tmp_path / "run", *STUDENT, "--camera-norm", "centre")
    chosen = recipe_of_run(tmp_path / "run" / "recipe.yaml").stages[0].method.chosen
    assert (chosen["pseudo"].camera_norm, chosen["distil"].camera_norm) == ("centre", "centre")


def test_pretrained_weights_keep_the_usual_rate(crops):
    recipe = student_adaptation(
        Path(TEACHER), crops, backbone="resnet18", overrides=["model.weights=pretrained", *STUDENT[2:]]
    )
    assert recipe.stages[0].optim.lr == 3.5e-4


def test_a_rate_that_is_given_holds(crops):
    recipe = student_adaptation(Path(TEACHER), crops, backbone="resnet18", overrides=["optim.lr=0.002", *STUDENT[2:]])
    assert (recipe.stages[0].optim.lr, recipe.stages[0].optim.weight_decay) == (2e-3, 1e-3)


def test_the_run_names_its_teacher_and_hands_on_no_folder(taught, crops):
    recipe = recipe_of_run(taught[0] / "recipe.yaml")
    assert source_of(recipe) == TEACHER
    handed_on = yaml.safe_load(public_text(recipe))
    assert handed_on["method"]["distil"]["teacher"] == "teacher.onnx"
    assert str(crops) not in public_text(recipe)


def test_it_resumes_with_the_same_teacher_only(taught, crops, tmp_path):
    out, _ = taught
    recipe = resumed_adaptation(Path(TEACHER), crops, out)
    assert source_of(recipe) == TEACHER
    other = write_graph(tmp_path / "other.onnx")
    with pytest.raises(UserError, match=r"adapts .*teacher.onnx to"):
        require_adaptation(recipe, other, crops, out=out)


def test_a_graph_without_a_student_is_refused(crops, tmp_path):
    assert "which can be run and not trained: add --backbone resnet18" in refused(
        adapt(TEACHER, crops, tmp_path / "run")
    )


def test_a_teacher_that_gives_nan_is_refused(crops, tmp_path):
    root = helper.make_node("Log", ["images"], ["logarithms"])  # of negative numbers
    flat = helper.make_node("Flatten", ["logarithms"], ["vectors"], axis=1)
    graph = write_graph(tmp_path / "nan.onnx", shape=("batch", 3, 8, 8), nodes=[root, flat])
    sentence = refused(adapt(graph, crops, tmp_path / "run", *STUDENT))
    assert "nan.onnx gives NaN or infinity" in sentence
    assert not (tmp_path / "run").exists()


def test_a_missing_teacher_is_refused(crops, tmp_path):
    assert "no ONNX file" in refused(adapt(tmp_path / "none.onnx", crops, tmp_path / "run", *STUDENT))
    assert "no trained model at" in refused(adapt(tmp_path / "none", crops, tmp_path / "run", *STUDENT))
