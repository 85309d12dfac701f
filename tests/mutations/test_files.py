"""Damaged arrays, models, images and files of a run are read, or refused in one sentence."""

from __future__ import annotations

import io
import json
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from passerby.data.decoding import decode
from passerby.encoders import load_trained
from passerby.evaluation import evaluate
from passerby.inference.onnx import load_onnx
from passerby.models.embedder import Embedder, save_embedder
from passerby.report.folder import read_run
from passerby.training import run_log
from passerby.types import Embeddings
from tests.mutations.mutate import damaged_bytes, damaged_tree, few, sentence_or_nothing
from tests.onnx_graphs import average, write_graph
from tests.report.conftest import plain_recipe, write_run


def arrays() -> bytes:
    generator = np.random.default_rng(0)
    table = Embeddings(
        generator.standard_normal((12, 4)).astype(np.float32),
        np.arange(12) // 3,
        np.arange(12) % 3,
        np.tile(["query", "gallery", "gallery"], 4),
        np.array([f"{n}.jpg" for n in range(12)]),
        "town",
    )
    buffer = io.BytesIO()
    columns = {name: getattr(table, name) for name in ("vectors", "pid", "cam", "role", "path")}
    np.savez(buffer, **columns, dataset=np.str_("town"), flip=np.bool_(False))
    return buffer.getvalue()


ARRAYS = arrays()


def scored(path):
    return evaluate(Embeddings.load(path))


@few
@given(content=damaged_bytes(ARRAYS))
def test_arrays(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("arrays") / "x.npz"
    path.write_bytes(content)
    sentence_or_nothing(scored, path)


VALUES = [
    *(np.float64(1), np.zeros((12, 4)), np.full((12, 4), 3e38, np.float32), np.full((12, 4), np.nan), np.zeros((0, 4))),
    *(np.zeros((12, 0)), np.arange(12), np.arange(12) - 6, np.full(12, 2**63 - 1), np.full(12, -(2**63))),
    *(np.full(12, 2**64 - 1, np.uint64), np.array(["query"] * 12), np.array([b"\xff"] * 12), np.array(["\ud800"] * 12)),
    *(np.zeros(12, "M8[s]"), np.zeros(12, [("a", "i4")]), np.zeros(12, complex), np.array([], dtype="U1")),
    *(np.random.default_rng(1).standard_normal((12, 4)) * 10.0 ** np.arange(-30, 30, 5)[:, None],),
]


@few
@given(
    changes=st.dictionaries(
        st.sampled_from(["vectors", "pid", "cam", "role", "path", "dataset", "feature", "flip", "input_mask"]),
        st.sampled_from(range(len(VALUES))),
        min_size=1,
        max_size=2,
    )
)
def test_values_of_arrays(tmp_path_factory, changes):
    path = tmp_path_factory.mktemp("arrays") / "x.npz"
    with np.load(io.BytesIO(ARRAYS)) as whole:
        columns = {name: whole[name] for name in whole.files}
    np.savez(path, **(columns | {name: VALUES[number] for name, number in changes.items()}))
    sentence_or_nothing(scored, path)


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> bytes:
    """The bytes of a tiny model with its recipe."""
    recipe = plain_recipe()
    path = tmp_path_factory.mktemp("model") / "embedder.safetensors"
    save_embedder(Embedder(recipe.model, recipe.input, load=False), path, recipe=recipe.dump())
    return path.read_bytes()


@few
@given(data=st.data())
def test_models(model, tmp_path_factory, data):
    path = tmp_path_factory.mktemp("model") / "embedder.safetensors"
    size = struct.unpack("<Q", model[:8])[0]
    header = json.loads(model[8 : 8 + size])
    about = header["__metadata__"]
    if data.draw(st.booleans()):
        about["passerby"] = json.dumps(data.draw(damaged_tree(json.loads(about["passerby"]))))
        if data.draw(st.integers(0, 4)) == 0:
            about.pop(data.draw(st.sampled_from(sorted(about))))
        text = json.dumps(header).encode()
        content = struct.pack("<Q", len(text)) + text + model[8 + size :]
    else:
        content = data.draw(damaged_bytes(model[: 8 + size])) + model[8 + size :]
    path.write_bytes(content)
    sentence_or_nothing(load_trained, path)


ABOUT = {
    "input": {"size": [8, 8], "interpolation": "bilinear", "colour": "rgb", "mean": [0, 0, 0], "std": [1, 1, 1]},
    "feature": "after_neck",
    "flip": False,
    "dimension": 3,
}


@few
@given(
    about=st.one_of(
        damaged_tree(ABOUT).map(json.dumps),
        damaged_bytes(json.dumps(ABOUT).encode()).map(lambda b: b.decode(errors="replace")),
        st.sampled_from([-1, 0, 1e12, "inf", 10**30]).map(lambda d: json.dumps(ABOUT | {"dimension": d})),
        st.sampled_from(["[" * 100_000, '{"dimension": Infinity}', ""]),
    )
)
def test_what_a_graph_says_of_itself(tmp_path_factory, about):
    import onnx

    path = tmp_path_factory.mktemp("graph") / "x.onnx"
    nodes, constants = average((2, 3))
    text = about.replace("\ud800", "?")
    write_graph(
        path,
        shape=("batch", 3, 8, 8),
        dtype=onnx.TensorProto.UINT8,
        nodes=[onnx.helper.make_node("Cast", ["images"], ["floats"], to=onnx.TensorProto.FLOAT), *nodes],
        constants=constants,
        metadata={"passerby": text, "recipe": plain_recipe().dump()},
    )
    sentence_or_nothing(load_onnx, path)


@pytest.mark.parametrize("shape", [(10**12, 3, 8, 8), (1, 3, 10**6, 10**6), (-1, 3, 8, 8), (1, 3, 0, 8), (0, 3, 8, 8)])
def test_graphs_of_any_size(tmp_path, shape):
    sentence_or_nothing(load_onnx, write_graph(tmp_path / "x.onnx", shape=shape))


def picture(kind: str) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(2).integers(0, 256, (24, 16, 3), np.uint8)).save(buffer, kind)
    return buffer.getvalue()


PICTURES = {kind: picture(kind) for kind in ("JPEG", "PNG", "GIF", "TIFF", "WEBP", "BMP")}


@few
@given(data=st.data(), kind=st.sampled_from(sorted(PICTURES)))
@pytest.mark.filterwarnings("ignore::UserWarning")  # of Pillow, about TIFF
def test_images(tmp_path_factory, data, kind):
    path = tmp_path_factory.mktemp("image") / f"x.{kind.lower()}"
    path.write_bytes(data.draw(damaged_bytes(PICTURES[kind])))
    pixels = sentence_or_nothing(decode, path)
    assert pixels is None or pixels.ndim == 3


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A finished run, whose files are put back after each example."""
    return write_run(tmp_path_factory.mktemp("run")).folder


@few
@given(data=st.data())
def test_files_of_a_run(finished, data):
    name = data.draw(st.sampled_from(["scores.json", "environment.json", "recipe.yaml", "log.jsonl"]))
    path = finished / name
    whole = path.read_bytes()
    if name.endswith(".json") and data.draw(st.booleans()):
        content = json.dumps(data.draw(damaged_tree(json.loads(whole)))).encode()
    elif name == "log.jsonl" and data.draw(st.booleans()):
        lines = whole.splitlines()
        at = data.draw(st.integers(0, len(lines) - 1))
        lines[at] = json.dumps(data.draw(damaged_tree(json.loads(lines[at])))).encode()
        content = b"\n".join(lines)
    else:
        content = data.draw(damaged_bytes(whole))
    path.write_bytes(content)
    try:
        run = sentence_or_nothing(read_run, finished)
        if run is not None:
            assert all(site.comparisons is not None for site in run.results)
        assert name != "log.jsonl" or run is not None
        run_log.count_damaged(finished / "log.jsonl")
    finally:
        path.write_bytes(whole)
