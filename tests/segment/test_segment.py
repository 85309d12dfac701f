"""The segmenter: its losses, its file, and the round from a few masks to masks for everybody."""

import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from typer.testing import CliRunner

from passerby.cli import app
from passerby.data.foreground import decode_mask
from passerby.data.image_files import images_below
from passerby.inputs import InputSettings
from passerby.lock import locked
from passerby.segment.network import (
    Origin,
    Segmenter,
    SegmenterSettings,
    dice_loss,
    load_segmenter,
    overlap,
    save_segmenter,
)
from passerby.segment.training import hold_out, images_to_score, open_masked, train_on_masks

SMALL = SegmenterSettings(input=InputSettings(size=(32, 16)), widths=(4, 8, 12))


def test_overlap_counts_pixels():
    one, other = torch.zeros(3, 1, 4, 4), torch.zeros(3, 1, 4, 4)
    one[0, 0, :2], other[0, 0, 1:3] = 1, 1
    one[1, 0, :2] = 1
    assert overlap(one, other).tolist() == pytest.approx([4 / 12, 0, 1])


def test_dice_is_the_written_formula():
    logits = torch.randn(
        2, 1, 4, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64, requires_grad=True
    )
    wanted = (torch.rand(2, 1, 4, 4, generator=torch.Generator().manual_seed(1)) > 0.5).double()
    found = 0.0
    for number in range(2):
        both = total = 0.0
        for p, t in zip(logits[number].sigmoid().flatten().tolist(), wanted[number].flatten().tolist(), strict=True):
            both, total = both + p * t, total + p + t
        found += (1 - (2 * both + 1) / (total + 1)) / 2
    assert float(dice_loss(logits, wanted).detach()) == pytest.approx(found, abs=1e-6)
    assert float(dice_loss(60 * (wanted - 0.5), wanted)) == pytest.approx(0, abs=1e-4)
    dice_loss(logits, torch.zeros_like(wanted)).backward()
    assert logits.grad.min() > 0  # an empty mask pushes every pixel down


@pytest.mark.parametrize("size", [(32, 16), (33, 17), (5, 9)])
def test_any_size_goes_in_and_comes_out(size):
    assert Segmenter(SMALL).eval()(torch.zeros(2, 3, *size)).shape == (2, 1, *size)


def test_the_default_is_small():
    assert sum(p.numel() for p in Segmenter(SegmenterSettings()).parameters()) < 400_000


def test_people_are_held_out_whole():
    pid = np.repeat(np.arange(20), 5)
    kept, by = hold_out(pid, seed=0)
    assert by == "people"
    assert len(set(pid[kept])) == 2
    assert set(pid[kept]).isdisjoint(pid[~kept])
    assert not np.array_equal(kept, hold_out(pid, seed=1)[0])
    kept, by = hold_out(np.full(30, -1), seed=0)
    assert (by, int(kept.sum())) == ("images", 3)


@pytest.fixture(scope="module")
def trained(site, masks):
    dataset = open_masked(str(site), kind="auto", masks=str(masks))
    return train_on_masks(dataset, SMALL, epochs=60, seed=0)


def test_it_learns_to_find_people_it_has_not_seen(trained):
    assert trained.origin.apart_by == "people"
    assert (trained.origin.count_images, trained.origin.count_held_out) == (40, 8)
    assert trained.origin.overlap > 0.75  # the figures stand up to 4 pixels beside the fixed box of their masks


def test_the_same_seed_gives_the_same_network(site, masks):
    dataset = open_masked(str(site), kind="auto", masks=str(masks))
    one, same, other = (
        train_on_masks(dataset, SMALL, epochs=1, seed=seed).segmenter.state_dict() for seed in (1, 1, 2)
    )
    assert all(torch.equal(one[key], same[key]) for key in one)
    assert not torch.equal(one["head.weight"], other["head.weight"])


def test_test_images_are_not_learnt_from(site, masks, tmp_path):
    few = tmp_path / "few"
    shutil.copytree(masks / "bounding_box_train", few / "bounding_box_train")
    dataset = open_masked(str(site), kind="auto", masks=str(few))
    whole = open_masked(str(site), kind="auto", masks=str(masks))
    one, other = (train_on_masks(given, SMALL, epochs=1).segmenter.state_dict() for given in (dataset, whole))
    assert all(torch.equal(one[key], other[key]) for key in one)
    assert (len(images_to_score(dataset)), len(images_to_score(whole))) == (48, 32)


# ---- the file


@pytest.fixture(scope="module")
def file(trained, tmp_path_factory):
    path = tmp_path_factory.mktemp("segmenter") / "seg.safetensors"
    save_segmenter(trained.segmenter, path, origin=trained.origin)
    return path


def test_the_file_is_all_there_is(trained, file):
    segmenter, origin = load_segmenter(file)
    images = torch.randint(256, (2, 3, 32, 16), dtype=torch.uint8)
    torch.testing.assert_close(segmenter(images), trained.segmenter(images), atol=1e-4, rtol=1e-4)
    assert origin == trained.origin
    assert not segmenter.training


def told(*arguments) -> str:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == 2, result.output
    return " ".join(result.output.split())


def test_other_files_are_refused(site, file, tmp_path):
    save_file({"x": torch.zeros(1)}, tmp_path / "other.safetensors")
    save_file(
        {"x": torch.zeros(1)},
        tmp_path / "wrong.safetensors",
        metadata={"passerby_segmenter": json.dumps({"settings": SMALL.model_dump(mode="json"), "origin": {}})},
    )
    (tmp_path / "text.safetensors").write_text("x")
    for name, sentence in {
        "gone.safetensors": "no weights file",
        "text.safetensors": "is not a readable weights file",
        "other.safetensors": "is not a segmenter; `passerby segment train` makes one",
        "wrong.safetensors": "holds other tensors than its settings say",
    }.items():
        assert sentence in told("segment", "apply", tmp_path / name, site, "--out", tmp_path / "masks")


# ---- on the command line


def test_from_some_masks_to_masks_for_everybody(site, masks, file, tiny_file, tmp_path):
    out = tmp_path / "made"
    result = CliRunner().invoke(app, ["segment", "apply", str(file), str(site), "--out", str(out)])
    assert result.exit_code == 0, result.output
    assert "80 masks in" in result.output
    images = images_below(site)
    assert images_below(out) == [name.replace(".jpg", ".png") for name in images]
    scores = []
    for name in images:
        place = name.replace(".jpg", ".png")
        with Image.open(out / place) as image:
            assert (image.mode, image.size) == ("1", (32, 64))
        made, wanted = (torch.from_numpy(decode_mask(folder / place))[None, None] for folder in (out, masks))
        scores.append(float(overlap(made, wanted)))
    assert np.mean(scores) > 0.75
    arguments = ["train", tiny_file, "foreground=mask", f"masks={out}", "stages.0.epochs=1", "--out", tmp_path / "run"]
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.output
    assert 'id="background-bias"' in (tmp_path / "run" / "report.html").read_text()
    assert "holds something already" in told("segment", "apply", file, site, "--out", out)


def test_train_and_score(site, masks, tmp_path):
    seg = tmp_path / "s.safetensors"
    arguments = ["segment", "train", site, "--masks", masks, "--out", seg, "--epochs", 1]
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.output
    assert "learnt from 40 images; overlap (IoU)" in result.output
    assert "on 8 images of other people" in result.output
    result = CliRunner().invoke(app, ["segment", "score", str(seg), str(site), "--masks", str(masks)])
    assert result.exit_code == 0, result.output
    assert f"trained on {site.parent.name}: overlap (IoU)" in result.output


def test_a_plain_folder_of_images_will_do(site, masks, tmp_path):
    for number, image in enumerate(sorted((site / "query").glob("*.jpg"))):
        (tmp_path / "set/deep/er").mkdir(parents=True, exist_ok=True)
        shutil.copy(image, tmp_path / f"set/deep/er/crop {number}.jpg")
        if number < 6:
            (tmp_path / "m/deep/er").mkdir(parents=True, exist_ok=True)
            shutil.copy(masks / "query" / f"{image.stem}.png", tmp_path / f"m/deep/er/crop {number}.png")
    trained = train_on_masks(open_masked(f"{tmp_path}/set", kind="auto", masks=f"{tmp_path}/m"), SMALL, epochs=1)
    assert trained.origin == Origin(
        trained_on=tmp_path.name, count_images=5, count_held_out=1, apart_by="images", overlap=trained.origin.overlap
    )


def test_two_at_once_do_not_write_one_file(site, masks, tmp_path):
    seg = tmp_path / "s.safetensors"
    with locked(tmp_path, file=seg.name, command="another"):
        assert f"{seg} is in use by" in told("segment", "train", site, "--masks", masks, "--out", seg)


def test_what_cannot_be_learnt_from(site, masks, tmp_path):
    out = ("--out", tmp_path / "s.safetensors")
    assert "does not exist" in told("segment", "train", tmp_path / "gone", *out)
    assert "none of the 48 training images of" in told("segment", "train", site, *out)
    (tmp_path / "empty").mkdir()
    assert "has a mask" in told("segment", "train", site, "--masks", tmp_path / "empty", *out)
    odd = tmp_path / "odd"
    shutil.copytree(masks, odd)
    Image.new("1", (32, 32)).save(odd / "bounding_box_train/0002_c1s1_000001_00.png")
    assert "a mask must have the size of its image" in told("segment", "train", site, "--masks", odd, *out)
    only = tmp_path / "only/bounding_box_train"
    only.mkdir(parents=True)
    shutil.copy(masks / "bounding_box_train/0002_c1s1_000001_00.png", only)
    assert "at least two are needed" in told("segment", "train", site, "--masks", only.parent, *out)


def test_what_masks_cannot_be_made_for(file, site, tmp_path):
    out = ("--out", tmp_path / "made")
    assert "no image below" in told("segment", "apply", file, tmp_path, *out)
    assert "does not exist" in told("segment", "apply", file, tmp_path / "gone", *out)
    Image.new("RGB", (8, 16)).save(tmp_path / "a.jpg")
    Image.new("RGB", (8, 16)).save(tmp_path / "a.png")
    assert "a.jpg and a.png would share the mask a.png" in told("segment", "apply", file, tmp_path, *out)
