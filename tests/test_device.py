"""How a model is run: devices by name, batches that fit, one sentence where neither works."""

import numpy as np
import pytest
import torch

from passerby.data.readers.images import images_below
from passerby.device import FittingBatch, InferenceSettings, find_device, out_of_memory
from passerby.errors import UserError
from passerby.inference.embed import embed
from passerby.inference.providers import CPU, CUDA, choose_providers, explain_fallback
from passerby.inputs import InputSettings
from passerby.models.embedder import Embedder, ModelSettings
from passerby.types import Split


@pytest.fixture
def two_gpus(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 1)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: True)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)


@pytest.fixture
def no_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


@pytest.fixture(scope="module")
def embedder():
    torch.manual_seed(0)
    return Embedder(ModelSettings(backbone="test_resnet"), InputSettings(size=(32, 16)))


@pytest.fixture(scope="module")
def split(site):
    return Split.of_paths(np.array([str(site / "query" / name) for name in images_below(site / "query")]))


@pytest.mark.usefixtures("two_gpus")
def test_auto_is_the_gpu_in_use_where_there_is_one():
    assert find_device("auto") == find_device("cuda") == torch.device("cuda", 1)
    assert find_device("cuda:0") == torch.device("cuda", 0)
    assert find_device("cpu") == torch.device("cpu")
    with pytest.raises(UserError, match="'cuda:2' cannot be used, because torch sees 2 GPU"):
        find_device("cuda:2")


@pytest.mark.usefixtures("no_gpu")
def test_auto_is_the_cpu_where_there_is_no_gpu():
    assert find_device("auto") == torch.device("cpu")
    with pytest.raises(UserError, match="device 'cuda' cannot be used, because torch sees no GPU here"):
        find_device("cuda")


@pytest.mark.parametrize("name", ["gpu", "cuda:", "cuda:-1", "", "CPU", "mps", "cuda:12345678901234567890"])
def test_other_devices_are_not_known(name):
    with pytest.raises(UserError, match=r"it is auto, cpu, cuda, or one of several GPUs as in cuda:1"):
        InferenceSettings(device=name)


@pytest.mark.parametrize("values", [{"batch": 0}, {"workers": -1}, {"precision": "fp64"}])
def test_values_out_of_range_are_refused(values):
    with pytest.raises(UserError, match=r"at least|is one of"):
        InferenceSettings(**values)


@pytest.mark.usefixtures("two_gpus")
@pytest.mark.parametrize(
    ("trained", "wanted", "expected"),
    [
        ("auto", "auto", "bf16"),
        ("fp16", "auto", "fp16"),
        ("float32", "auto", "float32"),
        ("fp16", "float32", "float32"),
    ],
)
def test_a_gpu_computes_as_the_recipe_trains(trained, wanted, expected):
    assert InferenceSettings(precision=wanted).network_precision(trained) == expected
    assert InferenceSettings(device="cpu").network_precision(trained) == "float32"


def test_narrow_precisions_are_for_gpus():
    with pytest.raises(UserError, match="precision fp16 is for GPUs"):
        InferenceSettings(device="cpu", precision="fp16").network_precision()


# ---- memory


def short_of_memory(embedder, monkeypatch, *, limit, error):
    """Let the network fail on more images than `limit`, as a small GPU does."""
    whole = embedder.forward

    def forward(inputs):
        if len(inputs) > limit:
            raise error
        return whole(inputs)

    monkeypatch.setattr(embedder, "forward", forward)


OUT_OF_MEMORY = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
    RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory: you tried 9 bytes"),
]


@pytest.mark.parametrize("error", OUT_OF_MEMORY)
@pytest.mark.parametrize("limit", [1, 3, 7])
def test_a_batch_that_does_not_fit_is_halved_and_nothing_is_lost(embedder, split, monkeypatch, limit, error):
    wanted, notes, heard = embed(embedder, split), [], []
    short_of_memory(embedder, monkeypatch, limit=limit, error=error)
    found = embed(embedder, split, batch=6, notify=notes.append, progress=lambda done, _: heard.append(done))
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)
    assert heard == [6, 8]
    halvings = [size for size in (6, 3) if size > limit]
    assert [int(note.split()[4]) for note in notes] == halvings  # it stays halved for the batches that follow


def test_without_a_listener_the_note_is_a_warning(embedder, split, monkeypatch):
    short_of_memory(embedder, monkeypatch, limit=4, error=OUT_OF_MEMORY[0])
    with pytest.warns(UserWarning, match="out of memory with 8 images at a time; going on with 4"):
        embed(embedder, split)


def test_a_single_image_that_does_not_fit_is_one_sentence(embedder, split, monkeypatch):
    short_of_memory(embedder, monkeypatch, limit=0, error=OUT_OF_MEMORY[0])
    with pytest.raises(UserError, match="out of memory with a single image at a time"):
        embed(embedder, split, notify=lambda _: None)


def test_other_errors_go_through():
    def step(_):
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    with pytest.raises(RuntimeError, match="mat1"):
        FittingBatch().run(step, 3)
    assert not out_of_memory(ValueError("no"))


# ---- onnxruntime

BOTH = [CUDA, CPU]


def test_onnxruntime_takes_the_gpu_where_it_offers_one():
    assert choose_providers(BOTH, "cpu") == [CPU]
    assert choose_providers([CPU], "cuda") == [CPU]
    for device, number in (("auto", "0"), ("cuda", "0"), ("cuda:1", "1")):
        (first, options), last = choose_providers(BOTH, device)
        assert (first, options["device_id"], last) == (CUDA, number, CPU)
    with pytest.raises(UserError, match="device 'gpu' is not known"):
        choose_providers(BOTH, "gpu")


@pytest.mark.usefixtures("no_gpu")
def test_a_fall_back_to_the_cpu_is_told():
    wanted = choose_providers(BOTH, "auto")
    assert explain_fallback(BOTH, wanted, "auto") is None
    assert "could not be started" in explain_fallback([CPU], wanted, "auto")
    assert "is not installed (pip install onnxruntime-gpu)" in explain_fallback([CPU], [CPU], "cuda")
    assert explain_fallback([CPU], [CPU], "auto") is None
    assert explain_fallback([CPU], [CPU], "cpu") is None


@pytest.mark.usefixtures("two_gpus")
def test_a_fall_back_beside_an_idle_gpu_is_told():
    assert "is not installed" in explain_fallback([CPU], [CPU], "auto")


def test_bf16_on_a_cpu_is_computed_where_it_is_asked_for():
    assert InferenceSettings(device="cpu", precision="bf16").network_precision() == "bf16"
    assert InferenceSettings(device="cpu").network_precision("bf16") == "float32"
