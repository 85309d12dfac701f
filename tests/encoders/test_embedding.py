"""Splits of a data set, and loose images, with the cameras that a model learnt."""

import dataclasses

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import passerby
from passerby.cli import app
from passerby.data.datasets import open_dataset
from passerby.data.decoding import decode
from passerby.device import InferenceSettings
from passerby.encoders import GivenCamera, embed_dataset, embed_images, load_model
from passerby.errors import UserError
from passerby.models.embedder import Embedder, save_embedder
from passerby.recipe.places import public_text
from passerby.types import CameraTable, Embeddings
from tests.models.camera_net import CameraBackbone, registered

TABLE = CameraTable(("market1501", "plaza"), ((1, 2), (1, 2)))


@pytest.fixture(scope="module", autouse=True)
def _registered():
    with registered():
        yield


def write_model(file, recipe, table):
    torch.manual_seed(0)
    embedder = Embedder(recipe.model, recipe.input, cameras=table)
    save_embedder(embedder, file, recipe=public_text(recipe))
    return file


@pytest.fixture(scope="module")
def file(tiny, tmp_path_factory):
    """A model that learnt the cameras of two data sets."""
    recipe = tiny("model={backbone: camera_net, last_stride: 2}")
    return write_model(tmp_path_factory.mktemp("two") / "embedder.safetensors", recipe, TABLE)


@pytest.fixture(scope="module")
def plain(tiny, tmp_path_factory):
    """A model that uses no cameras."""
    return write_model(tmp_path_factory.mktemp("none") / "embedder.safetensors", tiny(), CameraTable())


@pytest.fixture(scope="module")
def dataset(tiny):
    return open_dataset(tiny().dataset("market1501"), "market1501")


@pytest.fixture(scope="module")
def files(site):
    return sorted((site / "query").glob("*.jpg"))


@pytest.fixture(scope="module")
def tested(file, dataset):
    """The vectors of the queries, each with its camera."""
    return embed_dataset(load_model(file), dataset).query.vectors


def command(*words):
    return CliRunner().invoke(app, [str(word) for word in words])


def test_splits_are_chosen_and_have_their_roles(plain, dataset):
    model = load_model(plain)
    train = embed_dataset(model, dataset, splits=["train"])
    np.testing.assert_array_equal(train.path, dataset.train.path)
    np.testing.assert_array_equal(train.pid, dataset.train.pid)
    assert set(train.role) == {""}
    both = embed_dataset(model, dataset, splits=["gallery", "train"])
    assert len(both) == len(dataset.train) + len(dataset.gallery)
    np.testing.assert_allclose(both.vectors[: len(train)], train.vectors, atol=1e-6)
    tested = embed_dataset(model, dataset)
    np.testing.assert_allclose(both.gallery.vectors, tested.gallery.vectors, atol=1e-6)
    assert set(tested.role) == {"query", "gallery"}
    with pytest.raises(UserError, match="split 'test' is not one of train, query, gallery"):
        embed_dataset(model, dataset, splits=["test"])
    empty = dataclasses.replace(dataset, query=dataset.query.select(np.array([], int)))
    with pytest.raises(UserError, match="market1501 has no images in query"):
        embed_dataset(model, empty, splits=["query"])


def test_the_command_embeds_the_split_that_it_is_given(plain, site, tmp_path):
    out = tmp_path / "train.npz"
    result = command("embed", plain, "--data", site, "--split", "train", "--out", out)
    assert result.exit_code == 0, result.output
    assert len(Embeddings.load(out)) == 48
    refused = command("embed", plain, site / "query", "--split", "train", "--out", out)
    assert "--split chooses splits of a data set" in refused.output


def test_a_data_set_of_another_name_has_the_cameras_that_are_given(file, dataset, tested):
    model, moved, notes = load_model(file), dataclasses.replace(dataset, name="moved"), []
    assert np.abs(embed_dataset(model, moved, say=notes.append).query.vectors - tested).max() > 1e-2
    assert notes == [
        "the camera of 32 of 32 images is unknown to the model, so the mean of the camera embeddings is added; give "
        "--camera and --cameras-of where it is one of market1501: 1, 2; plaza: 1, 2"
    ]
    again = embed_dataset(model, moved, cameras_of="market1501", say=notes.append)
    np.testing.assert_allclose(again.query.vectors, tested, atol=1e-6)
    assert len(notes) == 1
    with pytest.raises(UserError, match=r"--cameras-of plazza: the model learnt .* did you mean 'plaza'"):
        embed_dataset(model, moved, cameras_of="plazza")


def test_loose_images_have_the_camera_that_is_given_or_that_their_names_hold(file, files, tested):
    model = load_model(file)
    named = embed_images(model, files, camera=GivenCamera(None, "market1501"))
    np.testing.assert_allclose(named.vectors, tested, atol=1e-6)
    first = embed_images(model, files, camera=GivenCamera(1, "market1501"))
    right = named.cam == 1
    np.testing.assert_allclose(first.vectors[right], tested[right], atol=1e-6)
    assert np.abs(first.vectors[~right] - tested[~right]).max(axis=1).min() > 1e-2
    assert set(first.cam) == {1}
    with pytest.raises(UserError, match=r"--camera: the model learnt the cameras of several data sets .*--cameras-of"):
        embed_images(model, files, camera=GivenCamera(1))
    with pytest.raises(UserError, match="--camera 7: the model learnt the cameras market1501: 1, 2; plaza: 1, 2"):
        embed_images(model, files, camera=GivenCamera(7, "plaza"))


def test_unknown_cameras_of_loose_images_are_refused_without_a_policy(file, files, monkeypatch):
    monkeypatch.setattr(CameraBackbone, "unknown_camera", "refuse")
    with pytest.raises(UserError, match=r"camera_net: the camera of 8 of 8 images is unknown.*--camera"):
        embed_images(load_model(file), files)


def test_a_model_without_cameras_ignores_those_of_arrays(plain, file, files):
    pixels = [decode(str(file)) for file in files]
    model = passerby.load_model(plain)
    np.testing.assert_array_equal(model(pixels, cam=3), model(pixels))
    with pytest.raises(UserError, match="--cameras-of plaza has no effect: this model uses no cameras"):
        model(pixels, cameras_of="plaza")


def test_python_takes_a_camera_for_each_image(file, files, tested):
    encoder = passerby.load_model(file)
    cam = [int(file.name[6]) for file in files]
    for images in (files, [decode(str(file)) for file in files]):
        np.testing.assert_allclose(encoder(images, cam=cam, cameras_of="market1501"), tested, atol=1e-5)
    with pytest.raises(UserError, match="2 cameras for 8 images"):
        encoder(files, cam=[1, 2], cameras_of="market1501")
    apart = passerby.distance(encoder, files[0], files[0], cam=(1, 2), cameras_of="plaza")
    assert apart > 1e-3
    assert passerby.distance(encoder, files[0], files[0]) < 1e-6


def test_a_search_uses_the_camera_of_the_row_or_the_given_one(file, dataset, files, tmp_path, site):
    encoder = passerby.load_model(file)
    table = passerby.embed(encoder, dataset)
    for hits in passerby.search(encoder, table, files, count=1):
        assert hits[0].distance < 1e-6  # with another camera the image would not be its own neighbour
    other = passerby.search(encoder, table, files[:1], count=1, cam=2)
    assert other[0][0].distance > 1e-4
    table.save(tmp_path / "table.npz")
    result = command("search", tmp_path / "table.npz", files[0], "--run", file, "--camera", "2", "--count", 1)
    assert result.exit_code == 0, result.output
    assert f"distance {other[0][0].distance:.4f}" in result.output
    wrong = command("search", tmp_path / "table.npz", files[0], "--run", file, "--camera", "9")
    assert "--camera 9: the model learnt the cameras" in wrong.output


def test_two_images_are_compared_with_their_cameras(file, files):
    result = command("verify", file, files[0], files[0], "--camera", 1, "--camera", 2, "--cameras-of", "plaza")
    assert result.exit_code == 0, result.output
    expected = passerby.distance(passerby.load_model(file), files[0], files[0], cam=(1, 2), cameras_of="plaza")
    assert result.output.startswith(f"distance {expected:.4f}")


def test_bf16_is_refused_where_a_cpu_computes_it_wrongly(tiny, tmp_path, monkeypatch):
    recipe = tiny()
    save_embedder(Embedder(recipe.model, recipe.input), tmp_path / "embedder.safetensors", recipe=recipe.dump())
    settings = InferenceSettings(device="cpu", precision="bf16")
    monkeypatch.setattr("passerby.encoders.loading.ends_in_one_column", lambda _: False)
    assert load_model(tmp_path / "embedder.safetensors", inference=settings).precision == "bf16"
    monkeypatch.setattr("passerby.encoders.loading.ends_in_one_column", lambda _: True)
    with pytest.raises(UserError, match="a map of one column, as in this model at 32x16; use float32"):
        load_model(tmp_path / "embedder.safetensors", inference=settings)
