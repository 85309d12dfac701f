"""A run is trained, adapted to a folder without labels, and exported."""

import numpy as np
import pytest

import passerby
from passerby.exporting import Parity


@pytest.fixture(scope="module")
def run(tiny, tmp_path_factory):
    folder = tmp_path_factory.mktemp("api") / "run"
    notes = []
    (result,) = passerby.train(tiny("stages.0.epochs=1"), str(folder), say=notes.append)
    assert result.dataset == "market1501"
    assert 0 < result.plain.mAP <= 1
    return folder


def test_a_run_is_adapted_to_unlabelled_images(run, site, tmp_path):
    changes = ["method.contrast.cluster={kind: kmeans, k: 4}", "stages.0.epochs=1", "stages.0.iterations=2"]
    folder, out, said = site / "bounding_box_test", tmp_path / "out", []
    found = passerby.adapt(run, folder, out, overrides=changes, device="cpu", say=said.append)
    assert (found.images, found.clusters) == (24, 4)
    assert (out / "clusters.csv").is_file()
    assert (out / "report.html").is_file()
    assert said[-len(found.sentences()) :] == list(found.sentences())
    with pytest.raises(passerby.UserError, match="resume"):
        passerby.adapt(run, folder, out, overrides=changes, device="cpu")
    (out / "report.html").unlink()
    again = passerby.adapt(run, folder, out, device="cpu", start="resume", report="skip")
    assert again == found
    assert not (out / "report.html").exists()
    with pytest.raises(passerby.UserError, match=r"adapts .* name these, or choose another --out"):
        passerby.adapt(run, site / "query", out, device="cpu", start="resume")


def test_a_run_is_exported_by_the_ending_of_the_file(run, site, tmp_path, monkeypatch):
    files = sorted((site / "query").glob("*.jpg"))
    vectors = passerby.load_model(run, device="cpu")(files)
    assert passerby.export(run, tmp_path / "m.safetensors", device="cpu") is None
    again = passerby.load_model(tmp_path / "m.safetensors", device="cpu")
    np.testing.assert_array_equal(again(files), vectors)
    monkeypatch.setattr("passerby.exporting.onnx.write_onnx", lambda _, out, device: Parity(3e-8, 1e-6))
    assert passerby.export(str(run), tmp_path / "m.onnx", device="cpu") == Parity(3e-8, 1e-6)
    with pytest.raises(passerby.UserError, match=r"ends in .pt, allowed: .onnx, .safetensors"):
        passerby.export(run, tmp_path / "m.pt")
