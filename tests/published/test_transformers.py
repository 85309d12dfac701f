"""Published transformers against the vectors of the projects' own code: file, import, model file, images, vectors."""

import argparse
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from passerby.errors import UserError
from passerby.inference.embed import embed
from passerby.models.embedder import load_embedder
from passerby.published.importing import read_published
from passerby.types import CameraTable, Inputs, Split

DATA = Path(__file__).parent / "data"
FACTS = json.loads((DATA / "transformers.json").read_text())
TOLERANCE = 5e-6
FAMILY = {
    "transreid_vit": "transreid",
    "transreid_sie": "transreid",
    "transreid_jpm": "transreid",
    "transreid_jpm_sie_stride12": "transreid",
    "transreid_vit_small": "transreid",
    "clipreid_vit_sie_olp": "clipreid",
    "transreidssl_ics": "transreid_ssl",
    "transreidssl_pretrain": "transreid_ssl",
    "personvit_pretrain": "personvit",
    "pass_cat": "pass",
    "pass_mean_singleneck": "pass",
    "pass_pretrain": "pass",
    "solider_swin": "solider",
}
"""Files of random weights in the published layouts, and the family that each is recognised as."""
OF_ITS_OWN = {
    "feature_sw1": "semantic_weight=1.0",
    "feature_sw0": "semantic_weight=0.0",
    "feature_no_semantic": "semantic_weight=null",
}
"""Vectors under another setting than the published one."""


def arrays(name):
    return dict(np.load(DATA / f"{name}.npz"))


def heads(name):
    return [] if name == "solider_swin" else [f"heads={FACTS[name]['heads']}"]


def cases():
    """Yield each published vector: the file, its key, the key of its images."""
    for name in FAMILY:
        stored = arrays(name)
        images = [key.removeprefix("images") for key in stored if key.startswith("images_")]
        for key in sorted(key for key in stored if key.startswith("feature")):
            yield pytest.param(name, key, f"images{next((s for s in images if s in key), '')}", id=f"{name}-{key}")


def published_model(name, key="feature", size=None, *changes):
    changes = changes or tuple(OF_ITS_OWN[key] for _ in "1" if key in OF_ITS_OWN)
    return read_published(DATA / f"{name}.pth", overrides=[*heads(name), *changes], size=size)


def expected_of(name, key):
    vectors = arrays(name)[key]
    if name != "pass_pretrain":
        return vectors
    first, *parts = np.split(vectors, 4, axis=1)  # stored token by token; published is their fusion
    return np.concatenate([first, sum(parts) / 3], axis=1)


def camera_of(key):
    return int(key.split("cam")[1][0]) if "cam" in key else -1


@pytest.mark.parametrize(("name", "key", "images"), list(cases()))
def test_vectors_are_the_published_ones(name, key, images, tmp_path):
    pixels = arrays(name)[images]
    model = published_model(name, key, pixels.shape[1:3])
    assert model.family == FAMILY[name]
    assert model.imported.vector == "before_neck"
    model.save(tmp_path / "model.safetensors")
    embedder = load_embedder(tmp_path / "model.safetensors")
    inputs = Inputs(torch.from_numpy(pixels).permute(0, 3, 1, 2), torch.full((len(pixels),), camera_of(key)))
    with torch.inference_mode():
        output = embedder(inputs)
    found = output.vector("after_neck" if "after_neck" in key else "before_neck")
    np.testing.assert_allclose(found.numpy(), expected_of(name, key), atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize("name", ["transreid_vit", "transreid_jpm_sie_stride12"])
def test_image_files_give_the_published_vectors(name, tmp_path):
    pixels = arrays(name)["images"]
    paths = [str(tmp_path / f"{number}.png") for number in range(len(pixels))]
    for path, image in zip(paths, pixels, strict=True):
        Image.fromarray(image).save(path)
    published_model(name, size=pixels.shape[1:3]).save(tmp_path / "model.safetensors")
    model = load_embedder(tmp_path / "model.safetensors")
    for key in (key for key in arrays(name) if key.startswith("feature") and "after_neck" not in key):
        cameras = np.full(len(paths), camera_of(key))
        split = Split(np.array(paths), np.full(len(paths), -1), cameras, cam_row=cameras)
        found = embed(model, split, vector="before_neck")
        np.testing.assert_allclose(found, arrays(name)[key], atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize("name", [name for name in FAMILY if FACTS[name]["keys_without_influence"]])
def test_tensors_without_influence_are_those_of_the_published_code(name, tmp_path):
    state = torch.load(DATA / f"{name}.pth", weights_only=True)
    assert len(state) == FACTS[name]["keys"]
    for key in state:
        if (
            key.removeprefix("module.") in FACTS[name]["keys_without_influence"]
            or key in FACTS[name]["keys_without_influence"]
        ):
            state[key] = torch.rand(state[key].shape).to(state[key].dtype) + 1
    torch.save(state, tmp_path / "disturbed.pth")
    pixels = arrays(name)["images"]
    inputs = Inputs(torch.from_numpy(pixels).permute(0, 3, 1, 2), torch.zeros(len(pixels), dtype=torch.int64))
    size = pixels.shape[1:3]
    disturbed = read_published(tmp_path / "disturbed.pth", overrides=heads(name), size=size)
    with torch.inference_mode():
        one, other = published_model(name, size=size).embedder(inputs), disturbed.embedder(inputs)
    assert torch.equal(one.before_neck, other.before_neck)


def test_each_other_tensor_has_influence(tmp_path):
    name = "transreid_jpm_sie_stride12"
    state = torch.load(DATA / f"{name}.pth", weights_only=True)
    pixels = arrays(name)["images"][:1]
    inputs = Inputs(torch.from_numpy(pixels).permute(0, 3, 1, 2), torch.zeros(1, dtype=torch.int64))
    embedder = published_model(name, size=pixels.shape[1:3]).embedder.train()
    embedder(inputs.map(lambda tensor: tensor.repeat_interleave(2, 0))).before_neck.square().sum().backward()
    touched = sum(p.grad is not None and bool(p.grad.abs().max() > 0) for p in embedder.backbone.parameters())
    assert touched == len(state) - len(FACTS[name]["keys_without_influence"])


def test_the_cameras_of_a_file_are_those_of_its_data_set():
    model = published_model("transreid_sie", "feature", (128, 64))
    assert model.embedder.cameras == CameraTable(("published",), ((1, 2, 3),))
    assert "embeddings of 3 cameras, taken for the cameras 1 to 3 of published" in " ".join(model.notes)
    model = published_model("transreid_sie", "feature", (128, 64), "cameras_of=plaza", "first_camera=0")
    assert model.embedder.cameras == CameraTable(("plaza",), ((0, 1, 2),))


def test_an_unknown_camera_has_the_mean_embedding():
    embedder = published_model("transreid_sie", size=(128, 64)).embedder
    images = torch.from_numpy(arrays("transreid_sie")["images"]).permute(0, 3, 1, 2)
    with torch.inference_mode():
        unknown = embedder(Inputs.of_images(images)).before_neck
        table = embedder.backbone.body.sie_embed.pairs.weight
        table.copy_(table.mean(0).expand_as(table))
        mean = embedder(Inputs(images, torch.zeros(2, dtype=torch.int64))).before_neck
    torch.testing.assert_close(unknown, mean, atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize(("name", "size", "grid", "note"), [
    ("transreid_vit", None, (8, 4), None),
    ("transreid_vit", (256, 128), (16, 8), "positions resized from 8x4 to 16x8 patches"),
    ("transreidssl_pretrain", (192, 64), (12, 4), "positions resized from 8x4 to 12x4 patches"),
    ("clipreid_vit_sie_olp", (128, 64), (10, 5), None),
])  # fmt: skip
def test_size_and_stride_follow_from_the_table_of_positions(name, size, grid, note):
    model = published_model(name, size=size)
    assert model.embedder.backbone.body.grid == grid
    assert model.embedder.input.size == (size or (128, 64))
    assert (note is None) == (not any("resized" in told for told in model.notes))
    assert note is None or any(note in told for told in model.notes)


def wrapped(state, prefix):
    """Return a pre-training checkpoint whose teacher is a network."""
    teacher = {f"{prefix}backbone.{key}": value for key, value in state.items()} | {
        "head.last_layer.weight_g": torch.ones(2, 1)
    }
    student = {key: torch.zeros_like(value) for key, value in teacher.items()}
    args = argparse.Namespace(arch="swin_tiny", epochs=100)
    return {"student": student, "teacher": teacher, "optimizer": {}, "epoch": 100, "args": args, "dino_loss": {}}


@pytest.mark.parametrize("name", ["solider_swin", "transreidssl_ics", "pass_cat"])
@pytest.mark.parametrize("form", ["", "module.", "teacher alone", "converted"])
def test_pre_training_files_in_all_their_forms(name, form, tmp_path):
    whole = torch.load(DATA / f"{name}.pth", weights_only=True)
    state = {
        key.removeprefix("base."): value
        for key, value in whole.items()
        if key.startswith("base.") and ".fc." not in key
    }
    file = wrapped(state, form if form == "module." else "")
    file = {"teacher alone": file["teacher"], "converted": state}.get(form, file)
    torch.save(file, tmp_path / "pretrained.pth")
    pixels = arrays(name)["images"]
    model = read_published(tmp_path / "pretrained.pth", overrides=heads(name), size=pixels.shape[1:3])
    assert model.family == FAMILY[name]
    with torch.inference_mode():
        found = model.embedder(Inputs.of_images(torch.from_numpy(pixels).permute(0, 3, 1, 2)))
    np.testing.assert_allclose(found.before_neck.numpy(), arrays(name)["feature"], atol=TOLERANCE, rtol=0)
    torch.testing.assert_close(found.after_neck, found.before_neck / (1 + 1e-5) ** 0.5)
    assert any("begins with a new one" in note for note in model.notes)


@pytest.mark.parametrize(("name", "changes", "reason"), [
    ("transreid_vit", [], "the number of heads is no key of the file, and no published network has the width 32"),
    ("transreid_vit", ["heads=5"], "heads must divide the width .* 32"),
    ("transreid_vit", ["head=4"], "unknown key head; did you mean 'heads'"),
    ("transreid_sie", ["heads=4", "views=2"], "holds 3 embeddings, which is no multiple"),
])  # fmt: skip
def test_settings_that_do_not_fit_are_told(name, changes, reason):
    with pytest.raises(UserError, match=reason):
        read_published(DATA / f"{name}.pth", overrides=changes, size=(128, 64))


def test_a_size_that_is_guessed_or_cannot_be_guessed_is_told(tmp_path):
    model = read_published(DATA / "clipreid_vit_sie_olp.pth", overrides=["heads=4"])
    assert any("images of 160x80 are a guess from 50 positions" in note for note in model.notes)
    state = torch.load(DATA / "transreid_vit.pth", weights_only=True)
    torch.save(state | {"base.pos_embed": torch.zeros(1, 1 + 30, 32)}, tmp_path / "odd.pth")
    with pytest.raises(UserError, match="a table of 30 positions fits no published size of images; give --size HxW"):
        read_published(tmp_path / "odd.pth", overrides=["heads=4"])


@pytest.mark.parametrize(("name", "key"), [
    ("transreid_vit", "base.adapter.weight"),
    ("transreid_jpm", "b1.0.attn.gate"),
    ("transreidssl_pretrain", "backbone.registers"),
    ("pass_cat", "base.blocks.0.ls1.gamma"),
    ("clipreid_vit_sie_olp", "image_encoder.ln_mid.weight"),
    ("solider_swin", "base.stages.0.blocks.0.attn.w_msa.gate"),
])  # fmt: skip
def test_a_tensor_that_a_family_does_not_know_is_told(name, key, tmp_path):
    state = torch.load(DATA / f"{name}.pth", weights_only=name != "transreidssl_pretrain")
    torch.save(state.get("teacher", state) | {key: torch.ones(2)}, tmp_path / "odd.pth")
    with pytest.raises(UserError, match=rf"1 of \d+ tensors have no place in the family \w+ \({key}\)"):
        read_published(tmp_path / "odd.pth", overrides=heads(name), size=(128, 64))


@pytest.mark.parametrize(("name", "key"), [
    ("transreid_vit", "base.norm.weight"),
    ("transreid_jpm", "b2.0.attn.qkv.bias"),
    ("transreid_vit", "base.pos_embed"),
    ("pass_cat", "base.cls_pos"),
    ("clipreid_vit_sie_olp", "image_encoder.proj"),
    ("solider_swin", "base.norm3.weight"),
])  # fmt: skip
def test_a_tensor_that_is_missing_is_told(name, key, tmp_path):
    state = torch.load(DATA / f"{name}.pth", weights_only=True)
    del state[key]
    torch.save(state, tmp_path / "cut.pth")
    with pytest.raises(UserError, match=key.removeprefix("base.").removeprefix("image_encoder.")):
        read_published(tmp_path / "cut.pth", overrides=heads(name), size=(128, 64))


def test_a_fine_tuned_vit_is_read_as_any_of_the_families_that_share_its_layout():
    vectors = []
    for family in ("transreid", "transreid_ssl", "personvit"):
        model = read_published(DATA / "transreid_vit.pth", family=family, overrides=["heads=4"], size=(128, 64))
        images = torch.from_numpy(arrays("transreid_vit")["images"]).permute(0, 3, 1, 2)
        with torch.inference_mode():
            vectors.append(model.embedder(Inputs.of_images(images)).before_neck)
    assert all(torch.equal(vectors[0], other) for other in vectors[1:])
