"""When engines are compared, which one runs the network afterwards, and that its vectors are those of torch."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

import passerby
from passerby.device import InferenceSettings
from passerby.encoders import load_model
from passerby.engines import automatic, choose_engine
from passerby.engines.automatic import AutomaticModel
from passerby.engines.candidates import EXACT, Candidate, Speed
from passerby.engines.sample import sample_files
from passerby.engines.speeds import keep_speeds, read_speeds
from passerby.errors import UserError
from passerby.exporting import parity
from passerby.inference.embed import masked_view
from passerby.models.embedder import Embedder
from tests.onnx_graphs import write_graph

BF16, RUNTIME, OPENVINO = Candidate("torch", "bf16"), Candidate("onnxruntime", "float32"), Candidate("openvino", "bf16")
SECONDS = {EXACT: 0.1, BF16: 0.05, RUNTIME: 0.2, OPENVINO: 0.02}


@pytest.fixture(scope="module")
def trained(file):
    return load_model(file, inference=InferenceSettings(device="cpu", engine="auto"))


@pytest.fixture(scope="module")
def files(site):
    return np.array(sorted(map(str, (site / "query").glob("*.jpg"))))


class Clock:
    """A clock in which each reading is later by a fixed time."""

    def __init__(self, step):
        self.now, self.step = 0.0, step

    def __call__(self):
        self.now += self.step
        return self.now


@pytest.fixture
def fake(trained, tmp_path, monkeypatch):
    """Models of all candidates that are torch in truth, timed by a table; calls of the conversion are counted."""
    converted, differing = [], set()

    def run_by_graph(model, candidate, graph):
        class Turned(type(model)):
            def embed(self, images, *, cam=None):
                vectors = super().embed(images, cam=cam)
                return vectors[:, ::-1].copy() if candidate in differing else vectors

        return Turned(model.embedder, model.recipe, model.source, model.flip, inference=EXACT_SETTINGS)

    exact = {}

    def measured(steps, count):
        assert count == 8
        names = {id(model): name for name, model in exact["model"]._models.items()}
        return [SECONDS[names[id(step.args[0])]] for step in steps]

    monkeypatch.setattr(automatic, "run_by_graph", run_by_graph)
    monkeypatch.setattr(automatic, "load_graph", lambda _: converted.append(1) or b"")
    monkeypatch.setattr(automatic, "has_graph", lambda _: False)
    monkeypatch.setattr(automatic, "measure_speeds", measured)

    def make(candidates=(EXACT, BF16, RUNTIME, OPENVINO), *, clock=0.8):
        said = []
        model = AutomaticModel(trained, list(candidates), say=said.append, cache=tmp_path / "engines.json")
        model.clock = Clock(clock)
        exact["model"] = model
        return model, said

    return make, converted, differing


EXACT_SETTINGS = InferenceSettings(device="cpu")


def many(files, count):
    return np.resize(files, count)


def sample_only(model, files, count):
    """Adjust the engine as for a job of many images, of which only a few are embedded."""
    model._adjust(count, lambda most: sample_files(files, None, model.trained.embedder.input, most))


def test_few_images_are_left_to_torch_in_float32(fake, files, trained):
    model, said = fake[0]()
    np.testing.assert_array_equal(model.vectors(files), trained.vectors(files))
    sample_only(model, files, 400)
    assert (model.current, said, fake[1]) == (EXACT, [], [])


def test_a_short_job_is_not_probed_and_a_middling_one_converts_nothing(fake, files):
    make, converted, _ = fake
    model, said = make(clock=0.01)  # 8 images in 0.01 s
    sample_only(model, files, 600)
    assert (model.current, said) == (EXACT, [])
    model, said = make()
    sample_only(model, files, 600)  # 60 s in float32, 30 s in bf16
    assert (model.current, converted) == (BF16, [])
    assert "torch bf16, by a probe (images/s: torch bf16 20; torch float32 10;" in said[0]


def test_a_long_job_is_run_by_the_fastest_and_only_once_converted(fake, files):
    make, converted, _ = fake
    model, said = make()
    sample_only(model, files, 3000)
    assert (model.current, len(converted)) == (OPENVINO, 1)
    assert "openvino bf16 50" in said[0]
    sample_only(model, files, 3000)
    assert (len(said), len(converted)) == (1, 1)
    assert set(model._models) == {EXACT, OPENVINO}  # the others are not kept in memory


def test_images_add_up_over_the_calls(fake, files):
    model, _ = fake[0]()
    chosen = []
    for _ in range(4):
        sample_only(model, files, 450)
        chosen.append(model.current)
    assert chosen == [EXACT, BF16, OPENVINO, OPENVINO]  # of 450, 900, 1350 and 1800 images


def test_a_candidate_with_other_vectors_is_never_taken(fake, files):
    make, _, differing = fake
    differing.add(OPENVINO)
    model, said = make()
    sample_only(model, files, 3000)
    assert model.current == BF16
    assert len(said) == 1


def test_none_is_taken_that_is_slower_than_float32(fake, files, monkeypatch):
    monkeypatch.setattr("tests.engines.test_automatic.SECONDS", {EXACT: 0.1, BF16: 0.1, RUNTIME: 0.2, OPENVINO: 0.3})
    model, said = fake[0]()
    sample_only(model, files, 3000)
    assert (model.current, said) == (EXACT, [])


def test_times_are_measured_once_per_machine(fake, files, monkeypatch):
    make, converted, _ = fake
    sample_only(make()[0], files, 3000)
    monkeypatch.setattr(automatic, "measure_speeds", None)
    model, _ = make()
    sample_only(model, files, 3000)
    assert (model.current, len(converted)) == (OPENVINO, 2)


def test_kept_times_belong_to_network_size_and_candidate(trained, tiny, tmp_path):
    cache = tmp_path / "engines.json"
    keep_speeds(trained.embedder, {EXACT: Speed(0.5), BF16: Speed(0.25, setup=2.0)}, cache)
    assert read_speeds(trained.embedder, [BF16, OPENVINO], cache) == {BF16: Speed(0.25, setup=2.0)}
    recipe = tiny("input.size=[96,48]")
    assert read_speeds(Embedder(recipe.model, recipe.input), [EXACT, BF16], cache) == {}
    cache.write_text(json.dumps({"x": "y"}))
    assert read_speeds(trained.embedder, [BF16], cache) == {}


def test_masks_go_to_torch(fake, trained, files, masks):
    model, _ = fake[0]()
    model.current = OPENVINO
    view = masked_view(np.resize(sorted(map(str, masks.rglob("*.png"))), len(files)), "foreground")
    np.testing.assert_array_equal(model.vectors(files, view=view), trained.vectors(files, view=view))


@pytest.mark.parametrize(
    "candidate", [("torch", "bf16"), ("onnxruntime", "float32"), ("openvino", "float32"), ("openvino", "bf16")]
)
def test_each_engine_gives_the_vectors_of_torch(trained, files, candidate):
    engine, precision = candidate
    for name in {"torch": [], "onnxruntime": ["onnxscript", "onnxruntime"], "openvino": ["onnxscript", "openvino"]}[
        engine
    ]:
        pytest.importorskip(name)
    if precision == "bf16" and not torch.cpu._is_avx512_bf16_supported():
        pytest.skip("this processor has no instructions for bf16")
    settings = replace(trained.inference, engine=engine, precision=precision)
    said = []
    model = choose_engine(replace(trained, inference=settings), say=said.append)
    exact = replace(trained, inference=EXACT_SETTINGS).vectors(files)
    difference = parity(model.vectors(files), exact).cosine
    assert difference <= (1e-3 if precision == "bf16" else 1e-6)
    pixels = [passerby.data.decoding.decode(path) for path in files.tolist()]
    assert parity(model.embed(pixels), exact).cosine <= 1e-3
    assert said == []


def test_an_encoder_names_its_engine(file, files):
    pytest.importorskip("openvino")
    plain, other = passerby.Encoder(file, device="cpu"), passerby.Encoder(file, device="cpu", engine="openvino")
    assert (plain.engine, other.engine) == ("torch float32", "openvino float32")
    assert parity(other(files.tolist()), plain(files.tolist())).cosine < 1e-5


def test_a_data_set_is_scored_by_torch_unless_an_engine_is_given(file):
    pytest.importorskip("onnxruntime")
    plain, named = passerby.Encoder(file, device="cpu"), passerby.Encoder(file, device="cpu", engine="onnxruntime")
    assert plain.scored is plain.model
    assert plain.running is not plain.model
    assert named.scored is named.running


def test_a_file_with_a_graph_has_an_engine_already(tmp_path):
    pytest.importorskip("onnxruntime")
    graph = write_graph(tmp_path / "other.onnx")
    model = load_model(graph, inference=InferenceSettings(device="cpu", engine="openvino"))
    with pytest.raises(UserError, match=r"has no effect: .*other.onnx holds a graph, which is run by onnxruntime"):
        choose_engine(model)
    for engine in ("auto", "torch", "onnxruntime"):
        same = replace(model, inference=InferenceSettings(device="cpu", engine=engine))
        assert choose_engine(same) is same


def test_settings_that_an_engine_cannot_follow_are_refused(trained, monkeypatch):
    wanted = replace(trained, inference=InferenceSettings(device="cpu", engine="onnxruntime", precision="bf16"))
    with pytest.raises(UserError, match="--engine onnxruntime computes in float32 on a CPU, got --precision bf16"):
        choose_engine(wanted)
    monkeypatch.setattr(automatic, "is_installed", lambda _: False)
    with pytest.raises(UserError, match=r"pip install 'passerby\[export,openvino\]'"):
        choose_engine(replace(trained, inference=InferenceSettings(device="cpu", engine="openvino")))
    with pytest.raises(UserError, match="engine is one of auto, torch, onnxruntime, openvino, got 'tensorrt'"):
        InferenceSettings(engine="tensorrt")
