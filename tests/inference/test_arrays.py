"""Images that are arrays: the same vectors as from their files, whatever the order of axes and the kind of array."""

import numpy as np
import pytest
import torch

from passerby.data.decoding import decode
from passerby.data.image_files import images_below
from passerby.device import InferenceSettings
from passerby.encoders import load_model
from passerby.errors import UserError
from passerby.inference.arrays import image_list
from passerby.inputs import InputSettings
from passerby.models.embedder import Embedder, ModelSettings, save_embedder


@pytest.fixture(scope="module")
def paths(site):
    return np.array([str(site / "query" / name) for name in images_below(site / "query")])


@pytest.fixture(scope="module")
def folder(tiny, tmp_path_factory):
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("run")
    recipe = tiny("input.colour=bgr", "test.flip=true")
    save_embedder(Embedder(recipe.model, recipe.input), folder / "embedder.safetensors", recipe=recipe.dump())
    return folder


@pytest.fixture(scope="module")
def model(folder):
    return load_model(str(folder))


@pytest.fixture(scope="module")
def images(paths):
    return np.stack([decode(path) for path in paths])


def kinds_of(images):
    channels_first = images.transpose(0, 3, 1, 2)
    return {
        "numpy": images,
        "numpy, channels first": channels_first,
        "torch": torch.from_numpy(images),
        "torch, channels first": torch.from_numpy(np.ascontiguousarray(channels_first)),
        "list": list(images),
        "mixed list": [images[0], torch.from_numpy(images[1]), *channels_first[2:]],
        "tuple": tuple(images),
        "mirrored view": images[:, :, ::-1][:, :, ::-1],
    }


@pytest.mark.parametrize("kind", kinds_of(np.zeros((2, 4, 4, 3), np.uint8)))
def test_arrays_give_the_vectors_of_their_files(model, paths, images, kind):
    found = model.embed(kinds_of(images)[kind])
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, model.vectors(paths), rtol=1e-5, atol=1e-6)


def test_images_of_different_sizes_are_resized_each(model, images):
    different = [images[0], images[1][:40], images[2][:, :20]]
    found = model.embed(different)
    for row, image in enumerate(different):
        np.testing.assert_allclose(found[row], model.embed(image[None])[0], rtol=1e-4, atol=1e-5)


def test_batches_of_any_size_and_no_images(folder, model, images):
    small = load_model(folder / "embedder.safetensors", inference=InferenceSettings(batch=3))
    np.testing.assert_allclose(small.embed(images), model.embed(images), rtol=1e-4, atol=1e-5)
    assert model.embed([]).shape == model.embed(images[:0]).shape == (0, model.embedder.dimension)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (np.zeros((8, 4, 3), np.uint8), r"shape \(8, 4, 3\).* of a single image make a batch by images\[None\]"),
        (np.zeros((2, 8, 4), np.uint8), r"expected uint8 RGB images"),
        (np.zeros((2, 8, 4, 1), np.uint8), r"image 0 has shape \(8, 4, 1\)"),
        (np.zeros((2, 3, 8, 3), np.uint8), "both the second and the last axis"),
        (np.zeros((2, 8, 4, 3), np.float32), r"image 0 holds float32.*\(255 \* images\)"),
        ([np.zeros((8, 4, 3), np.int64)], "image 0 holds int64"),
        ([np.zeros((8, 4, 3), np.uint8), np.zeros((8, 4), np.uint8)], r"image 1 has shape \(8, 4\)"),
        (["a.jpg"], "image 0 is a str"),
        (np.zeros((2, 0, 4, 3), np.uint8), "image 0 has shape"),
    ],
)
def test_what_is_no_image_is_one_sentence(images, message):
    with pytest.raises(UserError, match=message):
        image_list(images)


def test_a_model_that_needs_masks_takes_no_arrays(tiny, tmp_path, images):
    recipe = tiny("test.input_mask=foreground", "foreground.use=mask")
    embedder = Embedder(ModelSettings(backbone="test_resnet"), InputSettings(size=(32, 16)))
    save_embedder(embedder, tmp_path / "embedder.safetensors", recipe=recipe.dump())
    with pytest.raises(UserError, match="needs the masks of a data set"):
        load_model(tmp_path).embed(images)
