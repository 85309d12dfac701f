"""Files of weights as starts of vision transformers: other grids, jigsaw branches, cameras, the tower of a CLIP."""

import pytest
import timm
import torch

from passerby.errors import UserError
from passerby.models import transformer_backbones
from passerby.models.backbones import load_backbone, make_backbone
from passerby.models.clip_vit import ClipVisionTransformer, ClipVitSettings
from passerby.models.embedder import ModelSettings
from passerby.models.positions import resize_positions
from passerby.models.vit import VitSettings
from passerby.published.importing import read_published, reasons_of
from passerby.published.starts import load_start
from passerby.types import Inputs
from tests.models.tiny_clip import ARCHITECTURE as TOWER
from tests.models.tiny_clip import text_tower

WIDTHS = {"width": 64, "depth": 6, "heads": 2, "mlp_ratio": 3.0}
CLIP = {"width": 8, "depth": 2, "heads": 2, "projection": 6}


def timm_file(path, size=(64, 64)):
    torch.manual_seed(0)
    network = timm.create_model("test_vit", num_classes=3, img_size=size)
    torch.save(network.state_dict(), path)
    return network.state_dict()


def make(name, size=(64, 32), **architecture):
    return make_backbone(name, size, architecture=architecture)


def test_a_vit_of_timm_begins_a_vit_with_overlapping_patches(tmp_path):
    state = timm_file(tmp_path / "w.pth")
    backbone = make("vit", **WIDTHS, stride=12)
    loaded = load_backbone(backbone, tmp_path / "w.pth")
    assert (loaded.resampled, loaded.kept, loaded.unused) == (("pos_embed",), (), ())
    assert backbone.body.grid == (5, 2)
    assert torch.equal(backbone.body.pos_embed[:, 0], state["pos_embed"][:, 0])
    assert torch.equal(backbone.body.blocks[5].mlp.fc2.weight, state["blocks.5.mlp.fc2.weight"])


def test_both_jigsaw_branches_begin_with_the_last_block(tmp_path):
    state = timm_file(tmp_path / "w.pth")
    architecture = {**WIDTHS, "cameras": True, "jigsaw": {}}
    backbone = make_backbone("vit", (64, 32), architecture=architecture, count_cameras=3)
    loaded = load_backbone(backbone, tmp_path / "w.pth")
    assert loaded.kept == ("sie_embed.pairs.weight",)
    assert loaded.unused == ()
    for branch in (backbone.body.b1, backbone.body.b2):
        assert torch.equal(branch[0].attn.qkv.weight, state["blocks.5.attn.qkv.weight"])
        assert torch.equal(branch[1].bias, state["norm.bias"])


def test_a_file_with_jigsaw_branches_fills_both_and_its_last_block_is_named(tmp_path):
    torch.manual_seed(0)
    architecture = {**WIDTHS, "jigsaw": {}}
    source, target = (make_backbone("vit", (64, 32), architecture=architecture) for _ in range(2))
    state = dict(source.body.state_dict())
    torch.save(state | {"blocks.5.norm1.bias": torch.ones(64), "norm.bias": torch.ones(64)}, tmp_path / "w.pth")
    loaded = load_backbone(target, tmp_path / "w.pth")
    assert loaded.unused == ("replaced.blocks.5.norm1.bias", "replaced.norm.bias")
    assert all(torch.equal(value, state[key]) for key, value in target.body.state_dict().items())


def test_cameras_of_other_data_begin_anew(tmp_path):
    torch.manual_seed(0)
    architecture = {**WIDTHS, "cameras": True}
    source, target = (make_backbone("vit", (64, 32), architecture=architecture, count_cameras=3) for _ in range(2))
    before = target.body.sie_embed.pairs.weight.clone()
    torch.save(source.body.state_dict(), tmp_path / "w.pth")
    assert load_backbone(target, tmp_path / "w.pth").kept == ("sie_embed.pairs.weight",)
    assert torch.equal(target.body.sie_embed.pairs.weight, before)
    assert torch.equal(target.body.cls_token, source.body.cls_token)
    plain = make_backbone("vit", (64, 32), architecture=WIDTHS)
    with pytest.raises(UserError, match=r"written with embeddings of cameras \(SIE\)"):
        load_backbone(plain, tmp_path / "w.pth")


@pytest.mark.parametrize("prefix", ["visual.", "image_encoder.", ""])
def test_the_image_tower_of_a_clip_in_half_precision(tmp_path, prefix):
    torch.manual_seed(0)
    source, target = make("clip_vit", (64, 64), **CLIP), make("clip_vit", **CLIP)
    file = {f"{prefix}{key}": value.half() for key, value in source.body.state_dict().items()}
    text = {"transformer.resblocks.0.ln_1.weight": torch.ones(4), "ln_final.weight": torch.ones(4)} if prefix else {}
    torch.save(file | text, tmp_path / "w.pth")
    loaded = load_backbone(target, tmp_path / "w.pth")
    assert loaded.resampled == ("positional_embedding",)
    assert loaded.unused == tuple(sorted(f"text.{key}" for key in text))
    assert target.body.conv1.weight.dtype == torch.float32
    torch.testing.assert_close(target.body.proj, source.body.proj, atol=1e-3, rtol=1e-3)
    images = Inputs.of_images(torch.randn(2, 3, 64, 32))
    assert torch.isfinite(target(images)[1]).all()


def tower_of_timm(seed=0):
    torch.manual_seed(seed)
    return timm.create_model(
        "vit_base_patch16_clip_quickgelu_224", img_size=(64, 32), embed_dim=32, depth=2, num_heads=2, num_classes=24
    ).eval()


def test_the_tower_of_a_clip_is_that_of_timm(tmp_path):
    other = tower_of_timm()
    torch.save(other.state_dict(), tmp_path / "w.pth")
    backbone = make("clip_vit", width=32, depth=2, heads=2, projection=24).eval()
    assert load_backbone(backbone, tmp_path / "w.pth").unused == ()
    images = torch.randn(2, 3, 64, 32, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        _, vector = backbone(Inputs.of_images(images))
        tokens = other.forward_features(images)
    torch.testing.assert_close(vector, torch.cat([tokens[:, 0], other(images)], dim=1), atol=5e-6, rtol=0)


@pytest.mark.parametrize(("name", "architecture", "start"), [
    ("vit", {"jigsaw": {}, "stride": 12}, "vit_base_patch16_224.orig_in21k_ft_in1k"),
    ("vit", {"width": 384, "heads": 6}, "deit_small_patch16_224.fb_in1k"),
    ("clip_vit", {}, "vit_base_patch16_clip_quickgelu_224.openai"),
])  # fmt: skip
def test_published_dimensions_have_pretrained_weights_in_timm(monkeypatch, name, architecture, start):
    kinds = {"vit": transformer_backbones.VIT_STARTS, "clip_vit": transformer_backbones.CLIP_STARTS}
    settings = {"vit": VitSettings, "clip_vit": ClipVitSettings}[name](**architecture)
    assert kinds[name][settings.width, settings.depth, settings.heads] == start
    assert timm.models.get_pretrained_cfg(start).has_weights
    asked, other = [], tower_of_timm() if name == "clip_vit" else timm.create_model("test_vit", num_classes=0)

    def create(tag, *, pretrained, **_classes):
        asked.append((tag, pretrained))
        return other

    changed = WIDTHS if name == "vit" else {"width": 32, "depth": 2, "heads": 2, "projection": 24}
    dimensions = (changed["width"], changed["depth"], changed["heads"])
    monkeypatch.setitem(kinds[name], dimensions, start)
    monkeypatch.setattr(transformer_backbones.TimmBackbone, "require_pretrained", lambda _: None)
    monkeypatch.setattr(transformer_backbones.timm, "create_model", create)
    backbone = make_backbone(name, (64, 32), architecture=architecture | changed, pretrained=True)
    assert asked == [(start, True)]
    assert backbone.body.grid == ((5, 2) if "stride" in architecture else (4, 2))


@pytest.mark.parametrize("change", [WIDTHS, {"part_tokens": 3}, {"stem": "ics"}, {"patch": 8, "stride": 8}])
def test_other_networks_have_no_pretrained_weights(change):
    with (
        torch.device("meta"),
        pytest.raises(UserError, match=r"this .vit. comes without pretrained weights"),
    ):
        make_backbone("vit", (64, 32), architecture=change, pretrained=True)


@pytest.mark.parametrize(("name", "architecture", "reason"), [
    ("vit", {"cameras": True}, "'vit' uses cameras, and no camera of a training image is known"),
    ("resnet18", {"jigsaw": {}}, "unknown key jigsaw"),
    ("swin", {"cameras": True}, "unknown key cameras"),
    ("vit", {"stride": 20}, "stride 20 is above patch 16"),
])  # fmt: skip
def test_additions_without_a_place_are_told(name, architecture, reason):
    small = {"width": 16, "depth": 2, "heads": 2} if name == "vit" else {}
    with pytest.raises(UserError, match=reason):
        make_backbone(name, (64, 32), architecture={**small, **architecture})


def test_the_residual_tower_of_a_clip_gets_the_positions_of_its_size(tmp_path):
    architecture = {"width": 4, "projection": 6, "heads": 4}
    source, target = (make("clip_resnet50", size, **architecture) for size in ((64, 64), (64, 32)))
    state = {f"visual.{key}": value.half() for key, value in source.body.state_dict().items()}
    torch.save({**state, "text_projection": torch.ones(3), "logit_scale": torch.ones(())}, tmp_path / "w.pth")
    loaded = load_backbone(target, tmp_path / "w.pth")
    table = "attnpool.positional_embedding"
    assert (loaded.resampled, loaded.kept) == ((table,), ())
    assert loaded.unused == ("text.logit_scale", "text.text_projection")
    positions = state[f"visual.{table}"].float()
    expected = resize_positions(positions[1:], (4, 4), (4, 2))
    found = target.body.attnpool.positional_embedding.detach()
    torch.testing.assert_close(found, torch.cat([positions[:1], expected]), atol=1e-3, rtol=1e-3)
    for key, value in target.body.state_dict().items():
        if key != table:
            torch.testing.assert_close(value, state[f"visual.{key}"].to(value.dtype))


def test_a_whole_clip_is_resampled_once(tmp_path):
    tower = {**TOWER, "width": 64, "heads": 1}
    settings = ModelSettings(backbone="clip_vit", architecture={**tower, "stride": 6})
    torch.manual_seed(0)
    square = ClipVisionTransformer(ClipVitSettings(**tower), (64, 64))  # 8 x 8 positions
    state = {f"visual.{key}": value for key, value in square.state_dict().items()} | text_tower().state_dict()
    torch.save(state, tmp_path / "w.pth")
    assert reasons_of(state).keys() == {"clip"}
    backbone = make_backbone("clip_vit", (64, 32), architecture=settings.architecture)
    loaded = load_start(backbone, tmp_path / "w.pth", model=settings, size=(64, 32))
    assert loaded.resampled == ("positional_embedding",)
    positions = square.positional_embedding.detach()
    expected = torch.cat([positions[:1], resize_positions(positions[1:], (8, 8), backbone.body.grid)])
    torch.testing.assert_close(backbone.body.positional_embedding.detach(), expected)


def test_a_whole_clip_is_imported_with_the_vectors_of_its_towers(tmp_path):
    tower = ClipVisionTransformer(ClipVitSettings(**TOWER), (32, 32)).eval()
    state = {f"visual.{key}": value for key, value in tower.state_dict().items()} | text_tower().state_dict()
    torch.save({**state, "logit_scale": torch.ones(())}, tmp_path / "w.pth")
    model = read_published(tmp_path / "w.pth", overrides=["heads=2"], size=(32, 32))
    images = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8)
    inputs = model.imported.input
    mean, std = (torch.tensor(each).reshape(1, 3, 1, 1) for each in (inputs.mean, inputs.std))
    with torch.inference_mode():
        out = model.embedder(Inputs.of_images(images))
        _, expected = tower((images / 255 - mean) / std, torch.zeros(2))
    torch.testing.assert_close(out.before_neck, expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(out.projected, expected[:, -12:], rtol=1e-4, atol=1e-5)
    assert torch.equal(out.after_neck, out.before_neck)
    assert (model.family, model.imported.vector) == ("clip", "before_neck")
    torch.save({**state, "visual.extra": torch.ones(1)}, tmp_path / "w.pth")
    with pytest.raises(UserError, match="extra"):
        read_published(tmp_path / "w.pth", overrides=["heads=2"], size=(32, 32))
    torch.save({**state, "extra": torch.ones(1)}, tmp_path / "w.pth")
    with pytest.raises(UserError, match=r"have no place in the family clip \(extra\)"):
        read_published(tmp_path / "w.pth", overrides=["heads=2"], size=(32, 32))


def names_of_transformers(state):
    """Return the tensors of an image tower by the names of transformers, where queries, keys and values are apart."""
    names = {
        "class_embedding": "vision_model.embeddings.class_embedding",
        "conv1.weight": "vision_model.embeddings.patch_embedding.weight",
        "positional_embedding": "vision_model.embeddings.position_embedding.weight",
        "proj": "visual_projection.weight",
    }
    parts = {"ln_1": "layer_norm1", "ln_2": "layer_norm2", "attn.out_proj": "self_attn.out_proj",
             "mlp.c_fc": "mlp.fc1", "mlp.c_proj": "mlp.fc2"}  # fmt: skip
    renamed = {}
    for key, value in state.items():
        if key.startswith("transformer.resblocks."):
            _, _, number, *part, kind = key.split(".")
            block = f"vision_model.encoder.layers.{number}"
            if kind.startswith("in_proj_"):
                for letter, rows in zip("qkv", value.chunk(3), strict=True):
                    renamed[f"{block}.self_attn.{letter}_proj.{kind.removeprefix('in_proj_')}"] = rows
            else:
                renamed[f"{block}.{parts['.'.join(part)]}.{kind}"] = value
        elif key.startswith("ln_"):
            place = {"ln_pre": "pre_layrnorm", "ln_post": "post_layernorm"}[key.partition(".")[0]]
            renamed[f"vision_model.{place}.{key.partition('.')[2]}"] = value
        else:
            renamed[names[key]] = value.T.contiguous() if key == "proj" else value
    return {**renamed, "vision_model.embeddings.position_ids": torch.arange(4)[None]}


def test_the_image_tower_of_a_clip_by_the_names_of_transformers(tmp_path):
    source, target = make("clip_vit", (64, 64), **CLIP), make("clip_vit", (64, 64), **CLIP)
    state = names_of_transformers(source.body.state_dict())
    torch.save({**state, "text_model.encoder.layers.0.mlp.fc1.bias": torch.ones(2)}, tmp_path / "w.pth")
    loaded = load_backbone(target, tmp_path / "w.pth")
    assert (loaded.kept, loaded.unused) == ((), ("text.transformer.resblocks.0.mlp.c_fc.bias",))
    assert all(torch.equal(value, source.body.state_dict()[key]) for key, value in target.body.state_dict().items())
    del state["vision_model.encoder.layers.1.self_attn.k_proj.bias"]
    torch.save(state, tmp_path / "w.pth")
    with pytest.raises(UserError, match=r"1 missing \(transformer.resblocks.1.attn.in_proj_bias\)"):
        load_backbone(target, tmp_path / "w.pth")
