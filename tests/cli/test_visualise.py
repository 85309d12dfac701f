"""`passerby visualise`: each command writes its picture, and every mistake is one sentence and exit code 2."""

import shutil

import pytest
from typer.testing import CliRunner

from passerby.cli import app
from passerby.errors import UserError
from passerby.inputs import InputSettings
from passerby.models.embedder import Embedder, ModelSettings, save_embedder
from passerby.report.figure_files import subjects_of_run
from passerby.report.projection import camera_pull
from passerby.types import Embeddings
from tests.report.conftest import Written, write_run


def invoke(*words):
    return CliRunner().invoke(app, ["visualise", *map(str, words)])


def refused(*words):
    found = invoke(*words)
    assert found.exit_code == 2, found.output
    assert found.output.count("Error: ") == 1
    assert "Traceback" not in found.output
    return " ".join(found.output.split())


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Written:
    return write_run(tmp_path_factory.mktemp("visualise"))


RANKS = ("ranks", "--count", "1", "--k", "3", "--rerank", "--own-camera")


@pytest.mark.parametrize("command", [RANKS, ("features",), ("features", "--colour", "camera"), ("distances",)])
@pytest.mark.parametrize("source", ["run", "file"])
def test_a_picture_of_a_run_or_of_any_vectors(run, tmp_path, command, source):
    given = [run.folder] if source == "run" else ["--embeddings", run.folder / "embeddings" / "plaza.npz"]
    found = invoke(command[0], *given, *command[1:], "-o", tmp_path / "picture.svg")
    assert found.exit_code == 0, found.output
    assert found.output.splitlines()[0] == str(tmp_path / "picture.svg")
    assert "<svg" in (tmp_path / "picture.svg").read_text()


@pytest.mark.parametrize("queries", ["worst", "all"])
def test_maps_on_the_lists_of_a_trained_run(tmp_path, run, queries):
    folder = tmp_path / "run"
    shutil.copytree(run.folder, folder)
    assert "no trained model at" in refused("attention", folder, "-o", tmp_path / "picture.png")
    embedder = Embedder(ModelSettings(backbone="test_resnet"), InputSettings(size=(32, 16)))
    save_embedder(embedder, folder / "embedder.safetensors", recipe=(folder / "recipe.yaml").read_text())
    found = invoke("attention", folder, "--queries", queries, "--k", "2", "-o", tmp_path / "picture.png")
    assert found.exit_code == 0, found.output
    table = Embeddings.load(folder / "embeddings" / "plaza.npz")
    table.path[:] = "gone.jpg"
    table.save(folder / "embeddings" / "plaza.npz")
    assert "need the images of the list" in refused("attention", folder, "-o", tmp_path / "other.png")


HOW = ("--device", "cpu", "--batch", "3", "--workers", "1", "--precision", "float32")


def test_every_command_runs_as_its_options_say(run, tmp_path, monkeypatch):
    settings, devices = [], []
    whole, pull = subjects_of_run, camera_pull
    monkeypatch.setattr(
        "passerby.report.figure_files.subjects_of_run",
        lambda folder, *, on, inference: settings.append(inference) or whole(folder, on=on, inference=inference),
    )
    monkeypatch.setattr(
        "passerby.report.projection.camera_pull",
        lambda projection, *, device: devices.append(device) or pull(projection, device=device),
    )
    for words in (RANKS, ("features", "--colour", "camera"), ("distances",)):
        found = invoke(words[0], run.folder, *words[1:], *HOW, "-o", tmp_path / "picture.png")
        assert found.exit_code == 0, found.output
    assert [(s.device, s.batch, s.workers, s.precision) for s in settings] == 3 * [("cpu", 3, 1, "float32")]
    assert devices == ["cpu"]


def test_maps_are_made_as_the_options_say(run, tmp_path, monkeypatch):
    given = []
    monkeypatch.setattr(
        "passerby.encoders.load_trained", lambda path, *, inference: given.append(inference) or refuse("stop here")
    )
    assert "stop here" in refused("attention", run.folder, *HOW, "-o", tmp_path / "picture.png")
    assert [(s.device, s.batch, s.workers) for s in given] == [("cpu", 3, 1)]


@pytest.mark.parametrize("command", ["ranks", "features", "distances", "attention"])
def test_a_gpu_that_is_not_there_is_refused(run, tmp_path, monkeypatch, command):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    sentence = refused(command, run.folder, "--device", "cuda:1", "-o", tmp_path / "picture.png")
    assert "device 'cuda:1' cannot be used" in sentence


def refuse(sentence):
    raise UserError(sentence)


@pytest.mark.parametrize("command", ["ranks", "features", "distances"])
def test_collapsed_vectors_are_reported(run, tmp_path, command):
    table = Embeddings.load(run.folder / "embeddings" / "plaza.npz")
    table.vectors[:] = 1 + 1e-6 * table.vectors
    table.save(tmp_path / "flat.npz")
    found = invoke(command, "--embeddings", tmp_path / "flat.npz", "-o", tmp_path / "picture.png")
    assert found.exit_code == 0, found.output
    assert "vectors are nearly equal" in found.output
    assert "the model has collapsed" in found.output
    sound = invoke(command, run.folder, "-o", tmp_path / "picture.png")
    assert "the model has collapsed" not in sound.output


def test_the_schedule_of_a_recipe_with_changes(tmp_path):
    found = invoke("schedule", "bag_of_tricks", "optim.milestones=[30]", "-o", tmp_path / "rate.svg")
    assert found.exit_code == 0, found.output
    assert "epoch 30 to 120: 0.1 × full rate" in (tmp_path / "rate.svg").read_text()
    assert "no recipe 'smal'" in refused("schedule", "smal", "-o", tmp_path / "rate.png")
    assert "written as .png" in refused("schedule", "small", "-o", tmp_path / "rate.bmp")


def test_too_few_images_for_a_plane(tmp_path, run):
    run.embeddings.select(run.embeddings.pid == 1).save(tmp_path / "few.npz")
    told = refused("features", "--embeddings", tmp_path / "few.npz", "-o", tmp_path / "picture.png")
    assert "t-SNE needs at least 10 images" in told


@pytest.mark.parametrize("command", ["ranks", "features", "distances"])
def test_mistakes_are_told(run, tmp_path, command):
    file = run.folder / "embeddings" / "plaza.npz"
    assert "written as .png, .svg, .pdf" in refused(command, run.folder, "-o", tmp_path / "picture.gif")
    assert "was tested on plaza" in refused(command, run.folder, "--on", "plazza", "-o", tmp_path / "picture.png")
    assert "give either" in refused(command, "-o", tmp_path / "picture.png")
    assert "give either" in refused(command, run.folder, "--embeddings", file, "-o", tmp_path / "picture.png")
    assert "holds one only" in refused(command, "--embeddings", file, "--on", "plaza", "-o", tmp_path / "picture.png")
    assert "no embeddings file" in refused(command, "--embeddings", "none.npz", "-o", tmp_path / "picture.png")
    assert "is not a folder" in refused(command, tmp_path / "none", "-o", tmp_path / "picture.png")
    assert list(tmp_path.iterdir()) == []
