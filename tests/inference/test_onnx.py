"""ONNX files of other programs: what the graph says, what an image shows, what a person may say, what is refused."""

import sys

import numpy as np
import pytest
from onnx import TensorProto, helper
from PIL import Image

from passerby.device import InferenceSettings
from passerby.encoders import load_model
from passerby.errors import UserError
from passerby.inference.onnx import load_onnx
from tests.onnx_graphs import average, cast, whole, write_graph

COLOUR = np.array([200, 100, 50])
MEAN, STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
NORMALISED = (COLOUR / 255 - MEAN) / STD


@pytest.fixture(scope="module")
def paths(tmp_path_factory):
    """Five images: one plain colour, four that are black but for the red, which rises."""
    folder = tmp_path_factory.mktemp("images")
    for number, colour in enumerate([COLOUR, *([40 * step, 0, 0] for step in range(1, 5))]):
        Image.fromarray(np.full((20, 10, 3), colour, np.uint8)).save(folder / f"{number}.png")
    return np.array(sorted(str(path) for path in folder.iterdir()))


def nhwc(path, **changes):
    nodes, constants = average((1, 2))
    return write_graph(path, shape=("batch", "height", "width", 3), nodes=nodes, constants=constants, **changes)


def typed(path, dtype, **changes):
    """A graph that takes another type than float32."""
    nodes, constants = average((2, 3), source="floats")
    nodes = [cast("images", "floats", TensorProto.FLOAT), *nodes]
    return write_graph(path, dtype=dtype, nodes=nodes, constants=constants, **changes)


def several(path):
    """Three outputs: whole numbers, twice the averages, the averages."""
    nodes, constants = average((2, 3))
    nodes += [cast("vectors", "labels", TensorProto.INT64), helper.make_node("Add", ["vectors", "vectors"], ["twice"])]
    kinds = {"labels": TensorProto.INT64, "twice": TensorProto.FLOAT, "vectors": TensorProto.FLOAT}
    return write_graph(path, nodes=nodes, constants=constants, outputs=kinds)


def test_the_usual_network_is_given_normalised_rgb(tmp_path, paths):
    model = load_onnx(write_graph(tmp_path / "a.onnx"))
    found = model.vectors(paths)
    assert (model.dimension, model.feature, model.recipe, found.dtype) == (3, "", None, np.float32)
    np.testing.assert_allclose(found[0], NORMALISED, atol=5e-4)
    assert found[1:, 0].tolist() == sorted(found[1:, 0])


def test_what_was_assumed_is_told(tmp_path):
    (note,) = load_onnx(write_graph(tmp_path / "a.onnx")).notes
    assert "a.onnx was not written by passerby; it is given 256x128 RGB images (bilinear), mean [0.485" in note
    (note,) = load_onnx(several(tmp_path / "b.onnx"), ["values=bytes", "size=[64,32]"]).notes
    assert "64x32 RGB images (bilinear), values from 0 to 255, output 'twice' of 3; change that with --input" in note


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (["colour=bgr"], (COLOUR[::-1] / 255 - MEAN) / STD),
        (["values=bytes"], COLOUR),
        (["mean=[0.5,0.5,0.5]", "std=[0.5,0.5,0.5]"], COLOUR / 127.5 - 1),
        (["mean=[0.0,0.0,0.0]", "std=[1.0,1.0,1.0]"], COLOUR / 255),
    ],
)
def test_a_person_says_what_the_network_wants(tmp_path, paths, said, expected):
    found = load_onnx(write_graph(tmp_path / "a.onnx"), said).vectors(paths[:1])
    np.testing.assert_allclose(found[0], expected, atol=5e-4, rtol=1e-4)


def test_colours_may_stand_last(tmp_path, paths):
    np.testing.assert_allclose(load_onnx(nhwc(tmp_path / "a.onnx")).vectors(paths[:1])[0], NORMALISED, atol=5e-4)


@pytest.mark.parametrize(
    ("dtype", "expected", "tolerance"),
    [
        (TensorProto.UINT8, COLOUR, 0.02),
        (TensorProto.FLOAT16, NORMALISED, 2e-3),
        (TensorProto.DOUBLE, NORMALISED, 5e-4),
    ],
)
def test_types_follow_the_graph(tmp_path, paths, dtype, expected, tolerance):
    found = load_onnx(typed(tmp_path / "a.onnx", dtype)).vectors(paths[:1])
    np.testing.assert_allclose(found[0], expected, atol=tolerance)


def test_sizes_follow_the_graph(tmp_path):
    model = load_onnx(write_graph(tmp_path / "a.onnx", shape=("batch", 3, 48, "width")), [])
    assert model.settings.size == (48, 128)


@pytest.mark.parametrize("batch", [1, 2, 4])
def test_a_fixed_batch_size_is_served(tmp_path, paths, batch):
    model = load_onnx(write_graph(tmp_path / "a.onnx", shape=(batch, 3, "height", "width")))
    free = load_onnx(write_graph(tmp_path / "b.onnx"))
    np.testing.assert_array_equal(model.vectors(paths), free.vectors(paths))
    assert (model.entry.batch, free.entry.batch) == (batch, None)


def test_a_batch_size_that_is_promised_but_not_kept_is_found_out(tmp_path, paths):
    nodes, constants = average((2, 3), target="rows")
    nodes += [helper.make_node("Reshape", ["rows", "shape"], ["vectors"])]
    model = load_onnx(write_graph(tmp_path / "a.onnx", nodes=nodes, constants=[*constants, whole("shape", 1, -1)]))
    assert (model.entry.batch, model.dimension) == (1, 3)
    np.testing.assert_array_equal(model.vectors(paths), load_onnx(write_graph(tmp_path / "b.onnx")).vectors(paths))


def test_a_graph_that_fails_later_is_told(tmp_path, paths):
    nodes, constants = average((2, 3), target="rows")
    nodes += [helper.make_node("Reshape", ["rows", "shape"], ["vectors"])]  # two images pass, five do not
    model = load_onnx(write_graph(tmp_path / "a.onnx", nodes=nodes, constants=[*constants, whole("shape", 2, 3)]))
    with pytest.raises(UserError, match=r"a.onnx fails on 5 images at once \("):
        model.vectors(paths)


def test_vectors_may_carry_the_shape_of_a_map(tmp_path, paths):
    nodes, constants = average((2, 3), keep=1)
    model = load_onnx(write_graph(tmp_path / "a.onnx", nodes=nodes, constants=constants))
    assert model.vectors(paths).shape == (5, 3)


def test_the_first_output_that_fits_is_taken_or_the_one_that_is_named(tmp_path, paths):
    path = several(tmp_path / "a.onnx")
    twice, once = load_onnx(path), load_onnx(path, ["output=vectors"])
    assert (twice.output, once.output) == ("twice", "vectors")
    np.testing.assert_allclose(twice.vectors(paths), 2 * once.vectors(paths), rtol=1e-6)


def test_progress_is_told_and_no_images_make_no_vectors(tmp_path, paths):
    heard = []
    model = load_onnx(write_graph(tmp_path / "a.onnx"))
    model.vectors(paths, batch=2, progress=lambda done, count: heard.append((done, count)))
    assert heard == [(2, 5), (4, 5), (5, 5)]
    assert model.vectors(paths[:0]).shape == (0, 3)


def classifier(path):
    nodes, constants = average((2, 3))
    nodes += [cast("vectors", "labels", TensorProto.INT64)]
    return write_graph(path, nodes=nodes, constants=constants, outputs={"labels": TensorProto.INT64})


def scalar(path):
    nodes, constants = average((0, 1, 2, 3))
    return write_graph(path, nodes=nodes, constants=constants)


def one_for_all(path):
    nodes, constants = average((0, 2, 3), keep=1)
    return write_graph(path, shape=(4, 3, 8, 8), nodes=nodes, constants=constants)


def two_inputs(path):
    nodes, constants = average((2, 3), source="sum")
    nodes = [helper.make_node("Add", ["images", "more"], ["sum"]), *nodes]
    return write_graph(path, nodes=nodes, constants=constants, more_inputs=("more",))


def own_operator(path):
    return write_graph(path, nodes=[helper.make_node("Secret", ["images"], ["vectors"], domain="elsewhere")])


def table(path):
    return write_graph(path, shape=("batch", 3), nodes=[helper.make_node("Identity", ["images"], ["vectors"])])


def not_onnx(path):
    path.write_text("not a graph")
    return path


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (not_onnx, "is not an ONNX file that onnxruntime can run"),
        (own_operator, "is not an ONNX file that onnxruntime can run .*Secret"),
        (lambda path: path, "no ONNX file"),
        (classifier, r"gives no vector of floats per image: 1 image\(s\) make labels int64 \(1, 3\)"),
        (scalar, r"gives no vector of floats per image: 1 image\(s\) make vectors float32 \(\)"),
        (one_for_all, r"gives no vector of floats per image: 4 image\(s\) make vectors float32 \(1, 3, 1, 1\)"),
        (two_inputs, r"has 2 inputs \(images, more\); an embedder takes one, the images"),
        (lambda path: write_graph(path, shape=("batch", 4, 32, 16)), r"takes \(batch, 4, 32, 16\); images are \(batch"),
        (table, r"takes \(batch, 3\); images are"),
        (lambda path: typed(path, TensorProto.INT64), r"takes tensor\(int64\); images can be given as tensor\(uint8\)"),
    ],
)
def test_what_cannot_embed_is_refused(tmp_path, make, sentence):
    with pytest.raises(UserError, match=sentence):
        load_onnx(make(tmp_path / "a.onnx"))


@pytest.mark.parametrize(
    ("make", "said", "sentence"),
    [
        (write_graph, ["siez=[64,32]"], "--input: .*siez.*did you mean 'size'"),
        (write_graph, ["size"], "'size' is not an override"),
        (lambda path: write_graph(path, shape=(1, 3, 48, 24)), ["size=[64,32]"], "takes images of 48x24 only"),
        (write_graph, ["values=bytes", "mean=[0.5,0.5,0.5]"], "--input mean has no effect: .* is given bytes"),
        (lambda path: typed(path, TensorProto.UINT8), ["std=[0.5,0.5,0.5]"], "--input std has no effect"),
        (lambda path: typed(path, TensorProto.UINT8), ["values=normalised"], r"takes bytes \(uint8\)"),
        (several, ["output=vector"], "has labels, twice, vectors; did you mean 'vectors'"),
        (several, ["output=labels"], "gives no vector of floats per image"),
    ],
)
def test_what_is_said_must_make_sense(tmp_path, make, said, sentence):
    with pytest.raises(UserError, match=sentence):
        load_onnx(make(tmp_path / "a.onnx"), said)


def test_a_size_that_does_not_suit_is_told(tmp_path):
    nodes = [helper.make_node("Reshape", ["images", "shape"], ["vectors"])]
    path = write_graph(tmp_path / "b.onnx", nodes=nodes, constants=[whole("shape", 2, 7)])
    with pytest.raises(UserError, match=r"cannot take images of 256x128 .*try --input size=\[H,W\]"):
        load_onnx(path)


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"input": 3, "feature": "after_neck", "dimension": 3}'])
def test_settings_that_only_pretend_to_be_ours_are_refused(tmp_path, text):
    path = write_graph(tmp_path / "a.onnx", metadata={"passerby": text, "recipe": ""})
    with pytest.raises(UserError, match=r"a\.onnx(: |.*passerby settings that can be read)"):
        load_onnx(path)


def test_settings_that_do_not_fit_the_graph_are_refused(tmp_path):
    text = '{"input": {"size": [32, 16]}, "feature": "after_neck", "flip": false, "dimension": 3}'
    path = write_graph(tmp_path / "a.onnx", metadata={"passerby": text, "recipe": ""})
    with pytest.raises(UserError, match="do not fit its graph"):
        load_onnx(path)


def test_the_missing_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(UserError, match=r"needs the extra `export`: pip install 'passerby\[export\]'"):
        load_onnx(write_graph(tmp_path / "a.onnx"))


def test_arrays_give_the_vectors_of_their_files(tmp_path, paths):
    write_graph(tmp_path / "a.onnx")
    model = load_model(tmp_path / "a.onnx", inference=InferenceSettings(batch=2))
    images = np.stack([np.asarray(Image.open(path)) for path in paths])
    np.testing.assert_allclose(model.embed(images), model.vectors(paths), atol=1e-5)
    assert model.embed([]).shape == (0, 3)


def test_a_gpu_that_onnxruntime_cannot_reach_is_told(tmp_path):
    write_graph(tmp_path / "a.onnx")
    _, note = load_model(tmp_path / "a.onnx", inference=InferenceSettings(device="cuda")).notes
    assert "a.onnx runs on the CPU: the CUDA provider of onnxruntime is not installed" in note
