"""`evaluate --open-set` and `--camera-norm` on vectors whose answers are known."""

import json

import numpy as np
import pytest
from typer.testing import CliRunner

from passerby.cli import app
from passerby.evaluation import evaluate, evaluate_open_set
from passerby.models.embedder import Embedder, save_embedder
from passerby.types import Embeddings


@pytest.fixture
def table(tmp_path):
    """Ten people in gallery and query; ten more that only the query shows."""
    generator = np.random.default_rng(0)
    people = generator.normal(size=(20, 8))
    pid = np.concatenate([np.arange(20), np.arange(10)])
    vectors = people[pid] + 0.4 * generator.normal(size=(30, 8))
    role = np.repeat(["query", "gallery"], [20, 10])
    embeddings = Embeddings(vectors.astype(np.float32), pid, np.repeat([0, 1], [20, 10]), role, dataset="drawn")
    embeddings.save(tmp_path / "table.npz")
    return tmp_path / "table.npz"


def run(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_open_set_rates_are_printed_with_their_definition_and_written(table, tmp_path):
    result = run("evaluate", "--embeddings", table, "--open-set", "--json", tmp_path / "scores.json")
    assert result.exit_code == 0, result.output
    output = " ".join(result.output.split())
    assert (
        "10 queries with their identity among 10 in the gallery; 10 others, whose identity the gallery does not"
        in output
    )
    assert "1 % false alarms need 100 queries of people outside the gallery, there are 10" in output
    written = json.loads((tmp_path / "scores.json").read_text())["open_set"]
    expected = evaluate_open_set(Embeddings.load(table))
    assert written["rates"][0]["threshold"] == expected.rows[0].threshold
    assert written["unresolved_targets"] == [1.0]
    assert f"{100 * expected.rows[0].dir1:.1f} %" in output


def test_the_chosen_camera_norm_is_applied_and_named(table):
    result = run("evaluate", "--embeddings", table, "--camera-norm", "centre")
    assert result.exit_code == 0, result.output
    assert "camera norm centre" in " ".join(result.output.split())
    assert f"{100 * evaluate(Embeddings.load(table), camera_norm='centre').mAP:.1f}" in result.output
    assert "camera norm" not in run("evaluate", "--embeddings", table).output


def test_an_open_set_without_other_people_leaves_each_query_s_identity_out(table):
    embeddings = Embeddings.load(table)
    closed = embeddings.select(embeddings.pid < 10)
    scores = evaluate_open_set(closed)
    assert scores.probes.kind == "left_out"
    assert len(scores.probes.non_mated) == len(scores.probes.mated) == 10


def test_a_model_is_evaluated_with_the_camera_norm_of_its_recipe_unless_another_is_given(tiny, site, tmp_path):
    recipe, file = tiny("test.camera_norm=centre"), tmp_path / "embedder.safetensors"
    save_embedder(Embedder(recipe.model, recipe.input), file, recipe=recipe.dump())
    for options, expected in (((), "centre"), (("--camera-norm", "none"), "none")):
        result = run("evaluate", file, "--data", site, *options, "--json", tmp_path / "scores.json")
        assert result.exit_code == 0, result.output
        assert json.loads((tmp_path / "scores.json").read_text())["protocol"]["camera_norm"] == expected
        assert ("camera norm centre" in " ".join(result.output.split())) == (expected == "centre")
