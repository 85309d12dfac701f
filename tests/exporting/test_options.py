"""Options, refusals, notes, metadata and lines of configuration of exports; no graph is translated here."""

import json

import numpy as np
import pytest
import torch
from onnx import TensorProto, helper

from passerby.encoders import load_trained
from passerby.errors import UserError
from passerby.exporting import consumers
from passerby.exporting.consumers import ExportOptions, default_stem, export_for
from passerby.exporting.contracts import CONTRACTS
from passerby.exporting.describing import describe, write_description
from passerby.exporting.graph import Inference, with_input_affine
from passerby.exporting.parity import Parity
from passerby.exporting.pasting import configuration
from passerby.models.embedder import Embedder
from passerby.thresholds import KEY, write_calibration
from passerby.types import CameraTable
from tests.cli.invoking import run as run_command
from tests.exporting.runs import OTHER_INPUT, calibration, write_run
from tests.models.camera_net import registered


@pytest.fixture
def run(tiny, tmp_path):
    return write_run(tmp_path / "run", tiny())


@pytest.fixture
def written(monkeypatch):
    """Write no graph; list the models and contracts that would be written."""
    calls = []

    def write(trained, contract, out, options):
        calls.append((trained, contract))
        return Parity(3e-8, 1e-6)

    monkeypatch.setattr(consumers, "_write", write)
    return calls


def test_mirror_images_are_averaged_on_request_only(tiny, tmp_path, written):
    run = write_run(tmp_path / "run", tiny("test.flip=true"))
    for options in (ExportOptions(), ExportOptions(flip="on"), ExportOptions(flip="off")):
        export_for(run, None, "boxmot", options)
    export_for(run, None, "onnx")
    assert [trained.flip for trained, _ in written] == [False, True, False, True]
    assert any("--flip on does" in note for note in export_for(run, None, "deepstream").notes)
    assert not export_for(run, None, "deepstream", ExportOptions(flip="off")).notes


@pytest.mark.parametrize(
    ("backbone", "consumer", "stem"),
    [
        ("osnet_x0_25", "boxmot", "osnet_x0_25_boxmot"),
        ("resnet50.tv_in1k", "ultralytics", "resnet50_ultralytics"),
        ("test_vit", "boxmot", "resnet50_test_vit_boxmot"),
        ("test_vit", "deepstream", "test_vit_deepstream"),
        ("vit_base_patch16_clip_224.openai", "boxmot", "resnet50_vit_base_patch16224_boxmot"),
    ],
)
def test_names_of_files_begin_with_a_network_that_boxmot_knows(run, backbone, consumer, stem):
    trained = load_trained(run)
    trained.embedder.settings = trained.embedder.settings.model_copy(update={"backbone": backbone})
    assert default_stem(trained, consumer, "float32") == stem
    assert default_stem(trained, consumer, "half") == f"{stem}_half"


def test_a_name_that_older_boxmot_takes_wrong_is_noted(run, tmp_path, written):
    for name, count in (("resnet50_a.onnx", 0), ("mine.onnx", 1), ("resnet50_clip.onnx", 1)):
        assert sum("boxmot before 25" in note for note in export_for(run, tmp_path / name, "boxmot").notes) == count


@pytest.mark.parametrize("consumer", ["boxmot", "ultralytics", "deepstream", "openvino", "onnx", "reid"])
@pytest.mark.parametrize(("use", "words"), [("mask", "needs foreground masks"), ("pool", "weights its pooling")])
def test_masks_are_refused(tiny, tmp_path, written, consumer, use, words):
    run = write_run(tmp_path / "run", tiny(f"foreground.use={use}"))
    with pytest.raises(UserError, match=f"this model {words}.*and {consumer} gives it none"):
        export_for(run, None, consumer)
    assert not written


@pytest.mark.parametrize("consumer", ["boxmot", "ultralytics", "deepstream", "openvino", "reid"])
def test_cameras_are_refused(tiny, tmp_path, written, consumer):
    with registered():
        recipe = tiny("model={backbone: camera_net, last_stride: 2}")
        run = write_run(tmp_path / "run", recipe, cameras=CameraTable(("market1501",), ((1, 2),)))
        with pytest.raises(UserError, match=f"uses the camera of each image .*and {consumer} gives it none"):
            export_for(run, None, consumer)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--for", "boxmot", "--half", "--int8"), "two precisions"),
        (("--for", "boxmot", "--square"), "--square is for releases of ultralytics"),
        (("--for", "boxmot", "--int8"), "--int8 needs images of your cameras"),
        (("--for", "boxmot", "--calibration-images", "SITE"), "belongs to --int8"),
        (("--for", "boxmot", "--int8", "--calibration-images", "EMPTY"), "holds no images"),
        (("--for", "boxmot", "-o", "a.xml"), "writes a file that ends in .onnx"),
        (("--for", "openvino", "-o", "a.onnx"), "writes a file that ends in .xml"),
        (("--for", "boxmot", "--to", "safetensors"), "leave out --to"),
        (("--for", "reid", "--half"), "reid takes weights in float32"),
        (("--for", "reid", "--data", "SITE"), "for reid there is no graph"),
        (("--half",), "belong to --for PROGRAM"),
        (("--flip", "off"), "belong to --for PROGRAM"),
        (("--data", "SITE"), "belong to --for PROGRAM"),
    ],
)
def test_mistakes_are_one_sentence(run, site, tmp_path, monkeypatch, words, sentence):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    places = {"SITE": str(site), "EMPTY": str(tmp_path / "empty")}
    found = run_command("export", str(run), *(places.get(word, word) for word in words))
    assert found.exit_code == 2, found.output
    assert sentence in " ".join(found.output.split())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "run"]


def test_the_command_prints_file_difference_and_configuration(run, tmp_path, monkeypatch, written):
    monkeypatch.chdir(tmp_path)
    write_calibration(run, calibration())
    found = run_command("export", str(run), "--for", "ultralytics")
    assert found.exit_code == 0, found.output
    lines = [line.strip() for line in found.output.splitlines()]
    assert lines[0] == "test_resnet_ultralytics.onnx"
    assert lines[1].startswith("checked against torch: cosine distance at most 3e-08")
    assert {"with_reid: True", f"model: {tmp_path / 'test_resnet_ultralytics.onnx'}", "appearance_thresh: 0.8750"} <= {
        *lines
    }


def test_the_loss_of_a_file_is_printed_where_labels_are_given(run, site, tmp_path, monkeypatch, written):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("passerby.commands.exporting.load_model", lambda path: load_trained(run))
    found = run_command("export", str(run), "--for", "boxmot", "--data", str(site))
    assert found.exit_code == 0, found.output
    assert "by the file in float32 (+0.00)" in found.output
    name = "resnet50_test_resnet_boxmot.onnx"
    assert found.output.splitlines()[0] == f"{name} and {name}.metadata.json"


@pytest.mark.parametrize(
    ("stored", "precision", "is_kept"),
    [
        ({}, "float32", True),
        ({}, "half", True),
        ({}, "int8", False),
        ({"flip": True}, "float32", False),
        ({"feature": "before_neck"}, "float32", False),
    ],
)
def test_a_calibration_is_kept_for_the_vectors_that_it_is_of(run, stored, precision, is_kept):
    write_calibration(run, calibration(**stored))
    description = describe(load_trained(run), CONTRACTS["boxmot"], name="a", precision=precision)
    assert (KEY in description.texts) is is_kept
    acceptance = json.loads(description.texts["passerby"]).get("acceptance")
    kept = {"dataset": "site", "cosine_distance_at_false_accept_rate": {"0.001": 0.25}}
    assert acceptance == (kept if is_kept else None)


def test_a_calibration_that_is_left_out_is_noted(run, written):
    write_calibration(run, calibration(flip=True))
    assert any(
        "flip on, in float; it is not that of this file" in note for note in export_for(run, None, "boxmot").notes
    )


def test_metadata_hold_name_version_input_and_vector(run):
    description = describe(load_trained(run), CONTRACTS["boxmot"], name="resnet50_a")
    graph = helper.make_graph([], "g", [], [helper.make_tensor_value_info("a", TensorProto.FLOAT, None)])
    model = helper.make_model(graph)
    write_description(model, description)
    written = {entry.key: entry.value for entry in model.metadata_props}
    described = json.loads(written["passerby"])
    assert (described["name"], described["consumer"], described["feature"]) == ("resnet50_a", "boxmot", "after_neck")
    assert described["takes"]["mean"] == [0.485, 0.456, 0.406]
    assert described["version"]
    assert model.doc_string == (
        "images: float32 RGB (batch, 3, 32, 16), resized (bilinear), values from 0 to 1, normalised by ImageNet's mean "
        "and standard deviation. output0: float32 (batch, 96), not normalised, to be compared by cosine distance."
    )


def test_an_affine_input_moves_into_mean_and_deviation(tiny):
    for changes in ((), OTHER_INPUT, ("input.colour=bgr", *OTHER_INPUT)):
        recipe = tiny(*changes)
        embedder = Embedder(recipe.model, recipe.input).eval()
        same = with_input_affine(embedder, CONTRACTS["boxmot"], reverses=recipe.input.colour == "bgr")
        assert bool((same.mean == 0).all()) is (not changes)  # nothing is left to do where both normalise alike
        pixels = torch.randint(0, 256, (3, 3, 32, 16))
        mean, std = (
            torch.tensor(three).reshape(1, 3, 1, 1) for three in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
        )
        fed = (pixels / 255 - mean) / std
        with torch.inference_mode():
            networks = [
                Inference(embedder, feature="after_neck", flip=False, contract=CONTRACTS[name]).eval()
                for name in ("onnx", "boxmot")
            ]
            ours, theirs = networks[0](pixels.to(torch.uint8)), networks[1](fed)
        np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(
    ("consumer", "lines"),
    [
        ("boxmot", ("appearance_thresh: 0.2500",)),
        ("ultralytics", ("with_reid: True", "appearance_thresh: 0.8750")),
        (
            "deepstream",
            ("  inferDims: [3, 32, 16]", "  reidFeatureSize: 96", "  networkMode: 1", "  netScaleFactor: 1.0"),
        ),
    ],
)
def test_lines_to_paste(tmp_path, consumer, lines):
    found = configuration(
        consumer, tmp_path / "a.onnx", dimension=96, size=(32, 16), precision="half", calibration=calibration()
    )
    assert set(lines) <= set(found)
    camera_wise = calibration(camera_norm="centre")
    others = configuration(
        consumer, tmp_path / "a.onnx", dimension=96, size=(32, 16), precision="half", calibration=camera_wise
    )
    assert not any("appearance_thresh" in line for line in others)


@pytest.mark.parametrize(("batch", "line"), [(None, "  batchSize: 100"), (4, "  batchSize: 4")])
def test_nvtracker_embeds_as_many_boxes_as_the_graph_takes(run, tmp_path, written, batch, line):
    assert line in export_for(run, tmp_path / "a.onnx", "deepstream", ExportOptions(batch=batch)).lines


def test_a_graph_is_not_exported_again(run, tmp_path):
    with pytest.raises(UserError, match="is exported already"):
        export_for(tmp_path / "a.onnx", None, "boxmot")
