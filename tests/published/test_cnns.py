"""Published CNNs, from the file to the vectors of uint8 images.

Four files of random weights were written, and their vectors computed, by the projects' own code. For the others
`tests.published.reference` computes the vectors.
"""

import collections
import lzma
from pathlib import Path

import numpy as np
import pytest
import torch

from passerby.encoders import load_model
from passerby.errors import UserError
from passerby.models.osnet import OSNETS, OSNet
from passerby.published.fastreid import FastReid
from passerby.published.importing import read_published
from passerby.published.tensors import FileTensors
from tests.published.reference import IMAGENET, LUPERSON, Drawn, batch_norm, gem, mgn, normalised, resnet

DATA = Path(__file__).parent / "data"
TOLERANCE = 3e-5
"""Share of the largest number: deep random networks enlarge the last digits of their input."""


def images(size=(96, 64), count=2):
    return np.random.default_rng(0).integers(0, 256, (count, *size, 3), dtype=np.uint8)


def imported(path, pixels, tmp_path, **options):
    """Return the published model and its vectors of images, by the file that is written of it."""
    model = read_published(path, size=pixels.shape[1:3], **options)
    model.save(tmp_path / "model.safetensors")
    return model, load_model(tmp_path / "model.safetensors").embed(pixels)


def assert_near(vectors, expected, tolerance=TOLERANCE):
    expected = expected.numpy() if isinstance(expected, torch.Tensor) else expected
    assert vectors.shape == expected.shape
    assert np.abs(vectors - expected).max() <= tolerance * np.abs(expected).max()


def save(tmp_path, tensors):
    torch.save(tensors, tmp_path / "published.pth")
    return tmp_path / "published.pth"


# ---- vectors of the projects' own code

OVERRIDES = {"clipreid_rn50": ["normalise=half"]}
"""Settings of the code that computed the vectors, which differ from the published configuration."""
ORACLES = {
    "strongbaseline_r50": ("strong_baseline", "after_neck", TOLERANCE),
    "strongbaseline_se_r50": ("strong_baseline", "after_neck", TOLERANCE),
    "fastreid_sbs_r50ibn": ("fastreid", "after_neck", TOLERANCE),
    "clipreid_rn50": ("clipreid_rn50", "before_neck", TOLERANCE),
}


@pytest.fixture(scope="module")
def oracle(tmp_path_factory):
    """Return a function that gives the file of an oracle and its arrays."""
    folder = tmp_path_factory.mktemp("oracles")

    def of(name):
        path = folder / f"{name}.pth"
        if not path.exists():
            path.write_bytes(lzma.decompress((DATA / f"{name}.pth.xz").read_bytes()))
        return path, dict(np.load(DATA / f"{name}.npz"))

    return of


@pytest.mark.parametrize("name", ORACLES)
def test_a_published_file_gives_the_vectors_of_its_own_code(name, oracle, tmp_path):
    family, vector, tolerance = ORACLES[name]
    path, arrays = oracle(name)
    model, vectors = imported(path, arrays["images"], tmp_path, overrides=OVERRIDES.get(name, []))
    assert (model.family, model.imported.vector) == (family, vector)
    assert_near(vectors, arrays["feature"], tolerance)


def test_clips_resnet_is_normalised_as_in_its_published_configuration(oracle):
    path, arrays = oracle("clipreid_rn50")
    model = read_published(path, size=arrays["images"].shape[1:3])
    assert (model.embedder.input.mean, model.embedder.input.std) == IMAGENET
    half = read_published(path, size=arrays["images"].shape[1:3], overrides=["normalise=half"])
    assert (half.embedder.input.mean, half.embedder.input.std) == ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


@pytest.mark.parametrize(
    ("name", "key", "vector"),
    [
        ("strongbaseline_se_r50", "feature_before_neck", "before_neck"),
        ("clipreid_rn50", "feature_after_neck", "after_neck"),
    ],
)
def test_the_other_side_of_the_neck_is_as_published(name, key, vector, oracle):
    path, arrays = oracle(name)
    model = read_published(path, size=arrays["images"].shape[1:3], overrides=OVERRIDES.get(name, []))
    pixels = normalised(arrays["images"], model.embedder.input.mean, model.embedder.input.std)
    with torch.inference_mode():
        featuremap, pooled = model.embedder.backbone(model_inputs(pixels))
        before = model.embedder.pool(featuremap) if pooled is None else pooled
        vectors = before if vector == "before_neck" else model.embedder.neck(before)
    assert_near(vectors.numpy(), arrays[key])


def model_inputs(pixels):
    from passerby.types import Inputs

    return Inputs.of_images(pixels)


@pytest.mark.parametrize(
    ("name", "key", "value"),
    [
        ("strongbaseline_r50", "stem_activation", "relu"),
        ("strongbaseline_se_r50", "stride_in", "conv2"),
        ("fastreid_sbs_r50ibn", "stem_pool", "torchvision"),
        ("fastreid_sbs_r50ibn", "pool", "gem"),
    ],
)
def test_each_trap_would_show(name, key, value, oracle):
    from passerby.models.embedder import Embedder

    path, arrays = oracle(name)
    model = read_published(path, size=arrays["images"].shape[1:3])
    settings = model.imported.model
    changed = (
        settings.model_copy(update={key: value})
        if key in type(settings).model_fields
        else settings.model_copy(update={"architecture": {**settings.architecture, key: value}})
    )
    embedder = Embedder(changed, model.embedder.input, load=False).eval()
    embedder.load_state_dict(model.embedder.state_dict(), strict=False)
    with torch.inference_mode():
        vectors = embedder(model_inputs(torch.from_numpy(arrays["images"]).permute(0, 3, 1, 2))).after_neck
    with pytest.raises(AssertionError):
        assert_near(vectors.numpy(), arrays["feature"], 0.01)


# ---- vectors of the reference in the tests


@pytest.mark.parametrize("kind", ["fastreid", "luperson"])
def test_mgn(kind, tmp_path):
    state = Drawn()
    state.mgn(map_norms=kind == "luperson")
    mean, std = IMAGENET
    extra = {f"{part}_head.{'classifier.' * (kind == 'luperson')}weight": torch.ones(3, 6) for part in ("b1", "b33")}
    if kind == "luperson":
        mean, std = (89.896, 79.2, 80.073), (63.872, 64.305, 63.839)
        extra |= {
            "pixel_mean": torch.tensor(mean).reshape(1, 3, 1, 1),
            "pixel_std": torch.tensor(std).reshape(1, 3, 1, 1),
        }
        mean, std = (tuple(value / 255 for value in values) for values in (mean, std))
    path = save(tmp_path, {"model": dict(state) | extra, "iteration": 11999})
    pixels = images()
    model, vectors = imported(path, pixels, tmp_path)
    assert (model.family, model.imported.vector, vectors.shape[1]) == (kind, "after_neck", 48)
    assert_near(vectors, mgn(normalised(pixels, mean, std), state, ceil=kind == "fastreid"))


@pytest.mark.parametrize("form", ["whole", "converted"])
def test_a_start_of_luperson(form, tmp_path):
    state = Drawn()
    state.resnet()
    tensors = dict(state)
    if form == "whole":
        tensors = {f"module.encoder_{letter}.{k}": v + (letter == "k") for letter in "kq" for k, v in state.items()}
        tensors |= {"module.queue": torch.ones(2, 2), "module.encoder_q.fc.0.weight": torch.ones(2, 2)}
    path = save(tmp_path, {"state_dict": tensors, "arch": "resnet50"})
    pixels = images()
    model, vectors = imported(path, pixels, tmp_path, family="luperson")
    assert model.imported.notes == ("these weights are a start: they were not trained to tell people apart",)
    expected = resnet(normalised(pixels, *LUPERSON), state, last_stride=2).mean(dim=(2, 3))
    assert_near(vectors, expected)


def test_a_start_without_a_classifier_may_be_anothers(tmp_path):
    state = Drawn()
    state.resnet()
    for extra, count in (({}, 2), ({"fc.weight": torch.ones(3, 128)}, 1)):
        model = read_published(save(tmp_path, dict(state) | extra))
        assert (model.family, len(model.notes)) == ("torchvision", count)
        assert ("need --as luperson" in model.notes[-1]) == (count == 2)


def test_agw_is_recognised_by_its_non_local_blocks():
    state = sbs() | {f"backbone.NL_{stage}.0.g.weight": torch.ones(1, 16, 1, 1) for stage in (2, 3)}
    imported = FastReid.convert(FileTensors(state, source="f"), FastReid.settings_class(), size=None)
    assert (imported.model.pool, imported.model.non_local) == ("gem", "single")
    assert {f"backbone.body.layer{stage}.NL.g.weight" for stage in ("2.3", "3.5")} <= imported.state.keys()


def test_a_pooling_that_no_key_shows_is_a_setting(tmp_path):
    state = Drawn()
    state.resnet("backbone.", ibn=True)
    state.batch_norm("heads.bottleneck.0", 128)
    pixels = images()
    path = save(tmp_path, {"model": dict(state) | {"heads.weight": torch.ones(5, 128)}, "epoch": 1})
    last = resnet(normalised(pixels, *IMAGENET), state, "backbone.", last_stride=1, ceil=True)
    for pool, pooled in (("gem", gem(last, 3.0)), ("auto", last.mean(dim=(2, 3), keepdim=True))):
        _, vectors = imported(path, pixels, tmp_path, overrides=[f"pool={pool}"])
        assert_near(vectors, batch_norm(pooled, state, "heads.bottleneck.0").flatten(1))


@pytest.mark.parametrize(
    ("family", "extra", "ibn", "stride"),
    [
        ("torchvision", {"fc.weight": (10, 128)}, False, 2),
        ("ibn_net", {"fc.weight": (10, 128)}, True, 2),
        ("torchreid", {"classifier.weight": (10, 128)}, False, 2),
    ],
)
def test_resnets_at_the_top_level(family, extra, ibn, stride, tmp_path):
    state = Drawn()
    state.resnet(ibn=ibn)
    pixels = images()
    path = save(tmp_path, dict(state) | {name: torch.ones(shape) for name, shape in extra.items()})
    model, vectors = imported(path, pixels, tmp_path)
    assert (model.family, model.imported.vector) == (family, "before_neck")
    assert_near(vectors, resnet(normalised(pixels, *IMAGENET), state, last_stride=stride).mean(dim=(2, 3)))


def test_torchvisions_own_network_of_basic_blocks(tmp_path):
    import torchvision

    network = torchvision.models.resnet18(num_classes=3).eval()
    pixels = images((64, 32))
    model, vectors = imported(save(tmp_path, network.state_dict()), pixels, tmp_path)
    assert (model.family, model.imported.model.backbone) == ("torchvision", "resnet18")
    network.fc = torch.nn.Identity()
    with torch.inference_mode():
        assert_near(vectors, network(normalised(pixels, *IMAGENET)))


def test_torchreids_layer_after_the_pooling(tmp_path):
    state = Drawn()
    state.resnet()
    state.normal("fc.0.weight", 16, 128)
    state.normal("fc.0.bias", 16)
    state.batch_norm("fc.1", 16)
    pixels = images()
    path = save(
        tmp_path, {"state_dict": dict(state) | {"classifier.weight": torch.ones(3, 16)}, "rank1": np.float64(0.9)}
    )
    model, vectors = imported(path, pixels, tmp_path)
    pooled = resnet(normalised(pixels, *IMAGENET), state, last_stride=1).mean(dim=(2, 3))
    linear = torch.nn.functional.linear(pooled, state["fc.0.weight"], state["fc.0.bias"])
    assert_near(vectors, batch_norm(linear, state, "fc.1").relu())
    assert model.recipe.test.distance == "euclidean"


@pytest.mark.parametrize(
    ("name", "width", "distance"),
    [("osnet_x0_25", None, "euclidean"), ("osnet_ain_x0_25", None, "cosine"), ("osnet_ibn_x1_0", 0.25, "euclidean")],
)
def test_osnets(name, width, distance, tmp_path):
    from dataclasses import replace

    network = OSNet(OSNETS[name] if width is None else replace(OSNETS[name], width=width)).eval()
    state = {f"module.{key}": value for key, value in network.state_dict().items()}
    path = save(tmp_path, {"state_dict": state | {"module.classifier.weight": torch.ones(3, 512)}})
    pixels = images((64, 32))
    model, vectors = imported(path, pixels, tmp_path)
    with torch.inference_mode():
        expected = network.fc(network.forward_features(normalised(pixels, *IMAGENET)).mean(dim=(2, 3)))
    assert_near(vectors, expected)
    assert (model.imported.model.backbone, model.recipe.test.distance) == (name, distance)


def test_timm_needs_the_name_and_brings_its_normalisation(tmp_path):
    import timm

    network = timm.create_model("test_vit", num_classes=7, img_size=(64, 32)).eval()
    path = save(tmp_path, network.state_dict())
    with pytest.raises(UserError, match="--as timm: name the network with --set model=NAME"):
        read_published(path, family="timm")
    model = read_published(path, family="timm", overrides=["model=test_vit.r160_in1k"], size=(64, 32))
    assert model.embedder.input.mean == timm.get_pretrained_cfg("test_vit").mean
    pixels = normalised(images((64, 32)), model.embedder.input.mean, model.embedder.input.std)
    with torch.inference_mode():
        expected = network.forward_head(network.forward_features(pixels), pre_logits=True)
        assert_near(model.embedder.backbone(model_inputs(pixels))[1].numpy(), expected)


# ---- what is refused


def sbs():
    state = Drawn()
    state.resnet("backbone.")
    state.batch_norm("heads.bottleneck.0", 128)
    return state


def changed(**tensors):
    return {name.replace("__", "."): value for name, value in tensors.items()}


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (
            changed(backbone__layer4__2__extra=torch.ones(1)),
            r"1 without a place \(backbone.body.layer4.2.extra\)",
        ),
        (changed(neck__weight=torch.ones(1)), r"1 of \d+ tensors have no place in the family fastreid \(neck.weight\)"),
        (
            changed(backbone__layer1__0__conv2__weight=torch.ones(4, 4, 5, 5)),
            r"1 of another shape \(.*\(4, 4, 5, 5\) inst",
        ),
        (changed(backbone__conv1__weight=torch.tensor(1.0)), "the shapes of its tensors do not fit together"),
        (
            changed(backbone__layer1__7__conv1__weight=torch.ones(4, 4, 1, 1)),
            r"holds a ResNet of \(4, 4, 6, 3\) blocks",
        ),
        (changed(heads__bottleneck__0__weight=torch.tensor([float("nan")])), "NaN"),
    ],
)
def test_tensors_that_do_not_belong_are_refused(change, told, tmp_path):
    with pytest.raises(UserError, match=told) as caught:
        read_published(save(tmp_path, dict(sbs()) | change))
    assert "\n" not in str(caught.value)


def test_a_missing_tensor_is_named(tmp_path):
    state = dict(sbs())
    del state["backbone.layer3.1.bn2.weight"]
    with pytest.raises(UserError, match=r"does not fit 'resnet50': 1 missing \(backbone.body.layer3.1.bn2.weight\)"):
        read_published(save(tmp_path, state))


def test_settings_without_effect_and_unknown_ones_are_refused(tmp_path):
    path = save(tmp_path, OSNet(OSNETS["osnet_x0_25"]).state_dict())
    with pytest.raises(UserError, match=r"--set last_stride=1 has no effect on .*published\.pth; leave it out"):
        read_published(path, overrides=["last_stride=1"])
    with pytest.raises(UserError, match="unknown key last_strid; did you mean 'last_stride'"):
        read_published(path, overrides=["last_strid=1"])


def test_an_ordered_table_without_wrapper_is_read(tmp_path):
    path = save(tmp_path, collections.OrderedDict(sbs()))
    assert read_published(path).family == "fastreid"
