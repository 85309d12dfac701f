"""Files and arrays give the same vectors; distances and searches are those of the vectors."""

import numpy as np
import pytest

import passerby
from passerby.data.decoding import decode
from passerby.models.embedder import Embedder, save_embedder


@pytest.fixture(scope="module")
def encoder(tiny, tmp_path_factory):
    recipe, file = tiny(), tmp_path_factory.mktemp("model") / "embedder.safetensors"
    save_embedder(Embedder(recipe.model, recipe.input), file, recipe=recipe.dump())
    return passerby.load_model(file, device="cpu")


@pytest.fixture(scope="module")
def files(site):
    return sorted((site / "query").glob("*.jpg"))


def test_files_and_arrays_give_the_same_vectors(encoder, files):
    vectors = encoder(files)
    assert vectors.shape == (8, encoder.model.embedder.dimension)
    pixels = [decode(str(file)) for file in files]
    np.testing.assert_allclose(encoder(pixels), vectors, atol=1e-6)
    np.testing.assert_allclose(encoder(np.stack(pixels)), vectors, atol=1e-6)
    np.testing.assert_array_equal(encoder([str(file) for file in files]), vectors)
    assert encoder([]).shape == (0, vectors.shape[1])


def test_files_among_arrays_are_refused(encoder, files):
    with pytest.raises(passerby.UserError, match="1 of 2 images are files and the others arrays; give one kind"):
        encoder([files[0], decode(str(files[1]))])


def test_a_distance_is_that_of_the_vectors(encoder, files):
    unit = encoder(files[:2])
    unit = unit / np.linalg.norm(unit, axis=1, keepdims=True)
    assert passerby.distance(encoder, files[0], files[1]) == pytest.approx(1 - unit[0] @ unit[1], abs=1e-5)
    assert passerby.distance(encoder, files[0], decode(str(files[0]))) == pytest.approx(0, abs=1e-5)


def test_a_data_set_becomes_a_table_with_roles_and_a_folder_one_without(encoder, site):
    dataset = passerby.read_dataset(site)
    table, loose = passerby.embed(encoder, dataset), passerby.embed(encoder, site / "query")
    assert (table.role == "query").sum() == len(dataset.query)
    assert set(loose.role) == {""}
    np.testing.assert_allclose(loose.vectors, table.query.vectors, atol=1e-6)
    assert 0 < passerby.evaluate(table).mAP <= 1


def test_a_search_finds_an_image_by_itself(encoder, site, files):
    table = passerby.embed(encoder, [site / "query"])
    answers = passerby.search(encoder, table, files[:3], count=2)
    assert [found[0].path for found in answers] == [str(file) for file in files[:3]]
    assert passerby.search(encoder, table, files[:1], threshold=1e-4)[0][0].distance < 1e-4


# ---- frames and boxes


def test_boxes_of_a_frame_give_the_unit_vectors_of_their_crops(encoder):
    frame = np.random.default_rng(0).integers(0, 256, (90, 60, 3), dtype=np.uint8)
    boxes = [[3, 4, 30, 70], [10, 10, 9, 20], [50, 80, 99, 99]]
    vectors, valid = encoder.embed_boxes(frame, boxes)
    crops = [frame[4:70, 3:30, ::-1], frame[80:90, 50:60, ::-1]]
    expected = encoder([np.ascontiguousarray(crop) for crop in crops])
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    assert valid.tolist() == [True, False, True]
    assert np.isnan(vectors[1]).all()
    assert np.allclose(vectors[valid], expected, atol=1e-5)
    assert np.array_equal(encoder(frame, boxes), vectors, equal_nan=True)
    assert encoder(frame, []).shape == (0, vectors.shape[1])
    with pytest.raises(passerby.UserError, match="boxes lie in one frame"):
        encoder([frame], boxes)


def test_a_decision_needs_a_threshold_or_a_calibration(encoder):
    image = np.zeros((8, 4, 3), np.uint8)
    assert encoder.same(image, image, threshold=0.1)
    assert not encoder.same(image, np.full((8, 4, 3), (255, 0, 0), np.uint8), threshold=0.0)
    for arguments in ({}, {"accept": 0.1, "threshold": 0.1}, {"threshold": 3.0}):
        with pytest.raises(passerby.UserError):
            encoder.same(image, image, **arguments)
