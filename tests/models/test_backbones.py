"""Backbones: maps, the last stride, and weights files that fit or are refused."""

import pickle
import re
from pathlib import Path

import pytest
import timm
import torch
import torchvision
from safetensors.torch import save_file

from passerby.errors import UserError
from passerby.models.backbones import Loaded, load_backbone, make_backbone
from passerby.models.weights_file import read_weights
from passerby.types import Inputs

SIZE = (64, 32)


def images(count=2, size=SIZE):
    return torch.randn(count, 3, *size, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", ["resnet18", "resnet50", "resnet50d", "resnext50_32x4d", "seresnet50", "test_resnet"])
def test_last_stride_1_doubles_the_map_and_changes_no_weight(name):
    plain, finer = make_backbone(name, SIZE), make_backbone(name, SIZE, last_stride=1)
    finer.load_state_dict(plain.state_dict())
    assert sum(p.numel() for p in finer.parameters()) == sum(p.numel() for p in plain.parameters())
    assert all(m.dilation in (1, (1, 1)) for m in finer.modules() if isinstance(m, torch.nn.Conv2d))
    plain.eval(), finer.eval()
    with torch.inference_mode():
        coarse, fine = plain(Inputs.of_images(images()))[0], finer(Inputs.of_images(images()))[0]
    assert coarse.shape == (2, plain.channels, 2, 1)
    assert fine.shape == (2, plain.channels, 4, 2)


@pytest.mark.parametrize("name", ["test_vit", "test_convnext", "test_efficientnet"])
def test_a_last_stride_that_is_not_there_is_told(name):
    with pytest.raises(UserError, match=f"model.last_stride: 1 is for the ResNet family; '{name}' has no such stride"):
        make_backbone(name, SIZE, last_stride=1)


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("resnt50", "did you mean 'resnet50'"),
        ("osnet_x10", "did you mean 'osnet_x1_0'"),
        ("osnet_ain_x1_0.market", "did you mean 'osnet_ain_x1_0'"),
        ("????", r"known: timm: any that `timm\.list_models\(\)` names; OSNet: osnet_x1_0, osnet_x0_75,"),
    ],
)
def test_an_unknown_name_is_told(name, hint):
    with pytest.raises(UserError, match=rf"no family of backbones knows '{re.escape(name)}'; {hint}"):
        make_backbone(name, SIZE)


@pytest.mark.parametrize(("name", "size"), [("test_vit", (63, 32)), ("vit_tiny_patch16_224", (10, 10))])
def test_a_size_that_does_not_suit_is_told(name, size):
    with pytest.raises(
        UserError, match=rf"'{name}' cannot take images of input\.size \({size[0]}, {size[1]}\) \("
    ) as caught:
        make_backbone(name, size)
    assert "\n" not in str(caught.value)


def test_building_leaves_training_mode_and_statistics_alone():
    backbone = make_backbone("test_resnet", SIZE)
    assert all(module.training for module in backbone.modules())
    counted = [v for k, v in backbone.state_dict().items() if k.endswith("num_batches_tracked")]
    assert counted
    assert not any(counted)


@pytest.mark.parametrize("missing", ["nothing", "num_batches_tracked"])
def test_torchvision_weights_fit_and_mean_the_same(tmp_path, missing):
    theirs = torchvision.models.resnet18(weights=None).eval()
    state = {k: v for k, v in theirs.state_dict().items() if missing not in k}
    torch.save(state, tmp_path / "resnet18.pth")
    backbone = make_backbone("resnet18", SIZE).eval()
    loaded = load_backbone(backbone, tmp_path / "resnet18.pth")
    assert loaded.unused == ()
    assert loaded.count_matched == len(state) - 2  # the classifier
    with torch.inference_mode():
        x = images()
        for name in ("conv1", "bn1", "relu", "maxpool", "layer1", "layer2", "layer3", "layer4"):
            x = getattr(theirs, name)(x)
        torch.testing.assert_close(backbone(Inputs.of_images(images()))[0], x)


PREFIXES = ["module.", "backbone.", "base.", "model.", "module.base.", "module.model.", "module.backbone.", "body."]


@pytest.mark.parametrize("table", ["state_dict", "model", ""])
@pytest.mark.parametrize("prefix", PREFIXES)
def test_wrapped_weights_fit(tmp_path, prefix, table):
    source, target = make_backbone("test_resnet", SIZE), make_backbone("test_resnet", SIZE)
    wrapped = {prefix + k: v for k, v in source.body.state_dict().items()}
    torch.save({table: wrapped, "epoch": 3} if table else wrapped, tmp_path / "w.pt")
    assert str(load_backbone(target, tmp_path / "w.pt")) == f"{len(wrapped)} tensors match"
    for one, other in zip(source.state_dict().values(), target.state_dict().values(), strict=True):
        assert torch.equal(one, other)


OTHER_HEADS = {
    "torchreid": ("module.", ["classifier.weight", "classifier.bias"], ()),
    "torchreid with fc": ("", ["fc.0.weight", "classifier.weight"], ("fc.0.weight",)),
    "strong baseline": ("base.", ["bottleneck.weight", "classifier.weight"], ("bottleneck.weight",)),
    "fast-reid": (
        "backbone.",
        ["heads.weight", "heads.bottleneck.0.weight", "pixel_mean"],
        ("heads.bottleneck.0.weight", "heads.weight", "pixel_mean"),
    ),
}
"""Prefix of the backbone, what stands beside it, and what of that must be named as unused."""


@pytest.mark.parametrize("style", OTHER_HEADS)
def test_files_of_other_toolkits_fit_and_what_is_not_used_is_named(tmp_path, style):
    prefix, heads, unused = OTHER_HEADS[style]
    source = state()
    others = {(prefix if prefix == "module." else "") + key: torch.zeros(4) for key in heads}
    torch.save({"model": {prefix + k: v for k, v in source.items()} | others}, tmp_path / "w.pt")
    loaded = load_backbone(make_backbone("test_resnet", SIZE), tmp_path / "w.pt")
    assert (loaded.count_matched, loaded.unused, loaded.kept) == (len(source), unused, ())


def test_a_file_of_two_networks_is_told(tmp_path):
    torch.save({f"{who}.{k}": v for who in ("model", "module") for k, v in state().items()}, tmp_path / "w.pt")
    assert "w.pt holds 'conv1.0.weight' twice, as of two networks" in refusal(tmp_path / "w.pt")


def state(name="test_resnet"):
    return timm.create_model(name, num_classes=0).state_dict()


def refusal(path, name="test_resnet", **blocks):
    backbone = make_backbone(name, SIZE, **blocks)
    before = {k: v.clone() for k, v in backbone.state_dict().items()}
    with pytest.raises(UserError) as caught:
        load_backbone(backbone, path)
    assert all(torch.equal(before[k], v) for k, v in backbone.state_dict().items())  # nothing is loaded by halves
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_missing_tensors_are_told(tmp_path):
    save_file({k: v for k, v in state().items() if not k.startswith("layer4")}, tmp_path / "w.safetensors")
    said = refusal(tmp_path / "w.safetensors")
    assert "w.safetensors does not fit the backbone: " in said
    assert re.search(r"tensors match; \d+ missing \(layer4\.0\.conv1\.weight, .* \d+ more\)$", said)


def test_other_shapes_are_told(tmp_path):
    changed = state()
    first = next(k for k, v in changed.items() if v.ndim == 4)
    changed[first] = torch.zeros(1, 2, 3, 4)
    torch.save(changed, tmp_path / "w.pt")
    assert f"tensors match; 1 of another shape ({first} (1, 2, 3, 4) instead of" in refusal(tmp_path / "w.pt")


def test_other_tensors_in_the_file_are_reported(tmp_path):
    torch.save(state() | {"extra.weight": torch.zeros(1), "fc.bias": torch.zeros(1)}, tmp_path / "w.pt")
    assert load_backbone(make_backbone("test_resnet", SIZE), tmp_path / "w.pt").unused == ("extra.weight",)


PLAIN, A, B, SE = {}, {"ibn": "a"}, {"ibn": "b"}, {"attention": "se"}
BLOCKS_BEYOND = [
    (A, PLAIN, r"12 missing \(layer1\.0\.bn1\.weight, .* written with instance norms \(model\.ibn"),
    (B, PLAIN, r"2 missing \(bn1\.running_mean, .* written with instance norms \(model\.ibn"),
    (SE, PLAIN, r"8 only in the file \(layer1\.0\.se\.fc\.0\.weight, .* written with squeeze-and-excitation"),
    (A | SE, PLAIN, r"written with instance norms .* and squeeze-and-excitation"),
    (A | SE, A, r"8 only in the file \(layer1\.0\.se\.fc\.0\.weight, .* written with squeeze-and-excitation"),
    (A, B, r"missing \(layer1\.0\.bn1\.weight"),
    (B, A, r"missing \(bn1\.running_mean, .* 4 only in the file \(layer1\.0\.IN\.bias, "),
]
BLOCKS_NEW = [(PLAIN, A), (PLAIN, B), (PLAIN, SE), (PLAIN, A | SE), (A, A | SE), (SE, A | SE), (SE, B | SE)]


@pytest.mark.parametrize(("written", "read", "said"), BLOCKS_BEYOND)
def test_blocks_that_only_the_file_has_are_told(tmp_path, written, read, said):
    torch.save(make_backbone("test_resnet", SIZE, **written).body.state_dict(), tmp_path / "w.pt")
    assert re.search(
        rf"w\.pt does not fit the backbone: \d+ of \d+ tensors match; .*{said}", refusal(tmp_path / "w.pt", **read)
    )


@pytest.mark.parametrize(
    ("written", "read", "said"),
    [
        ("resnet34", "resnet18", r"of 120 tensors match; 96 only in the file \(layer1\.2\.bn1\.bias, "),
        ("resnet18", "resnet34", r"of 216 tensors match; 80 missing \(layer1\.2\.conv1\.weight, "),
        ("test_resnet", "test_convnext", r"0 of \d+ tensors match; \d+ missing \("),
    ],
)
def test_a_file_of_another_network_is_told(tmp_path, written, read, said):
    torch.save(state(written), tmp_path / "w.pt")
    assert re.search(said, refusal(tmp_path / "w.pt", read))


@pytest.mark.parametrize(("written", "read"), BLOCKS_NEW)
def test_blocks_that_the_file_lacks_keep_their_values_and_are_named(tmp_path, written, read):
    torch.save(make_backbone("test_resnet", SIZE, **written).body.state_dict(), tmp_path / "w.pt")
    backbone = make_backbone("test_resnet", SIZE, **read)
    before = {k: v.clone() for k, v in backbone.body.state_dict().items()}
    loaded = load_backbone(backbone, tmp_path / "w.pt")
    after = backbone.body.state_dict()
    new = ([".IN."] if written.get("ibn") != read.get("ibn") else []) + ([".se."] if SE not in (written,) else [])
    assert loaded.kept
    assert all(any(part in k for part in new) or k.startswith("bn1.") for k in loaded.kept)
    assert all(torch.equal(before[k], after[k]) for k in loaded.kept)
    assert loaded.count_matched + len(loaded.kept) == len(after)
    assert f"{loaded.count_matched} tensors match, {len(loaded.kept)} keep their initial values (" in str(loaded)


def test_what_came_of_a_file_is_told_in_one_line():
    assert str(Loaded(3)) == "3 tensors match"
    loaded = Loaded(7, kept=("a", "b"), unused=("c", "d", "e", "f", "g"), resampled=("pos_embed",))
    assert str(loaded) == (
        "7 tensors match, 2 keep their initial values (a, b), 5 unused (c, d, e, 2 more), 1 resampled (pos_embed)"
    )


@pytest.mark.parametrize(
    ("key", "reason"),
    [
        ("b1.0.norm1.weight", r"TransReID's jigsaw module \(JPM\)"),
        ("b2.1.weight", r"TransReID's jigsaw module \(JPM\)"),
        ("base.sie_embed", r"embeddings of cameras \(SIE\)"),
        ("cv_embed", r"embeddings of cameras \(SIE\)"),
        ("base.part_token1", r"tokens of parts \(PASS\)"),
        ("base.semantic_embed_w.0.weight", "SOLIDER's semantic weights"),
    ],
)
def test_a_published_transformer_with_parts_that_timm_lacks_is_refused(tmp_path, key, reason):
    body = {f"base.{name}": value for name, value in state("test_vit").items()}
    save_file(body | {key: torch.ones(3)}, tmp_path / "published.safetensors")
    assert re.search(f"the file was written with .*{reason}", refusal(tmp_path / "published.safetensors", "test_vit"))


def test_positions_of_a_square_image_are_resampled(tmp_path):
    square = timm.create_model("test_vit", num_classes=0, img_size=(64, 64))
    ramp = torch.linspace(-1, 1, 4).repeat_interleave(4)[None, :, None] * torch.ones(64)  # downwards
    table = torch.cat([torch.full((1, 1, 64), 9.0), ramp], dim=1)
    torch.save(square.state_dict() | {"pos_embed": table}, tmp_path / "w.pt")
    backbone = make_backbone("test_vit", SIZE)
    loaded = load_backbone(backbone, tmp_path / "w.pt")
    assert loaded.resampled == ("pos_embed",)
    found = backbone.body.pos_embed.detach()
    assert torch.equal(found[:, 0], table[:, 0])  # the class token has no place
    torch.testing.assert_close(found[0, 1:].unflatten(0, (4, 2)), ramp[0].unflatten(0, (4, 4))[:, :2])


@pytest.mark.parametrize("shape", [(1, 7, 64), (1, 17, 32)])
def test_positions_that_cannot_be_resampled_are_told(tmp_path, shape):
    torch.save(state("test_vit") | {"pos_embed": torch.zeros(shape)}, tmp_path / "w.pt")
    said = refusal(tmp_path / "w.pt", "test_vit")
    assert rf"1 of another shape (pos_embed {shape} instead of (1, 9, 64))" in said


@pytest.mark.parametrize("name", ["test_vit", "test_convnext"])
def test_a_stem_without_a_max_pooling_is_told(name):
    with pytest.raises(
        UserError, match=rf"model\.stem_pool: only ResNets .* '{name}' has none, leave it at 'torchvision'"
    ):
        make_backbone(name, SIZE, stem_pool="fastreid")


class Bomb:
    def __reduce__(self):
        return (Path.touch, (Path("exploded"),))


@pytest.mark.parametrize("name", ["w.pt", "w.pth", "w.safetensors"])
@pytest.mark.parametrize("content", [b"", b"just text", pickle.dumps(Bomb()), pickle.dumps({"a": 1})])
def test_a_file_that_is_no_weights_is_told_and_never_executed(tmp_path, monkeypatch, name, content):
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).write_bytes(content)
    assert name in refusal(tmp_path / name)
    assert not Path("exploded").exists()


def test_code_inside_a_torch_file_is_not_executed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"weight": torch.zeros(1), "bomb": Bomb()}, tmp_path / "w.pt")
    assert "is not a readable weights file (it holds getattr, and only tensors and plain " in refusal(tmp_path / "w.pt")
    assert not Path("exploded").exists()


def test_a_missing_file_and_a_file_without_tensors(tmp_path):
    assert "no weights file" in refusal(tmp_path / "none.pt")
    torch.save({"a": 1}, tmp_path / "w.pt")
    with pytest.raises(UserError, match="holds no table of named tensors"):
        read_weights(tmp_path / "w.pt")


def test_pretrained_weights_that_cannot_be_had_are_told_at_once(tmp_path, monkeypatch):
    def refuse(*_, **__):
        pytest.fail("it waits, or asks the network")

    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("time.sleep", refuse)
    monkeypatch.setattr("socket.socket.connect", refuse)
    with pytest.raises(UserError) as caught:
        make_backbone("resnet50.tv_in1k", (64, 32), pretrained=True)
    said = str(caught.value)
    assert said.startswith("the pretrained weights of 'resnet50.tv_in1k' are not on this machine and huggingface.co")
    assert "resolve/main/model.safetensors elsewhere and set model.weights to" in said


def test_a_model_without_pretrained_weights_is_told():
    with pytest.raises(
        UserError, match=r"timm has no pretrained weights for 'seresnet18'; set model.weights to a file"
    ):
        make_backbone("seresnet18", SIZE, pretrained=True)
