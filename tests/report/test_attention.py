"""Maps add up to what they explain, are found where they are, and a list is drawn with and without them."""

import dataclasses

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from passerby.data.loading import prepare
from passerby.device import InferenceSettings
from passerby.errors import UserError
from passerby.inputs import InputSettings
from passerby.models.embedder import Embedder, ModelSettings
from passerby.report.attention import attention_figure, contributions, map_norms, maps_of, overlay_map, scale_image
from passerby.report.ranked_lists import rank_for
from passerby.types import CameraTable, Inputs
from tests.models.camera_net import registered

INPUT = InputSettings(size=(64, 32))


def embedder(**settings):
    torch.manual_seed(0)
    made = Embedder(ModelSettings(**{"backbone": "test_resnet", "last_stride": 1, **settings}), INPUT)
    if settings.get("neck") != "none":
        made.neck.running_mean.uniform_(-1, 1)
        made.neck.weight.data.uniform_(0.5, 2)
    return made.eval()


IMAGES = torch.randint(0, 256, (5, 3, 64, 32), generator=torch.Generator().manual_seed(3), dtype=torch.uint8)


@pytest.mark.parametrize("pool", ["avg", "max", "avg_max", "gem", "gem_learned"])
@pytest.mark.parametrize("neck", ["bnneck", "none"])
def test_the_cells_add_up_to_the_similarity(pool, neck):
    model = embedder(pool=pool, neck=neck)
    with torch.no_grad():
        out = model(Inputs.of_images(IMAGES))
        query = out.after_neck[0]
        zero = model.neck(torch.zeros_like(out.before_neck))  # what the neck adds whatever the image
    similarity = F.cosine_similarity(out.after_neck, query[None])
    constant = (zero @ F.normalize(query, dim=0)) / out.after_neck.norm(dim=1)
    cells = contributions(model, Inputs.of_images(IMAGES), query)
    assert cells.shape == (5, *out.map.shape[2:])
    torch.testing.assert_close(cells.sum(dim=(1, 2)) + constant, similarity, rtol=1e-3, atol=1e-3)


def test_the_feature_before_the_neck_can_be_explained_too():
    model = embedder()
    with torch.no_grad():
        feature = model(Inputs.of_images(IMAGES)).before_neck
    cells = contributions(model, Inputs.of_images(IMAGES), feature[0], feature="before_neck")
    torch.testing.assert_close(cells.sum(dim=(1, 2)), F.cosine_similarity(feature, feature[:1]), rtol=1e-3, atol=1e-3)


def test_a_network_of_tokens_has_a_map_although_it_reads_its_class_token_alone():
    model = Embedder(ModelSettings(backbone="test_vit"), INPUT).eval()
    with torch.no_grad():
        out = model(Inputs.of_images(IMAGES))
    cells = contributions(model, Inputs.of_images(IMAGES), out.after_neck[0])
    assert cells.shape == (5, *out.map.shape[2:])
    assert cells.abs().amax(dim=(1, 2)).min() > 0
    assert not model.backbone.body.blocks[-1].norm1._forward_hooks  # nothing is left behind


def test_tokens_of_an_unknown_family_are_refused():
    model = Embedder(ModelSettings(backbone="test_vit"), INPUT).eval()
    model.backbone.body.blocks[-1].norm1 = None
    with pytest.raises(UserError, match="only maps of kind 'norm'"):
        contributions(model, Inputs.of_images(IMAGES), torch.ones(model.dimension))


@pytest.fixture(scope="module")
def lists(run):
    return rank_for(run.embeddings, [0, 1], k=4)


@pytest.mark.parametrize("kind", ["similarity", "norm"])
def test_every_image_of_a_list_has_a_map(lists, kind):
    maps = maps_of(embedder(), lists[0], kind=kind)
    assert list(maps.values) == [shot.path for shot in (lists[0].query, *lists[0].shots)]
    assert all(one.min() >= 0 and one.max() == pytest.approx(1) for one in maps.values.values())
    assert all(covered.shape == (32, 16, 3) for covered in maps.covers.values())


@pytest.mark.parametrize("kind", ["similarity", "norm"])
def test_maps_do_not_depend_on_the_batch_size_and_the_readers(lists, kind, monkeypatch):
    model, sizes = embedder(), []
    whole = maps_of(model, lists[0], kind=kind)
    forward = type(model).forward
    monkeypatch.setattr(type(model), "forward", lambda self, x: sizes.append(len(x.images)) or forward(self, x))
    parts = maps_of(model, lists[0], kind=kind, inference=InferenceSettings(batch=2, workers=0))
    assert max(sizes) == 2
    for path, values in whole.values.items():
        np.testing.assert_allclose(parts.values[path], values, atol=1e-4)


def test_a_list_is_drawn_with_and_without_its_maps_in_the_same_frames(lists):
    figure = attention_figure(embedder(), lists)
    marks = [panel.patches[0].get_gid() for panel in figure.axes if panel.patches and panel.patches[0].get_gid()]
    each = [[shot.mark for shot in (found.query, *found.shots)] for found in lists]
    assert marks == [*each[0], *each[0], *each[1], *each[1]]
    words = [label.get_text() for panel in figure.axes for label in panel.get_xticklabels()]
    assert [word for word in words if word in ("none", "low", "high")] == ["none", "high"]
    assert any("similarity with the query" in text.get_text() and "cells" in text.get_text() for text in figure.texts)


def test_without_images_it_is_refused(lists):
    gone = dataclasses.replace(lists[0], query=dataclasses.replace(lists[0].query, path="gone.jpg"))
    with pytest.raises(UserError, match=r"need the images of the list, and they cannot be read, for example gone\.jpg"):
        maps_of(embedder(), gone)


def test_colour_is_of_the_map_alone():
    pixels = np.zeros((8, 4, 3), np.uint8)
    pixels[..., 0] = 200
    low, high = (overlay_map(pixels, np.full((2, 2), value, np.float32)).reshape(-1, 3) for value in (0, 1))
    assert (low == low[0]).all()
    assert low[0].astype(int).sum() < high[0].astype(int).sum()  # the scale is told apart without colour
    scale = scale_image().astype(int).sum(axis=2)[0]
    assert (np.diff(scale) >= -3).all()
    assert scale[-1] > 2 * scale[0]


def test_maps_are_those_of_the_cameras_of_the_images(lists, monkeypatch):
    generator, shots = np.random.default_rng(0), (lists[0].query, *lists[0].shots)
    images = {shot.path: generator.integers(0, 256, (64, 32, 3), np.uint8) for shot in shots}
    monkeypatch.setattr("passerby.report.attention.read_shot", images.get)
    table, path = CameraTable(("site",), (tuple(sorted({shot.cam for shot in shots})),)), lists[0].query.path
    with registered():
        torch.manual_seed(0)
        model = Embedder(ModelSettings(backbone="camera_net"), InputSettings(size=(64, 32)), cameras=table).eval()
        known, unknown = (maps_of(model, lists[0], kind="norm", dataset=name) for name in ("site", ""))
        row = torch.from_numpy(table.rows("site", np.array([lists[0].query.cam])))
        expected = map_norms(model(Inputs(prepare(images[path], model.input)[None], row)))[0].detach().numpy()
    expected = (expected - expected.min()) / (expected.max() - expected.min())
    np.testing.assert_allclose(known.values[path], expected, atol=1e-5)
    assert np.abs(unknown.values[path] - expected).max() > 1e-3
