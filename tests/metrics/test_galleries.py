"""Merged sites are one search among all, and an earlier gallery is searched by the queries of the present model."""

from dataclasses import replace

import numpy as np
import pytest

from passerby.errors import UserError
from passerby.evaluation import evaluate
from passerby.metrics.galleries import merge_sites, search_earlier
from passerby.types import Embeddings


def site(name, *, shift=0.0, seed=0):
    """4 people, each a query in camera 0 and two gallery images in camera 1, and one image of nobody known."""
    generator = np.random.default_rng(seed)
    pid = np.repeat([7, 2, 9, 4], 3)
    cam = np.tile([0, 1, 1], 4)
    vectors = np.eye(5)[np.repeat([0, 1, 2, 3], 3)] + 0.1 * generator.normal(size=(12, 5)) + shift
    role = np.tile(["query", "gallery", "gallery"], 4)
    junk = generator.normal(size=(1, 5))
    return Embeddings(
        np.concatenate([vectors, junk]).astype(np.float32),
        np.append(pid, -1), np.append(cam, 1), np.append(role, "gallery"),
        np.array([f"{name}{n}.jpg" for n in range(13)]), name, "after_neck",
    )  # fmt: skip


def test_people_of_different_sites_are_different_people():
    one, other = site("one"), site("other", seed=1)
    merged = merge_sites([one, other])
    assert merged.dataset == "one + other"
    assert (merged.pid == -1).sum() == 2
    assert len(set(merged.pid.tolist()) - {-1}) == 8
    assert len(set(merged.cam.tolist())) == 4
    alone = (evaluate(one).mAP + evaluate(other).mAP) / 2
    assert alone == 1  # the others' images stand in the way, since both sites look alike
    assert 0.3 < evaluate(merged).mAP < alone


def test_clothes_and_tracklets_stay_with_their_images():
    one, other = replace(site("one"), clothes=np.arange(13), tracklet=np.arange(13)), site("other", seed=1)
    merged = merge_sites([one, other])
    assert merged.clothes.tolist() == [*range(13), *[-1] * 13]
    assert merged.tracklet.tolist() == merged.clothes.tolist()
    joined = search_earlier(one, one)
    assert joined.clothes.tolist() == [*one.query.clothes, *one.gallery.clothes]


def test_one_site_merged_is_itself():
    assert evaluate(merge_sites([site("one")])).ap == pytest.approx(evaluate(site("one")).ap)


def test_an_earlier_gallery_of_the_same_model_gives_the_same_scores():
    one = site("one")
    mixed = evaluate(search_earlier(one, one))
    assert mixed.ap == pytest.approx(evaluate(one).ap)
    assert mixed.protocol.feature == "after_neck, the gallery's by an earlier model"
    with pytest.raises(UserError, match="differ in feature"):
        mixed.protocol.require_like(evaluate(one).protocol, apart_from=("files",))


def test_the_queries_are_new_and_the_gallery_is_old():
    new, old = site("one"), site("one", seed=5)
    turned = replace(old, vectors=np.roll(old.vectors, 1, axis=1))  # as a model that was not held back would
    mixed = search_earlier(new, turned)
    assert np.array_equal(mixed.query.vectors, new.query.vectors)
    assert np.array_equal(mixed.gallery.vectors, turned.gallery.vectors)
    assert evaluate(turned).mAP == 1
    assert evaluate(mixed).mAP < 0.5


def test_what_cannot_be_compared_is_told():
    one = site("one")
    with pytest.raises(UserError, match="of 'one' and the earlier gallery is of 'other'"):
        search_earlier(one, site("other"))
    with pytest.raises(UserError, match="5 and 4 numbers cannot be compared"):
        search_earlier(one, replace(one, vectors=one.vectors[:, :4]))
    with pytest.raises(UserError, match="differ in flip"):
        merge_sites([one, replace(one, flip=True)])
    with pytest.raises(UserError, match="no data set to merge"):
        merge_sites([])
