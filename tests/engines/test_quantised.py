"""Networks in int8: when they begin, where their ranges are from, and that the difference is reported."""

from dataclasses import replace

import numpy as np
import pytest

import passerby
from passerby.device import InferenceSettings
from passerby.encoders import load_model
from passerby.engines import choose_engine, quantised
from passerby.engines.quantised import INT8, QuantisedModel, load_int8
from passerby.errors import UserError
from tests.onnx_graphs import write_graph

WANTED = InferenceSettings(device="cpu", engine="auto", precision="int8")


@pytest.fixture(scope="module")
def trained(file):
    return load_model(file, inference=WANTED)


def images(count, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, 32, 16, 3), dtype=np.uint8)


def cosines(first, second):
    first, second = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True) for vectors in (first, second))
    return (first * second).sum(axis=1)


def test_int8_begins_once_there_are_enough_images_and_reports_its_difference(trained, tmp_path):
    pytest.importorskip("onnxruntime")
    said = []
    model = QuantisedModel(trained, say=said.append, folder=tmp_path)
    few = images(20)
    np.testing.assert_array_equal(model.embed(few), trained.embed(few))
    assert str(model.engine) == "torch float32"
    assert said == ["fewer than 32 images: torch float32, until int8 has as many to take its ranges from"]
    more = images(200, seed=1)
    vectors, exact = model.embed(more), trained.embed(more)
    assert model.engine == INT8
    assert not np.array_equal(vectors, exact)
    assert cosines(vectors, exact).min() > 0.95
    # 20 of the first call and 96 of the second; a third of them is compared
    assert said[1].startswith(
        "onnxruntime int8, with ranges from 78 of the images; vectors of 38 others differ by up to "
    )
    reported = float(said[1].split("by up to ")[1].split()[0])
    rows = np.unique(np.linspace(0, 199, 96).astype(int))
    others = np.concatenate([few, more[rows]])[2::3]
    assert reported == pytest.approx(1 - cosines(model.embed(others), trained.embed(others)).min(), rel=0.1)


def test_ranges_are_kept_for_the_images_that_they_are_from_and_for_no_others(trained, tmp_path, monkeypatch):
    pytest.importorskip("onnx")

    class Graph:
        def __init__(self, batches):
            self.batches = np.concatenate(list(batches))

        def SerializeToString(self):
            return self.batches.tobytes()

    graphs = []
    monkeypatch.setattr(quantised, "load_graph", lambda trained, folder: b"")
    monkeypatch.setattr(quantised, "to_int8", lambda graph, batches: graphs.append(1) or Graph(batches))
    bright, dark = images(35), images(35) // 16
    for expected in (bright, dark, bright, dark):
        content = load_int8(trained, expected, folder=tmp_path)
        assert content == expected.transpose(0, 3, 1, 2).tobytes()
    assert len(graphs) == 2
    load_int8(trained.with_flip(not trained.flip), bright, folder=tmp_path)
    assert len(graphs) == 3


def test_an_encoder_takes_int8_and_torch_openvino_and_graphs_refuse_it(file, trained, tmp_path):
    pytest.importorskip("onnxruntime")
    encoder = passerby.Encoder(file, device="cpu", precision="int8")
    assert isinstance(encoder.running, QuantisedModel)
    assert encoder.scored is encoder.running
    assert encoder.engine == "torch float32"
    with pytest.raises(UserError, match="precision int8 is run by onnxruntime on the CPU, in embed, search, evaluate"):
        load_model(file, inference=replace(WANTED, engine="torch"))
    with pytest.raises(UserError, match="precision int8 is run by onnxruntime"):
        load_model(file, inference=replace(WANTED, engine="openvino"))
    with pytest.raises(UserError, match="--precision int8 is run by onnxruntime, got --engine openvino"):
        choose_engine(replace(trained, inference=replace(WANTED, engine="openvino")))
    graph = load_model(write_graph(tmp_path / "other.onnx"), inference=WANTED)
    with pytest.raises(UserError, match=r"int8 has no effect: .*other.onnx holds a graph, .*export --int8 writes one"):
        choose_engine(graph)


def test_a_model_with_cameras_and_missing_packages_are_refused(trained, monkeypatch):
    class WithCameras(type(trained)):
        cameras = passerby.types.CameraTable.from_plain({"site": [1, 2]}, source="a test")

    with pytest.raises(UserError, match="--precision int8 is for models without camera embeddings"):
        QuantisedModel(WithCameras(trained.embedder, trained.recipe, trained.source, trained.flip))
    monkeypatch.setattr("passerby.engines.automatic.is_installed", lambda _: False)
    with pytest.raises(UserError, match=r"needs packages that are not installed: pip install 'passerby\[export\]'"):
        choose_engine(trained)
