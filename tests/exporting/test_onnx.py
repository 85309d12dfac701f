"""Exported files give the vectors of the run, take RGB bytes in any number, and are not written when they differ."""

import json
import sys

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import nn
from typer.testing import CliRunner

from passerby.cli import app
from passerby.data.decoding import decode
from passerby.encoders import Trained, TrainedOnnx, embed_images, load_model, load_trained
from passerby.errors import UserError
from passerby.exporting import Inference, Parity, export, parity, write_onnx
from passerby.exporting import graph as graphs
from passerby.exporting import onnx as onnx_file
from passerby.inference.onnx_model import OnnxModel
from passerby.models.blocks import NonLocal
from passerby.recipe.places import public_text
from passerby.types import Embeddings, Inputs
from tests.exporting.runs import BLOCKS, write_run
from tests.onnx_graphs import write_graph

given = Inputs.of_images


@pytest.fixture(scope="module")
def run(tiny, tmp_path_factory):
    return write_run(tmp_path_factory.mktemp("runs") / "blocks", tiny(*BLOCKS))


@pytest.fixture(scope="module")
def file(run):
    """The run as ONNX; torch takes seconds to write one."""
    out = run.parent / "blocks.onnx"
    assert export(run, out, to="onnx").cosine < 1e-6
    return out


def command(*words):
    return CliRunner().invoke(app, [str(word) for word in words])


def test_the_file_gives_the_vectors_of_the_run(run, file, site):
    ours, theirs = (embed_images(load_model(path), [site / "query"]) for path in (run, file))
    np.testing.assert_allclose(theirs.vectors, ours.vectors, rtol=1e-3, atol=1e-4)
    assert parity(ours.vectors, theirs.vectors).cosine < 1e-8
    assert parity(ours.vectors[::-1], theirs.vectors).cosine > 1e-4  # or all images would look alike
    assert (theirs.feature, theirs.path.tolist()) == ("after_neck", ours.path.tolist())


def test_the_graph_takes_rgb_bytes_in_any_number_and_nothing_else(run, file, site):
    """As another program would use it: no passerby, no normalisation."""
    session = onnxruntime.InferenceSession(file)
    (images,), (vectors,) = session.get_inputs(), session.get_outputs()
    assert (images.name, images.type, images.shape[1:]) == ("images", "tensor(uint8)", [3, 32, 16])
    assert isinstance(images.shape[0], str)
    assert (vectors.name, vectors.type) == ("vectors", "tensor(float)")
    path = sorted((site / "query").iterdir())[0]
    pixels = decode(path)[::2, ::2].transpose(2, 0, 1)[None]  # RGB although the network was trained on BGR
    with torch.inference_mode():
        embedder, bgr = load_trained(run).embedder, torch.from_numpy(pixels[:, ::-1].copy())
        wanted = (embedder(given(bgr)).after_neck + embedder(given(bgr.flip(3))).after_neck) / 2  # as test.flip says
    for count in (1, 3, 64):
        found = session.run(None, {"images": np.repeat(pixels, count, axis=0)})[0]
        assert found.shape == (count, wanted.shape[1])
        np.testing.assert_allclose(found[-1:], wanted, rtol=1e-3, atol=1e-4)


def test_the_file_says_what_it_is_and_keeps_no_lines_of_source(file):
    model = onnx.load(file)
    onnx.checker.check_model(model)
    written = {entry.key: entry.value for entry in model.metadata_props}
    described = json.loads(written["passerby"])
    assert described["input"]["size"] == [32, 16]
    assert (described["feature"], described["dimension"], described["normalised"]) == ("after_neck", 96, False)
    assert described["flip"] is True
    assert "uint8 RGB (batch, 3, 32, 16)" in model.doc_string
    assert next(entry.version for entry in model.opset_import if not entry.domain) >= 18
    assert b".py" not in file.read_bytes()


@pytest.mark.parametrize(
    ("backbone", "architecture"),
    [
        ("test_vit", "{}"),
        ("swin", "{width: 4, depths: [2, 2], heads: [1, 2], semantic_weight: 0.2}"),
    ],
)
def test_token_models_take_any_number_of_images(tiny, tmp_path, backbone, architecture):
    recipe = tiny(
        f"model={{backbone: {backbone}, last_stride: 2, architecture: {architecture}}}",
        "test.feature=before_neck",
        "input.size=[64,32]",
    )
    run = write_run(tmp_path / "run", recipe)
    assert export(run, tmp_path / "a.onnx", to="onnx").cosine < 1e-6
    assert load_model(tmp_path / "a.onnx").feature == "before_neck"


def test_non_local_blocks_can_be_written(tmp_path):
    """Alone, because the ResNets that have room for them take long."""
    torch.manual_seed(0)
    block = NonLocal(8, inner=4).eval()
    nn.init.ones_(block.W[1].weight)
    size = {"x": {0: torch.export.Dim("batch")}}
    torch.onnx.export(block, (torch.rand(2, 8, 4, 4),), tmp_path / "a.onnx", dynamic_shapes=size, verbose=False)
    x = torch.rand(5, 8, 4, 4)
    found = onnxruntime.InferenceSession(tmp_path / "a.onnx").run(None, {"x": x.numpy()})[0]
    np.testing.assert_allclose(found, block(x).detach(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("feature", [None, "before_neck"])
def test_safetensors_give_the_vectors_of_the_run_to_the_bit(run, site, tmp_path, feature):
    out = tmp_path / "a.safetensors"
    assert export(run, out, to="safetensors", feature=feature) is None
    model = load_model(out)
    assert model.feature == (feature or "after_neck")
    same = feature is None
    assert np.array_equal(*(embed_images(each, [site / "query"]).vectors for each in (model, load_model(run)))) is same
    assert (out.read_bytes() == (run / "embedder.safetensors").read_bytes()) is same


def test_parity_is_the_worst_of_all_rows():
    ours, theirs = np.float32([[1, 0], [3, 4]]), np.float32([[2, 0], [4, 3]])
    found = parity(ours, theirs)
    assert (found.cosine, found.absolute) == (pytest.approx(1 - 24 / 25), 1.0)
    assert str(Parity(3.4e-8, 2e-6)) == (
        "checked against torch: cosine distance at most 3e-08 at batch 1 and 64 (largest difference of a number 2e-06)"
    )


@pytest.mark.parametrize("wrong", [lambda vectors: vectors[::-1], lambda vectors: np.nan * vectors, np.zeros_like])
def test_a_file_that_differs_is_not_written(run, tmp_path, monkeypatch, wrong):
    content = (run.parent / "blocks.onnx").read_bytes()
    monkeypatch.setattr(onnx_file, "translate", lambda network, trained: onnx.load_from_string(content))
    right = OnnxModel.run
    monkeypatch.setattr(OnnxModel, "run", lambda model, images, cam: wrong(right(model, images, cam)))
    out = tmp_path / "a.onnx"
    out.write_text("earlier")
    with pytest.raises(UserError, match=r"a.onnx was not written: its vectors would be up to .* 1e-04 is allowed"):
        export(run, out, to="onnx")
    assert [path.name for path in tmp_path.iterdir()] == ["a.onnx"]
    assert out.read_text() == "earlier"


def test_what_torch_cannot_write_is_told(run, tmp_path, monkeypatch):
    trained = load_trained(run)
    monkeypatch.setattr(graphs, "trace", lambda network: onnx.load(write_graph(tmp_path / "b.onnx", shape=(2, 3))))
    with pytest.raises(UserError, match="'test_resnet' as ONNX for a fixed number of images only"):
        write_onnx(trained, tmp_path / "a.onnx")

    def fail(network: Inference) -> None:
        raise RuntimeError("no such operator\nat length")

    monkeypatch.setattr(graphs, "trace", fail)
    with pytest.raises(UserError, match=r"torch cannot write 'test_resnet' as ONNX \(no such operator\)$"):
        write_onnx(trained, tmp_path / "a.onnx")
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(UserError, match=r"needs the extra `export`: pip install 'passerby\[export\]'"):
        write_onnx(trained, tmp_path / "a.onnx")


def test_the_mirror_image_is_part_of_the_file(file):
    model = load_model(file)
    assert model.flip
    assert model.with_flip(True) is model
    with pytest.raises(UserError, match="this ONNX file averages mirror images, which cannot be changed"):
        model.with_flip(False)


def test_a_model_that_needs_masks_is_not_written(tiny, tmp_path):
    run = write_run(tmp_path / "run", tiny("foreground.use=mask"))
    with pytest.raises(UserError, match=r"tested with test\.input_mask=foreground, and an ONNX file takes no masks"):
        export(run, tmp_path / "a.onnx", to="onnx")


def test_other_mistakes_are_told(run, tmp_path):
    with pytest.raises(UserError, match=r"--to onnx writes a file that ends in .onnx, got .*a.safetensors"):
        export(run, tmp_path / "a.safetensors", to="onnx")
    with pytest.raises(UserError, match="is the model itself; give another output file"):
        export(run, run / "embedder.safetensors", to="safetensors", feature="before_neck")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "last.pt").touch()
    with pytest.raises(UserError, match="the run is not finished, go on with: passerby train --resume --out "):
        export(tmp_path / "run", tmp_path / "a.onnx", to="onnx")


# ---- the commands


def test_an_onnx_file_takes_the_place_of_the_run(run, file, site, tmp_path):
    tables = []
    for model in (run, file):
        found = command("evaluate", model, "--data", site, "--on", "market1501", "--json", tmp_path / "scores.json")
        assert found.exit_code == 0, found.output
        tables.append(json.loads((tmp_path / "scores.json").read_text()))
    assert tables[0]["protocol"] == tables[1]["protocol"]
    assert tables[0]["mAP"] == pytest.approx(tables[1]["mAP"], abs=0.01)
    assert command("embed", file, site / "query", "-o", tmp_path / "query.npz").exit_code == 0
    image = sorted((site / "query").iterdir())[2]
    found = command("search", tmp_path / "query.npz", image, "--run", run, "--count", 1)
    assert str(image) in found.output


def test_a_network_of_another_program_is_used(site, tmp_path):
    model, table, said = write_graph(tmp_path / "a.onnx"), tmp_path / "a.npz", ("--input", "size=[32,16]")
    found = command("embed", model, site / "query", *said, "-o", table)
    assert found.exit_code == 0, found.output
    assert "a.onnx was not written by passerby; it is given 32x16 RGB" in found.output
    assert Embeddings.load(table).vectors.shape == (8, 3)
    image = sorted((site / "query").iterdir())[2]
    assert str(image) in command("search", table, image, "--run", model, *said).output.splitlines()[1]
    found = command("evaluate", model, "--data", site, *said, "--json", tmp_path / "scores.json")
    assert found.exit_code == 0, found.output
    assert json.loads((tmp_path / "scores.json").read_text())["protocol"]["feature"] == ""


def test_the_command_says_how_near_the_file_is(run, tmp_path, monkeypatch):
    monkeypatch.setattr("passerby.exporting.onnx.write_onnx", lambda trained, out, device: Parity(3e-8, 1e-6))
    found = command("export", run, "--to", "onnx", "-o", tmp_path / "a.onnx")
    assert found.exit_code == 0, found.output
    assert "checked against torch: cosine distance at most 3e-08 at batch 1 and 64" in found.output
    assert command("export", run, "--to", "safetensors", "-o", tmp_path / "b.safetensors").exit_code == 0
    assert (tmp_path / "b.safetensors").is_file()


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("embed", "NOWHERE.onnx", "SITE"), "no ONNX file NOWHERE.onnx"),
        (("evaluate", "NOWHERE.xml"), "no OpenVINO file NOWHERE.xml"),
        (("embed", "RUN", "SITE", "--input", "size=[8,8]"), "contains its own input settings"),
        (("embed", "FILE", "SITE", "--input", "size=[8,8]"), "contains its input settings"),
        (("evaluate", "FOREIGN"), "give the images with --data DIR"),
        (("evaluate", "FOREIGN", "--on", "market1501"), "give the images with --data DIR"),
        (("evaluate", "--embeddings", "a.npz", "--input", "size=[8,8]"), "holds vectors already"),
        (
            ("export", "FILE", "-o", "b.onnx"),
            "is exported already: an .onnx file is a graph; start from the run folder",
        ),
        (("export", "NOWHERE.xml"), "is exported already: an .xml file is a graph; start from the run folder"),
        (("adapt", "FILE", "SITE"), "can be run and not trained: add --backbone resnet18 (or another network)"),
        (("adapt", "NOWHERE.xml", "SITE"), "can be run and not trained: add --backbone resnet18"),
        (("export", "RUN", "--to", "onnx", "-o", "b.pt"), "ends in .onnx"),
    ],
)
def test_mistakes_are_one_sentence(run, file, site, tmp_path, words, sentence):
    foreign = write_graph(tmp_path / "foreign.onnx")
    places = {"RUN": run, "FILE": file, "SITE": site / "query", "FOREIGN": foreign}
    found = command(*(places.get(word, word) for word in words))
    assert found.exit_code == 2, found.output
    assert sentence in " ".join(found.output.split())
    assert "Traceback" not in found.output


def test_both_kinds_of_model_know_their_recipe(run, file):
    first, second = load_model(run), load_model(file)
    assert isinstance(first, Trained)
    assert isinstance(second, TrainedOnnx)
    assert public_text(first.recipe) == public_text(second.recipe)
