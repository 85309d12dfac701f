"""OpenVINO files as embedders: what their graph shows is followed, and what cannot work is refused."""

import numpy as np
import pytest
from typer.testing import CliRunner

from passerby.cli import app
from passerby.encoders.loading import load_model
from passerby.errors import UserError
from passerby.metrics.calibration import calibrate
from passerby.thresholds import read_calibration, write_calibration
from passerby.types import Embeddings

openvino = pytest.importorskip("openvino")
opset = pytest.importorskip("openvino.opset13")

MEAN, SCALE = np.array([120.0, 110.0, 100.0]), np.array([50.0, 60.0, 70.0])


def per_channel(values):
    return np.asarray(values, np.float32).reshape(1, 3, 1, 1)


def write_network(folder, *, reverse=False, normalise=False, weight=1.0, batch=1):
    """Write a network that averages each channel and multiplies the averages; a small one of each kind."""
    images = opset.parameter([batch, 3, 16, 8], np.float32, name="data")
    node = images
    if reverse:
        node = opset.gather(node, np.array([2, 1, 0]), np.array(1))
    if normalise:
        node = opset.multiply(opset.subtract(node, per_channel(MEAN)), per_channel(1 / SCALE))
    kernel = np.full((3, 3, 1, 1), 0.0, np.float32)
    kernel[[0, 1, 2], [0, 1, 2]] = weight
    node = opset.convolution(node, kernel, [1, 1], [0, 0], [0, 0], [1, 1])
    node = opset.reduce_mean(node, np.array([2, 3]), keep_dims=False)
    node.output(0).get_tensor().set_names({"embedding"})
    path = folder / "model.xml"
    openvino.save_model(openvino.Model([node], [images], "net"), path, compress_to_fp16=False)
    return path


def picture(red, green, blue):
    return np.broadcast_to(np.array([red, green, blue], np.uint8), (1, 16, 8, 3)).copy()


def test_a_graph_that_reverses_and_normalises_is_given_bgr_bytes(tmp_path):
    model = load_model(write_network(tmp_path, reverse=True, normalise=True))
    assert "normalises values from 0 to 255 by itself" in model.notes[0]
    assert "BGR" in model.notes[0]
    expected = (np.array([200, 100, 50]) - MEAN) / SCALE  # reversed back: red first
    assert np.allclose(model.embed(picture(200, 100, 50)), [expected], atol=1e-5)


def test_a_graph_that_does_not_normalise_is_given_normalised_rgb(tmp_path):
    model = load_model(write_network(tmp_path))
    assert "does not normalise by itself" in model.notes[0]
    expected = (np.array([200, 100, 50]) / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    assert np.allclose(model.embed(picture(200, 100, 50)), [expected], atol=1e-5)
    by_hand = load_model(tmp_path / "model.xml", ["values=bytes", "colour=bgr"])
    assert np.allclose(by_hand.embed(picture(200, 100, 50)), [[50, 100, 200]], atol=1e-4)


@pytest.mark.parametrize("count", [1, 3])
def test_a_network_of_one_image_takes_any_number(tmp_path, count):
    model = load_model(write_network(tmp_path))
    assert model.network.entry.batch is None
    images = np.random.default_rng(0).integers(0, 256, (count, 16, 8, 3), dtype=np.uint8)
    apart = np.concatenate([model.embed(image[None]) for image in images])
    assert np.allclose(model.embed(images), apart, atol=1e-5)


def test_vectors_that_do_not_depend_on_the_image_are_refused_with_what_to_try(tmp_path):
    with pytest.raises(UserError, match=r"the same vector for different images .* try --input values=bytes"):
        load_model(write_network(tmp_path, weight=0.0))
    with pytest.raises(UserError, match="NaN or infinity"):
        load_model(write_network(tmp_path, weight=np.inf))


def test_files_that_are_missing_or_damaged_are_refused(tmp_path):
    path = write_network(tmp_path)
    weights = path.with_suffix(".bin")
    result = CliRunner().invoke(app, ["embed", str(weights), str(tmp_path), "-o", str(tmp_path / "x.npz")])
    assert result.exit_code == 2
    assert "give" in result.stderr
    assert "model.xml" in result.stderr
    content = weights.read_bytes()
    weights.unlink()
    with pytest.raises(UserError, match=r"its weights in model\.bin, which is not beside it"):
        load_model(path)
    weights.write_bytes(content)
    path.write_text(path.read_text()[:200])
    with pytest.raises(UserError, match="is not an OpenVINO file that can be run"):
        load_model(path)


def test_a_calibration_is_stored_in_the_xml_and_the_network_stays(tmp_path):
    path = write_network(tmp_path, normalise=True)
    before = load_model(path).embed(picture(1, 2, 3))
    generator = np.random.default_rng(0)
    pid = np.repeat(np.arange(12), 4)
    table = Embeddings(generator.normal(size=(48, 4)).astype(np.float32), pid, np.arange(48) % 2, np.full(48, ""))
    assert read_calibration(path) is None
    for rates in ((0.1,), (0.2,)):
        calibration = calibrate(table, rates=rates)
        write_calibration(path, calibration)
        assert read_calibration(path) == calibration
    assert np.array_equal(load_model(path).embed(picture(1, 2, 3)), before)
