"""Calibrated thresholds: found on labelled images, stored in the model, used by search and verify."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from typer.testing import CliRunner

from passerby.cli import app
from passerby.errors import UserError
from passerby.inputs import InputSettings
from passerby.metrics.calibration import calibrate
from passerby.models.embedder import Embedder, ModelSettings, load_embedder, save_embedder
from passerby.recipe import Recipe
from passerby.thresholds import accepted_distance, domain_note, read_calibration, write_calibration
from passerby.types import Embeddings

RATE = 0.2


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    torch.manual_seed(0)
    embedder = Embedder(ModelSettings(backbone="osnet_x0_25"), InputSettings(size=(32, 16)))
    path = tmp_path_factory.mktemp("model") / "model.safetensors"
    save_embedder(embedder, path, recipe=Recipe().dump())
    return path


@pytest.fixture
def model(saved, tmp_path):
    path = tmp_path / "model.safetensors"
    path.write_bytes(saved.read_bytes())
    return path


def drawn(dataset="drawn", *, cameras=2):
    generator = np.random.default_rng(0)
    pid = np.repeat(np.arange(12), 2 * cameras)
    vectors = generator.normal(size=(12, 4))[pid] + 0.5 * generator.normal(size=(len(pid), 4))
    cam = np.arange(len(pid)) % cameras
    return Embeddings(vectors.astype(np.float32), pid, cam, np.full(len(pid), ""), dataset=dataset)


def run(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_a_calibration_is_stored_beside_the_weights_and_replaces_an_earlier_one(model):
    before, outputs = load_file(model), load_embedder(model).settings
    first = calibrate(drawn(), rates=(RATE,))
    second = calibrate(drawn("again"), rates=(RATE, 0.1))
    write_calibration(model, first)
    write_calibration(model, second)
    assert read_calibration(model) == second
    assert load_embedder(model).settings == outputs
    after = load_file(model)
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert accepted_distance(model, 0.1)[0] == second.distance(0.1)


def test_an_onnx_file_carries_its_calibration(tmp_path):
    onnx = pytest.importorskip("onnx")
    node = onnx.helper.make_node("Identity", ["images"], ["vectors"])
    value = [
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["n", 3]) for name in ("images", "vectors")
    ]
    graph = onnx.helper.make_graph([node], "graph", value[:1], value[1:])
    opset = [onnx.helper.make_opsetid("", 18)]
    path = tmp_path / "model.onnx"
    onnx.save(onnx.helper.make_model(graph, opset_imports=opset, ir_version=10), path)
    assert read_calibration(path) is None
    calibration = calibrate(drawn(), rates=(RATE,))
    write_calibration(path, calibration)
    assert read_calibration(path) == calibration


def test_a_model_without_calibration_and_damaged_ones_are_refused(model):
    assert read_calibration(model) is None
    with pytest.raises(UserError, match=r"is not calibrated, .* passerby calibrate"):
        accepted_distance(model, 0.01)
    write_calibration(model, calibrate(drawn(), rates=(RATE,)))
    model.write_bytes(model.read_bytes().replace(b'\\"rate\\":0.2', b'\\"rate\\":9.2'))
    with pytest.raises(UserError, match="rate"):
        read_calibration(model)


def test_another_data_set_than_the_calibrated_one_is_reported():
    calibration = calibrate(drawn("shop"), rates=(RATE,))
    assert domain_note(calibration, "shop") is None
    assert "calibrated on shop; whether these images are like those is not known" in domain_note(calibration, "")
    assert "calibrated on shop and is used on street" in domain_note(calibration, "street")


def test_the_command_stores_what_it_prints_and_search_and_verify_use_it(model, site, tmp_path):
    table, details = tmp_path / "table.npz", tmp_path / "calibration.json"
    result = run("calibrate", model, "--data", site, "--rate", RATE, "--rate", 1e-4, "--json", details)
    assert result.exit_code == 0, result.output
    calibration = read_calibration(model)
    assert json.loads(details.read_text())["pooled"]["count_impostors"] == calibration.pooled.count_impostors
    assert f"{calibration.distance(RATE):.4f}" in result.output
    assert "0.0001: too few pairs" in result.output

    assert run("embed", model, "--data", site, "--out", table).exit_code == 0
    image = sorted((Path(site) / "query").glob("*.jpg"))[0]
    accepted = run("search", table, image, "--run", model, "--accept", RATE, "--count", 99)
    assert accepted.exit_code == 0, accepted.output
    by_hand = run("search", table, image, "--run", model, "--threshold", calibration.distance(RATE), "--count", 99)
    assert accepted.stdout == by_hand.stdout
    assert "same person at threshold" in run("verify", model, image, image, "--accept", RATE).output
    for command in (
        ("search", table, image, "--run", model, "--accept", 0.01),
        ("search", table, image, "--run", model, "--accept", RATE, "--threshold", 0.5),
        ("verify", model, image, image, "--accept", 0.01),
        ("calibrate",),
        ("calibrate", model, "--data", site, "--rate", 1.5),
        ("calibrate", model, "--data", site, "--rate", 1e-6),
        ("calibrate", "--embeddings", table, "--data", site),
    ):
        refused = run(*command)
        assert refused.exit_code == 2, refused.output
        assert len(refused.stderr.strip().splitlines()) == 1
    assert read_calibration(model) == calibration


def test_nobody_is_found_where_no_image_is_near_enough(model, site, tmp_path):
    table = tmp_path / "table.npz"
    assert run("embed", model, "--data", site, "--out", table).exit_code == 0
    assert run("calibrate", model, "--data", site, "--rate", RATE).exit_code == 0
    calibration = read_calibration(model)
    threshold = calibration.pooled.thresholds[0].model_copy(update={"distance": 0.0})
    pooled = calibration.pooled.model_copy(update={"thresholds": (threshold,)})
    write_calibration(model, calibration.model_copy(update={"pooled": pooled}))
    image = sorted((Path(site) / "bounding_box_train").glob("*.jpg"))[0]
    assert run("search", table, image, "--run", model, "--accept", RATE).stdout.strip() == "nobody here"


def test_camera_norm_of_a_calibration_is_used_by_search_and_refused_by_verify(model, site, tmp_path):
    table = tmp_path / "table.npz"
    assert run("embed", model, "--data", site, "--out", table).exit_code == 0
    assert run("calibrate", model, "--data", site, "--rate", RATE, "--camera-norm", "auto").exit_code == 0
    distance = read_calibration(model).distance(RATE)
    image = sorted((Path(site) / "query").glob("*.jpg"))[0]
    accepted = run("search", table, image, "--run", model, "--accept", RATE, "--count", 99).stdout
    same = ("--threshold", distance, "--camera-norm", "auto")
    assert accepted == run("search", table, image, "--run", model, *same, "--count", 99).stdout
    assert accepted != run("search", table, image, "--run", model, "--threshold", distance, "--count", 99).stdout
    refused = run("verify", model, image, image, "--accept", RATE)
    assert refused.exit_code == 2
    assert "needs many images of each camera" in refused.stderr
    other = run("search", table, image, "--run", model, "--accept", RATE, "--camera-norm", "centre")
    assert other.exit_code == 2
