"""Each program, with its preprocessing written out, gets the vectors of the run from its file."""

import json
import shutil

import numpy as np
import onnx
import onnxruntime
import openvino
import pytest
import torch
import yaml
from PIL import Image
from torch.nn import functional as F

from passerby.encoders import load_model
from passerby.exporting import graph
from passerby.exporting.consumers import ExportOptions, export_for
from passerby.thresholds import accepted_distance, write_calibration
from tests.exporting.runs import OTHER_INPUT, calibration, cosine_distance, crops, write_run

SIZE = (32, 16)
MEAN, STD = np.float32([0.485, 0.456, 0.406]), np.float32([0.229, 0.224, 0.225])


@pytest.fixture(scope="module")
def run(tiny, tmp_path_factory):
    """A model whose normalisation and order of colours are its own, tested with mirror images."""
    folder = tmp_path_factory.mktemp("runs")
    return write_run(folder / "run", tiny("input.colour=bgr", "test.flip=true", *OTHER_INPUT))


@pytest.fixture(autouse=True, scope="module")
def _traced_once():
    """Translate each graph once; torch takes seconds for it."""
    traces, trace = {}, graph.trace

    def remembered(network):
        key = (network.contract.consumer, network.contract.side, network.flip)
        if key not in traces:
            traces[key] = trace(network)
        copy = onnx.ModelProto()
        copy.CopyFrom(traces[key])
        return copy

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(graph, "trace", remembered)
        yield


@pytest.fixture(scope="module")
def wanted(run):
    """The vectors of five images, as the run gives them without mirror images."""
    return load_model(run).with_flip(False).embed(crops(5, SIZE))


def onnx_vectors(path, values):
    session = onnxruntime.InferenceSession(path)
    return session.run(None, {session.get_inputs()[0].name: values})[0]


def as_boxmot(frame_crops):
    """Stretched BGR crops as boxmot feeds them: RGB / 255, normalised by ImageNet always, NCHW float32."""
    rgb = frame_crops[..., ::-1].astype(np.float32) / np.float32(255)
    return np.ascontiguousarray(((rgb - MEAN) / STD).transpose(0, 3, 1, 2), dtype=np.float32)


def as_ultralytics(frame_crops):
    """BGR crops as ultralytics feeds them: RGB / 255."""
    return np.ascontiguousarray(frame_crops[..., ::-1].transpose(0, 3, 1, 2), dtype=np.float32) / np.float32(255)


def as_deepstream(frame_crops):
    """Crops as nvtracker feeds them with colorFormat 0, netScaleFactor 1 and offsets 0: RGB from 0 to 255."""
    return np.ascontiguousarray(frame_crops[..., ::-1].transpose(0, 3, 1, 2), dtype=np.float32)


def as_bytes(frame_crops):
    """Crops for passerby's own files."""
    return np.ascontiguousarray(frame_crops[..., ::-1].transpose(0, 3, 1, 2))


PROGRAMS = {"boxmot": as_boxmot, "ultralytics": as_ultralytics, "deepstream": as_deepstream, "onnx": as_bytes}


@pytest.mark.parametrize("consumer", ["boxmot", "ultralytics", "deepstream"])
def test_a_program_gets_the_vectors_of_the_run(run, wanted, tmp_path, consumer):
    exported = export_for(run, tmp_path / "resnet50_a.onnx", consumer)
    assert exported.difference.cosine < 1e-6
    images = crops(5, SIZE)
    assert cosine_distance(wanted, onnx_vectors(exported.path, PROGRAMS[consumer](images[..., ::-1]))) < 1e-6
    assert cosine_distance(wanted, load_model(exported.path).embed(images)) < 1e-6  # passerby reads it too
    swapped = onnx_vectors(exported.path, PROGRAMS[consumer](images))
    assert cosine_distance(wanted, swapped) > 1e-3  # or the order of colours would not show


def test_the_printed_configuration_of_nvtracker_gives_the_vectors_of_the_run(run, wanted, tmp_path):
    exported = export_for(run, tmp_path / "a.onnx", "deepstream")
    printed = yaml.safe_load("\n".join(exported.lines))["ReID"]
    session = onnxruntime.InferenceSession(exported.path)
    (given,), (output,) = session.get_inputs(), session.get_outputs()
    assert printed["inputOrder"] == 0  # NCHW
    assert (given.type, given.shape[1:], output.shape[1]) == (
        "tensor(float)",
        printed["inferDims"],
        printed["reidFeatureSize"],
    )
    bgr = crops(5, SIZE)[..., ::-1]
    planes = bgr[..., ::-1] if printed["colorFormat"] == 0 else bgr
    values = printed["netScaleFactor"] * (planes.astype(np.float32) - np.float32(printed["offsets"]))
    found = session.run(None, {given.name: np.ascontiguousarray(values.transpose(0, 3, 1, 2), np.float32)})[0]
    assert printed["addFeatureNormalization"] == 1
    assert cosine_distance(wanted, found / np.linalg.norm(found, axis=1, keepdims=True)) < 1e-6


def test_openvino_takes_bgr_bytes_and_gives_unit_vectors(run, wanted, tmp_path):
    exported = export_for(run, tmp_path / "a.xml", "openvino")
    model = openvino.compile_model(exported.path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    (images,) = model.inputs
    assert (images.get_any_name(), list(images.shape), images.element_type.get_type_name()) == (
        "images",
        [1, 3, *SIZE],
        "f32",
    )
    bgr = crops(5, SIZE)[..., ::-1].transpose(0, 3, 1, 2).astype(np.float32)
    found = np.concatenate([model(image[None])["reid_embedding"] for image in bgr])
    assert cosine_distance(wanted, found) < 1e-6
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)
    assert cosine_distance(wanted, load_model(exported.path).embed(crops(5, SIZE))) < 1e-6
    assert load_model(exported.path).recipe is not None


def test_int8_of_openvino_is_near(run, site, tmp_path):
    options = ExportOptions(precision="int8", images=site / "bounding_box_train")
    exported = export_for(run, tmp_path / "a.xml", "openvino", options)
    assert exported.difference.cosine < 0.1
    assert "FakeQuantize" in exported.path.read_text()


def test_the_calibration_of_the_run_goes_along(run, tmp_path):
    copy = shutil.copytree(run, tmp_path / "run")
    write_calibration(copy, calibration())
    for consumer, name in (("boxmot", "resnet50_a.onnx"), ("openvino", "a.xml")):
        exported = export_for(copy, tmp_path / name, consumer)
        assert accepted_distance(exported.path, 1e-3) == (0.25, calibration())
        assert load_model(exported.path).feature == "after_neck"


def test_half_of_openvino_is_half_as_large(run, tmp_path):
    whole, half = (
        export_for(run, tmp_path / f"{precision}.xml", "openvino", ExportOptions(precision=precision))
        for precision in ("float32", "half")
    )
    assert half.difference.cosine < 1e-3
    sizes = [exported.path.with_suffix(".bin").stat().st_size for exported in (whole, half)]
    assert sizes[1] < 0.6 * sizes[0]


def test_squares_are_resized_inside(run, wanted, tmp_path):
    exported = export_for(run, tmp_path / "a.onnx", "ultralytics", ExportOptions(shape="square"))
    assert onnxruntime.InferenceSession(exported.path).get_inputs()[0].shape == ["batch", 3, 32, 32]
    stretched = torch.from_numpy(as_ultralytics(crops(5, SIZE)[..., ::-1])).repeat_interleave(2, dim=3)
    assert torch.equal(F.interpolate(stretched, SIZE, mode="bilinear"), stretched[..., ::2])
    assert cosine_distance(wanted, onnx_vectors(exported.path, stretched.numpy())) < 1e-6


@pytest.mark.parametrize("consumer", ["boxmot", "onnx"])
def test_half_keeps_both_ends(run, wanted, tmp_path, consumer):
    options = ExportOptions(precision="half", flip="off")
    exported = export_for(run, tmp_path / "resnet50_a.onnx", consumer, options)
    model = onnx.load(exported.path)
    kinds = {tensor.data_type for tensor in model.graph.initializer if len(tensor.dims) == 4 and tensor.dims[2] > 1}
    assert kinds == {onnx.TensorProto.FLOAT16}
    found = onnx_vectors(exported.path, PROGRAMS[consumer](crops(5, SIZE)[..., ::-1]))
    assert found.dtype == np.float32
    assert 0 < cosine_distance(wanted, found) < 1e-3


@pytest.mark.parametrize("consumer", ["boxmot", "deepstream", "onnx"])
def test_int8_is_near_on_images_like_those_of_its_ranges(run, site, tmp_path, consumer):
    options = ExportOptions(precision="int8", images=site / "bounding_box_train", flip="off")
    exported = export_for(run, tmp_path / "resnet50_a.onnx", consumer, options)
    operations = {node.op_type for node in onnx.load(exported.path).graph.node}
    assert {"QuantizeLinear", "DequantizeLinear"} <= operations
    assert exported.difference.cosine < 0.1
    files = sorted((site / "query").iterdir())
    images = np.stack([np.asarray(Image.open(path).resize(SIZE[::-1], Image.Resampling.BILINEAR)) for path in files])
    found = onnx_vectors(exported.path, PROGRAMS[consumer](images[..., ::-1]))
    assert cosine_distance(load_model(run).with_flip(False).embed(images), found) < 0.1


def test_a_fixed_batch_is_declared_and_filled_up(run, wanted, tmp_path):
    exported = export_for(run, tmp_path / "resnet50_a.onnx", "boxmot", ExportOptions(batch=4))
    assert onnxruntime.InferenceSession(exported.path).get_inputs()[0].shape == [4, 3, *SIZE]
    assert cosine_distance(wanted, load_model(exported.path).embed(crops(5, SIZE))) < 1e-6


def test_the_file_for_boxmot_has_the_names_that_it_looks_for(run, tmp_path):
    exported = export_for(run, tmp_path / "resnet50_a.onnx", "boxmot")
    session = onnxruntime.InferenceSession(exported.path)
    (images,), (vectors,) = session.get_inputs(), session.get_outputs()
    assert (images.name, images.type, images.shape) == ("images", "tensor(float)", ["batch", 3, *SIZE])
    assert (vectors.name, vectors.type) == ("output0", "tensor(float)")
    assert onnx.load(exported.path).ir_version <= 10
    sidecar = json.loads((tmp_path / "resnet50_a.onnx.metadata.json").read_text())
    assert sidecar == {"model_name": "resnet50", "preprocess": "resize", "img_size": list(SIZE)}
    assert any("resnet50_a.onnx" in line for line in exported.lines)
    assert any("averages mirror images, this file does not" in note for note in exported.notes)
