"""Search by a description: an imported CLIP, a gallery, texts, and what is refused."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.nn import functional as F

from passerby.models.clip_text_file import load_text_tower, read_text_tower
from passerby.models.clip_tokens import tokenise
from passerby.models.embedder import load_embedder
from passerby.types import Embeddings
from tests.cli.invoking import run
from tests.models.tiny_clip import clip_file, text_tower, two_stages

pytest.importorskip("open_clip", reason="the extra `clip` is not installed")
TEXT = "a person in a red jacket"


def invoke(*words):
    return run(*words)


@pytest.fixture(scope="module")
def gallery(site, tmp_path_factory):
    """An imported CLIP, and the vectors of the images to search in."""
    folder = tmp_path_factory.mktemp("clip")
    done = invoke("import", clip_file(), "-o", folder / "clip.safetensors", "--set", "heads=2", "--size", "32x16")
    assert done.exit_code == 0, done.output
    images = site / "bounding_box_test"
    embedded = invoke("embed", folder / "clip.safetensors", images, "-o", folder / "gallery.npz", "--engine", "torch")
    assert embedded.exit_code == 0, embedded.output
    return folder


def search(gallery, *words, table="gallery.npz", model="clip.safetensors"):
    return invoke("search", gallery / table, *words, "--run", gallery / model, "--engine", "torch")


def test_a_description_finds_the_nearest_projected_images(gallery, tmp_path):
    result = search(gallery, "--text", TEXT, "--count", 3, "--json", tmp_path / "found.json")
    assert result.exit_code == 0, result.output
    table = Embeddings.load(gallery / "gallery.npz")
    with torch.inference_mode():
        texts = read_text_tower(clip_file())(tokenise([TEXT]))
    distances = 1 - F.normalize(texts) @ F.normalize(torch.from_numpy(table.vectors[:, -12:])).T
    order = distances[0].argsort(stable=True)[:3]
    (query,) = json.loads((tmp_path / "found.json").read_text())["queries"]
    assert query["query"] == TEXT
    assert [hit["path"] for hit in query["found"]] == table.path[order.numpy()].tolist()
    np.testing.assert_allclose([hit["distance"] for hit in query["found"]], distances[0][order], atol=1e-5)
    assert result.output.count("distance") == 3
    far = search(gallery, "--text", TEXT, "--threshold", 0)
    assert "nothing within the threshold" in far.output


def test_the_model_file_holds_both_towers_and_loads_without_texts(gallery):
    file = gallery / "clip.safetensors"
    names = load_file(file)
    tower, image = load_text_tower(file), load_embedder(file)
    assert sum(name.startswith("text_tower.") for name in names) == len(tower.state_dict())
    assert not any(parameter.requires_grad for parameter in tower.parameters())
    expected = read_text_tower(clip_file())
    torch.testing.assert_close(tower(tokenise([TEXT])), expected(tokenise([TEXT])))
    assert image.backbone.projection == 12
    assert set(names) - {f"text_tower.{name}" for name in tower.state_dict()} == set(image.state_dict())


@pytest.mark.parametrize(("words", "sentence"), [
    ([], "nothing to search for; give either an image, a folder of images, or --text"),
    (["a.jpg", "--text", TEXT], "an image and --text are two queries"),
    (["a.jpg", "--text-tower", "a.pt"], "--text-tower encodes a description and has no effect on an image"),
    (["--text", TEXT, "--other-cameras"], "--other-cameras is for images that are searched for"),
    (["--text", TEXT, "--accept", "1e-3"], "--accept is for images that are searched for"),
    (["--text", TEXT, "--picture", "a.png"], "--picture begins with the image that is searched for"),
    (["--text", " "], "the text ' ' holds no word"),
])  # fmt: skip
def test_queries_that_do_not_fit_are_refused(gallery, words, sentence):
    result = search(gallery, *words)
    assert result.exit_code == 2
    assert sentence in result.output.replace("\n", " ")


def refusal(result):
    assert result.exit_code == 2, result.output
    return " ".join(result.output.split())


def test_models_and_tables_that_do_not_fit_are_refused(gallery, tiny, tmp_path):
    from passerby.training.session import train

    plain = tmp_path / "plain"
    train(tiny("stages.0.epochs=1", "stages.0.iterations=1", "evaluate=[]"), plain)
    assert "embedder.safetensors holds no text tower; name the file of the CLIP that the model is of with" in refusal(
        search(gallery, "--text", TEXT, model=plain)
    )
    told = refusal(search(gallery, "--text", TEXT, "--text-tower", clip_file(), model=plain))
    assert "vectors of texts have 12 numbers, and this model projects images to none" in told
    table = Embeddings.load(gallery / "gallery.npz")
    Embeddings(table.vectors, table.pid, table.cam, table.role, table.path, feature="after_neck").save(
        gallery / "after.npz"
    )
    assert "the table holds vectors after_neck of 28 numbers; texts are compared with projected images" in refusal(
        search(gallery, "--text", TEXT, table="after.npz")
    )
    other = text_tower(text_tower().settings.model_copy(update={"projection": 20}))
    save_file(other.state_dict(), tmp_path / "other.safetensors")
    told = refusal(search(gallery, "--text", TEXT, "--text-tower", tmp_path / "other.safetensors"))
    assert "vectors of texts have 20 numbers, and this model projects images to 12" in told
    state = {key: value for key, value in text_tower().state_dict().items() if not key.startswith("token_")}
    save_file(state, tmp_path / "bare.safetensors")
    told = refusal(search(gallery, "--text", TEXT, "--text-tower", tmp_path / "bare.safetensors"))
    assert "the text tower has vectors of 0 tokens" in told


def test_a_run_takes_the_text_tower_of_its_start(gallery, tiny, site, tmp_path):
    from passerby.training.session import train

    train(tiny(*two_stages(), "test.feature=before_neck", "evaluate=[]"), tmp_path / "run")
    table = tmp_path / "gallery.npz"
    done = invoke("embed", tmp_path / "run", site / "query", "-o", table, "--engine", "torch")
    assert done.exit_code == 0, done.output
    result = invoke("search", table, "--text", TEXT, "--run", tmp_path / "run", "--text-tower", clip_file())
    assert result.exit_code == 0, result.output
    assert result.output.count("distance") == len(list((site / "query").iterdir()))
