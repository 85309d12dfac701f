"""`passerby tracklets`: a clip in, a table out, and one sentence for each mistake."""

import json

import pytest
import torch

from passerby.inputs import InputSettings
from passerby.models.embedder import Embedder, ModelSettings, save_embedder
from passerby.recipe import Recipe
from passerby.types import Tracklets
from tests.cli.invoking import flat, refused, run
from tests.tracking.clips import write_mot


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    torch.manual_seed(0)
    embedder = Embedder(ModelSettings(backbone="test_resnet"), InputSettings(size=(32, 16)))
    path = tmp_path_factory.mktemp("model") / "tiny.safetensors"
    save_embedder(embedder, path, recipe=Recipe().dump())
    return path


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return write_mot(tmp_path_factory.mktemp("clips") / "door")


def test_a_mot_folder_becomes_tracklets(model, clip, tmp_path):
    out = tmp_path / "door"
    result = run("tracklets", clip, "--camera", "door", "--start", "08:00:00", "--run", model, "-o", out, "--true-ids")
    assert result.exit_code == 0, result.output
    table = Tracklets.load(out)
    crops = len(table.crop_vectors)
    assert flat(result.output).endswith(f"tracklets.npz: 3 tracklets with {crops} crops")
    assert table.first.tolist() == pytest.approx([28800.0, 28800.4, 28801.5])
    assert table.has_clock.all()
    assert table.model.startswith("tiny ")
    assert len(table.model) == len("tiny ") + 16
    again = run("tracklets", clip, "--camera", "door", "--start", "08:00:00", "--run", model, "-o", out, "--true-ids")
    assert again.output == result.output
    settings = json.loads((out / "progress.json").read_text())["settings"]
    assert settings["camera"] == "door"


def test_a_source_without_a_rate_is_no_clock(model, clip, tmp_path):
    words = ("tracklets", clip / "gt" / "gt.txt", "--camera", "door", "--run", model)
    assert run(*words, "-o", tmp_path / "rate").exit_code == 0
    info = clip / "seqinfo.ini"
    content = info.read_text()
    info.unlink()
    try:
        result = run(*words, "-o", tmp_path / "out")
        assert "no frame rate; 25 frames per second are assumed (--fps)" in flat(result.output)
        assert Tracklets.load(tmp_path / "out").first.tolist() == pytest.approx([0.0, 4 / 25, 15 / 25])
        assert "no frame rate, so --start needs --fps" in flat(refused(*words, "-o", tmp_path / "b", "--start", "5"))
        assert run(*words, "-o", tmp_path / "b", "--start", "5", "--fps", "10").exit_code == 0
        assert Tracklets.load(tmp_path / "b").first.tolist() == pytest.approx([5.0, 5.4, 6.5])
    finally:
        info.write_text(content)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("nowhere",), "no file or folder nowhere"),
        (("{clip}/img1",), "names no tracklet; crops lie in one folder per tracklet"),
        (("{clip}", "--camera", " "), "--camera is empty"),
        (("{clip}", "--start", "noon"), "--start 'noon' is no time; give seconds, HH:MM:SS"),
        (("{clip}", "--fps", "0"), "--fps is 0; it must be above 0"),
        (("{clip}", "--max-gap", "0"), "gap within a tracklet must be above 0"),
        (("{clip}", "--least-crops", "9"), "1 <= least <= most, got 9, 8"),
        (("{clip}", "--frames", "{clip}/none.mp4"), "no folder of frames and no video"),
        (("{clip}", "--frames", "{clip}/gt"), "no image in"),
        (("{clip}", "--input", "size=[256,128]"), "--input size=[256,128] is for ONNX and OpenVINO files"),
        (("{clip}", "--run", "{clip}/none"), "no trained model at"),
    ],
)
def test_mistakes_are_one_sentence(model, clip, tmp_path, words, sentence):
    options = {"--camera": "door", "--run": str(model), "-o": str(tmp_path / "out")}
    given = [word.format(clip=clip) for word in words]
    options |= dict(zip(given[1::2], given[2::2], strict=True))
    output = refused("tracklets", given[0], *(word for pair in options.items() for word in pair))
    assert sentence in flat(output)
    assert not (tmp_path / "out").exists()
