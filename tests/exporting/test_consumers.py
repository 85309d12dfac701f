"""Each program, with its preprocessing written out, gets the vectors of the run from its file."""

import json

import numpy as np
import onnx
import onnxruntime
import pytest

from passerby.encoders import load_model
from passerby.exporting.consumers import export_for
from tests.exporting.runs import OTHER_INPUT, cosine_distance, crops, write_run

SIZE = (32, 16)
MEAN, STD = np.float32([0.485, 0.456, 0.406]), np.float32([0.229, 0.224, 0.225])


@pytest.fixture(scope="module")
def run(tiny, tmp_path_factory):
    """A model whose normalisation and order of colours are its own, tested with mirror images."""
    folder = tmp_path_factory.mktemp("runs")
    return write_run(folder / "run", tiny("input.colour=bgr", "test.flip=true", *OTHER_INPUT))


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


PROGRAMS = {"boxmot": as_boxmot, "ultralytics": as_ultralytics, "deepstream": as_deepstream}


@pytest.mark.parametrize("consumer", PROGRAMS)
def test_a_program_gets_the_vectors_of_the_run(run, tmp_path, consumer):
    exported = export_for(run, tmp_path / "resnet50_a.onnx", consumer)
    assert exported.difference.cosine < 1e-6
    images = crops(5, SIZE)
    wanted = load_model(run).with_flip(False).embed(images)
    found = onnx_vectors(exported.path, PROGRAMS[consumer](images[..., ::-1]))
    assert cosine_distance(wanted, found) < 1e-6
    assert cosine_distance(wanted, load_model(exported.path).embed(images)) < 1e-6  # passerby reads it too
    swapped = onnx_vectors(exported.path, PROGRAMS[consumer](images))
    assert cosine_distance(wanted, swapped) > 1e-4  # or the order of colours would not show


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
