"""The commands on a gallery in a database: the same lines as on a folder, and no password in any of them."""

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from passerby.cli import app
from passerby.commands.galleries import search_gallery
from passerby.encoders import load_model, model_stamp
from passerby.errors import UserError
from passerby.gallery import open_gallery
from passerby.inputs import InputSettings
from passerby.models.embedder import Embedder, ModelSettings, save_embedder
from passerby.recipe import Recipe
from passerby.types import Embeddings
from tests.gallery.database import PASSWORD

pytestmark = pytest.mark.slow


def run(*words, code=0):
    """Output of a command, in which no password may be."""
    result = CliRunner().invoke(app, [str(word) for word in words])
    assert result.exit_code == code, result.output
    assert PASSWORD not in result.output
    return result.output


def save_model(path, *, seed):
    torch.manual_seed(seed)
    embedder = Embedder(ModelSettings(backbone="test_resnet"), InputSettings(size=(32, 16)))
    save_embedder(embedder, path, recipe=Recipe().dump())
    return path


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """An untrained model of 16 x 32 pixels."""
    folder = tmp_path_factory.mktemp("model")
    return save_model(folder / "small.safetensors", seed=0)


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """Twelve images of noise."""
    folder = tmp_path_factory.mktemp("images")
    generator = np.random.default_rng(0)
    for number in range(12):
        pixels = generator.integers(0, 256, (32, 16, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number:04d}_c{number % 3}.png")
    return folder


@pytest.fixture(scope="module")
def table(model, images, tmp_path_factory):
    path = tmp_path_factory.mktemp("table") / "today.npz"
    run("embed", model, images, "-o", path)
    return path


def test_the_commands_print_the_same_for_a_folder_and_a_database(server, model, images, table, tmp_path):
    places = (tmp_path / "people", server.place("commands"))
    shown = (str(places[0]), places[1].replace(f":{PASSWORD}", ""))
    image = sorted(images.iterdir())[4]

    def same(*words):
        folder, database = (run("gallery", words[0], place, *words[1:]) for place in places)
        assert folder.replace(shown[0], "IT") == database.replace(shown[1], "IT")
        return folder.replace(shown[0], "IT")

    assert same("add", table) == "IT: 12 rows added\n"
    lines = same("search", image, "--run", model, "--count", "3").splitlines()
    assert len(lines) == 3
    assert lines[0].endswith(str(image))
    assert same("list", "--limit", "5").count("\n") == 5
    assert same("check") == "IT: no fault\n"
    assert same("delete", "--id", "3") == "IT: 1 rows removed\n"
    assert same("forget", "--id", "4", "--id", "7") == "IT: 2 rows forgotten\n"
    assert same("list").count("\n") == 9
    infos = [run("gallery", "info", place).splitlines() for place in places]
    assert infos[1][0] == f"{shown[1]} (PostgreSQL): 9 rows, 0 identities"
    assert infos[0][1:3] == infos[1][1:3]


def test_the_index_is_made_and_used_by_commands(server, model, images, table, tmp_path):
    place, image = server.place("indexed"), sorted(images.iterdir())[4]
    run("gallery", "add", place, table)
    query = (place, image, "--run", model, "--count", "3")
    assert "has no index" in run("gallery", "search", *query, "--approximate", code=2)
    assert run("gallery", "index", place).endswith("?gallery=indexed: index made\n")
    assert run("gallery", "search", *query, "--approximate") == run("gallery", "search", *query)
    assert "(PostgreSQL, with an index)" in run("gallery", "info", place)
    run("gallery", "add", tmp_path / "people", table)
    assert "is a folder, which has no index" in run("gallery", "index", tmp_path / "people", code=2)
    with pytest.raises(UserError, match="is a folder, which has no index"):
        search_gallery(open_gallery(tmp_path / "people"), load_model(model), [image], count=1, approximate=True)


def test_no_message_holds_the_password(server, model, table):
    place = server.place("secret")
    wrong = place.replace(f"@127.0.0.1:{server.port}", "@127.0.0.1:1")
    assert "cannot connect to postgresql://postgres@127.0.0.1:1/postgres" in run("gallery", "info", wrong, code=2)
    assert "no gallery at postgresql://postgres@" in run("gallery", "list", place, code=2)
    for words in (
        ("add", table, place),  # the wrong way round
        ("add", place, place),
        ("info", place.replace("://", ":/")),
        ("info", place.replace("postgresql", "mysql")),
        ("info", place.replace("@", "/x@", 1)),
        ("search", place, place, "--run", model),
        ("search", place, table, "--run", place),
        ("list", place, "--attribute", place),
        ("list", place, "--since", place),
    ):
        assert "Error: " in run("gallery", *words, code=2)
    for words in (("info", place, place), ("list", place, "--limit", place), (place,)):
        run("gallery", *words, code=2)


def test_another_model_is_refused_by_the_commands(server, model, images, table, tmp_path):
    place = server.place("stamped")
    run("gallery", "add", place, table)
    assert Embeddings.load(table).model == model_stamp(model)
    words = ("gallery", "search", place, images, "--run", save_model(tmp_path / "other.safetensors", seed=1))
    assert "which do not compare" in run(*words, code=2)
