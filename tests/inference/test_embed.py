"""Model and images in, embeddings out."""

import numpy as np
import pytest
import torch

from passerby.data.datasets import open_dataset
from passerby.data.loading import plain_batches
from passerby.data.readers.market import Market1501
from passerby.errors import UserError
from passerby.inference.embed import embed
from passerby.inference.embed import tested_vectors as vectors_to_test
from passerby.inference.tested import label_vectors
from passerby.inference.tested import tested_paths as paths_to_test
from passerby.inputs import InputSettings
from passerby.models.embedder import Embedder, ModelSettings
from passerby.types import Dataset, Inputs, Split
from tests.embedded import embed_tested


@pytest.fixture(scope="module")
def embedder():
    torch.manual_seed(0)
    return Embedder(ModelSettings(backbone="test_resnet", last_stride=1), InputSettings(size=(32, 16)))


@pytest.fixture(scope="module")
def dataset(site):
    return open_dataset(Market1501(root=str(site)), "tiny")


def test_rows_are_query_then_gallery_with_what_is_known(embedder, dataset):
    found = embed_tested(embedder, dataset)
    assert found.vectors.shape == (32, embedder.dimension)
    assert found.query.path.tolist() == dataset.query.path.tolist()
    assert found.gallery.pid.tolist() == dataset.gallery.pid.tolist()
    assert found.gallery.cam.tolist() == dataset.gallery.cam.tolist()
    assert (found.dataset, found.feature) == ("tiny", "after_neck")


@pytest.mark.parametrize("batch", [1, 5, 32, 100])
def test_the_batch_size_does_not_matter(embedder, dataset, batch):
    paths = paths_to_test(dataset)
    wanted = embed(embedder, Split.of_paths(paths), batch=64)
    np.testing.assert_allclose(embed(embedder, Split.of_paths(paths), batch=batch), wanted, rtol=1e-4, atol=1e-4)


def test_workers_do_not_matter(embedder, dataset):
    paths = paths_to_test(dataset)[:9]
    np.testing.assert_array_equal(
        embed(embedder, Split.of_paths(paths), batch=4, workers=2), embed(embedder, Split.of_paths(paths), batch=4)
    )


def test_the_feature_is_the_one_before_the_neck(dataset):
    torch.manual_seed(0)
    embedder = Embedder(ModelSettings(backbone="test_resnet"), InputSettings(size=(32, 16)))
    torch.nn.init.constant_(embedder.neck.weight, 3.0)
    paths = dataset.query.path
    feature, embedding = (embed(embedder, Split.of_paths(paths), vector=name) for name in ("before_neck", "after_neck"))
    np.testing.assert_allclose(embedding, 3 * feature / np.sqrt(1 + 1e-5), rtol=1e-5)
    assert embed_tested(embedder, dataset, vector="before_neck").feature == "before_neck"


@pytest.mark.parametrize("feature", ["before_neck", "after_neck"])
def test_flipping_is_the_mean_over_the_image_and_its_mirror_image(embedder, dataset, feature):
    paths = dataset.query.path
    (images,) = plain_batches(paths, embedder.input, size=len(paths))
    embedder.eval()
    with torch.inference_mode():
        plain, mirror = (embedder(Inputs.of_images(view)).vector(feature) for view in (images, images.flip(-1)))
        found = vectors_to_test(embedder, Inputs.of_images(images), feature=feature, flip=True)
        assert torch.equal(vectors_to_test(embedder, Inputs.of_images(images), feature=feature, flip=False), plain)
    torch.testing.assert_close(found, (plain + mirror) / 2)
    assert (plain - mirror).abs().max() > 1e-3
    np.testing.assert_allclose(
        embed(embedder, Split.of_paths(paths), vector=feature, flip=True), found.numpy(), rtol=1e-4, atol=1e-5
    )


def test_that_vectors_were_flipped_is_remembered(embedder, dataset):
    assert embed_tested(embedder, dataset, flip=True).flip
    assert not embed_tested(embedder, dataset).flip


@pytest.mark.parametrize("training", [True, False])
def test_the_model_is_left_as_it_was(embedder, dataset, training):
    embedder.train(training)
    before = {name: value.clone() for name, value in embedder.state_dict().items()}
    embed(embedder, Split.of_paths(dataset.query.path))
    assert embedder.training is training
    assert all(torch.equal(before[name], value) for name, value in embedder.state_dict().items())
    with pytest.raises(UserError, match="cannot read the image"):
        embed(embedder, Split.of_paths(np.array(["nowhere.jpg"])))
    assert embedder.training is training


def test_bf16_is_near_float32(embedder, dataset):
    paths = dataset.query.path
    half, full = embed(embedder, Split.of_paths(paths), precision="bf16"), embed(embedder, Split.of_paths(paths))
    assert half.dtype == np.float32
    cosine = (half * full).sum(1) / np.linalg.norm(half, axis=1) / np.linalg.norm(full, axis=1)
    assert cosine.min() > 0.99


def test_progress_is_told_after_each_batch(embedder, dataset):
    heard = []
    embed(
        embedder, Split.of_paths(dataset.query.path), batch=3, progress=lambda done, count: heard.append((done, count))
    )
    assert heard == [(3, 8), (6, 8), (8, 8)]


def test_no_images_make_no_vectors(embedder):
    assert embed(embedder, Split.of_paths(np.empty(0, np.str_))).shape == (0, embedder.dimension)


@pytest.mark.parametrize("empty", ["query", "gallery"])
def test_nothing_to_evaluate_on_is_told(dataset, empty):
    parts = {"train": dataset.train, "query": dataset.query, "gallery": dataset.gallery} | {empty: Split.empty()}
    with pytest.raises(UserError, match=f"tiny has no {empty} images, so there is nothing to evaluate on"):
        paths_to_test(Dataset("tiny", **parts))


def test_vectors_must_fit_the_images(dataset):
    with pytest.raises(UserError, match="column 'pid'"):
        label_vectors(np.zeros((3, 2), np.float32), dataset, feature="after_neck")
