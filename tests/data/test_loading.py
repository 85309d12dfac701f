"""From files to batches: decoding, resizing, and batches that do not depend on who loads them."""

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from passerby.data import loading
from passerby.data.decoding import decode
from passerby.data.foreground import ForegroundSettings, decode_mask, fit_mask, mean_colour, swap_background
from passerby.data.loading import (
    DataSettings,
    EpochKey,
    ImageStore,
    masked_batches,
    plain_batches,
    prepare,
    training_batches,
)
from passerby.data.transforms import AugmentSettings, JitterSettings
from passerby.errors import UserError
from passerby.inputs import InputSettings

INPUT = InputSettings(size=(32, 16))
PIXELS = np.random.default_rng(0).integers(0, 256, (20, 10, 3)).astype(np.uint8)
SMOOTH = np.asarray(Image.fromarray(PIXELS).resize((40, 80), Image.Resampling.BICUBIC))


def saved(path, pixels=SMOOTH, mode="RGB", **options):
    Image.fromarray(pixels).convert(mode).save(path, **options)
    return path


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("quality", [75, 100])
def test_a_jpeg_is_what_pil_makes_of_it(tmp_path, mode, quality):
    path = saved(tmp_path / "a.jpg", mode=mode, quality=quality)
    wanted = np.asarray(Image.open(path).convert("RGB")).astype(int)
    found = decode(path)
    assert found.shape == (80, 40, 3)
    assert found.dtype == np.uint8
    assert np.abs(found - wanted).max() <= 4  # two decoders may round apart
    assert np.abs(found - wanted).mean() < 1.5


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "P", "1", "LA"])
def test_a_png_is_what_pil_makes_of_it(tmp_path, mode):
    path = saved(tmp_path / "a.png", mode=mode)
    with Image.open(path) as image:
        np.testing.assert_array_equal(decode(path), np.asarray(image.convert("RGB")))


def test_a_jpeg_may_be_called_png(tmp_path):
    saved(tmp_path / "a.jpg").rename(tmp_path / "a.png")
    assert decode(tmp_path / "a.png").shape == (80, 40, 3)


def jpeg():
    buffer = io.BytesIO()
    Image.fromarray(SMOOTH).save(buffer, "JPEG")
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", r"the image .*a\.jpg is empty \(0 bytes\)"),
        (b"just text", r"a\.jpg is not a readable image"),
        (jpeg()[: len(jpeg()) // 2], r"a\.jpg is not a readable image"),
        (jpeg()[:3], r"a\.jpg is not a readable image"),
        (b"\xff\xd8" + bytes(500), r"a\.jpg is not a readable image"),
        (b"\x89PNG\r\n\x1a\n" + bytes(50), r"a\.jpg is not a readable image"),
    ],
)
def test_a_broken_image_is_told(tmp_path, content, told):
    (tmp_path / "a.jpg").write_bytes(content)
    with pytest.raises(UserError, match=told) as caught:
        decode(tmp_path / "a.jpg")
    assert "\n" not in str(caught.value)
    assert " object at 0x" not in str(caught.value)


def test_a_missing_image_is_told(tmp_path):
    with pytest.raises(UserError, match=r"cannot read the image .*b\.jpg: no such file"):
        decode(tmp_path / "b.jpg")
    with pytest.raises(UserError, match=r"cannot read the image .*: is a directory"):
        decode(tmp_path)


@pytest.mark.parametrize("name", ["bilinear", "bicubic", "nearest"])
def test_resizing_is_that_of_pil(name):
    inputs = InputSettings(size=(32, 16), interpolation=name)
    wanted = Image.fromarray(SMOOTH).resize((16, 32), getattr(Image.Resampling, name.upper()))
    found = prepare(SMOOTH, inputs)
    assert found.shape == (3, 32, 16)
    np.testing.assert_array_equal(found.permute(1, 2, 0).numpy(), np.asarray(wanted))


@pytest.mark.parametrize("size", [(32, 16), (80, 40)])
def test_bgr_turns_the_channels(size):
    rgb, bgr = (prepare(SMOOTH, InputSettings(size=size, colour=colour)) for colour in ("rgb", "bgr"))
    assert torch.equal(rgb.flip(0), bgr)
    bgr[0] = 0  # the tensor owns its memory


# ---- batches


@pytest.fixture(scope="module")
def paths(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    generator = np.random.default_rng(0)
    files = [saved(folder / f"{n}.png", generator.integers(0, 256, (40, 20, 3)).astype(np.uint8)) for n in range(12)]
    return np.array([str(file) for file in files])


PLAN = np.random.default_rng(1).integers(0, 12, (4, 6))
LABELS = np.arange(12) // 2
CAM = np.arange(12) % 3
START = EpochKey(0, 0, 0)
AUGMENT = AugmentSettings(pad=2, jitter=JitterSettings())


def load(paths, *, cache="none", workers=0, labels=LABELS, place=START, augment=AUGMENT, **options):
    store = ImageStore(paths, INPUT, cache=cache)
    settings = DataSettings(workers=workers, augment=augment)
    return list(training_batches(store, PLAN, labels=labels, cam=CAM, settings=settings, place=place, **options))


def assert_same(one, other):
    assert len(one) == len(other)
    for a, b in zip(one, other, strict=True):
        for name in ("labels", "index"):
            assert torch.equal(getattr(a, name), getattr(b, name)), name
        for name in ("images", "cam"):
            assert torch.equal(getattr(a.inputs, name), getattr(b.inputs, name)), name


def test_a_batch_holds_what_the_plan_says(paths):
    batches = load(paths)
    assert [batch.index.tolist() for batch in batches] == PLAN.tolist()
    for batch in batches:
        assert batch.inputs.images.shape == (6, 3, 32, 16)
        assert batch.inputs.images.dtype == torch.uint8
        assert batch.labels.tolist() == LABELS[batch.index].tolist()
        assert batch.inputs.cam.tolist() == CAM[batch.index].tolist()
        assert batch.inputs.mask is None


@pytest.mark.parametrize("cache", ["memory", "auto"])
def test_the_cache_changes_nothing(paths, cache):
    assert_same(load(paths), load(paths, cache=cache))


EVERYTHING = AugmentSettings(pad=2, jitter=JitterSettings(probability=0.5), grayscale=0.3, blur={}, policy={})


@pytest.mark.parametrize("augment", [AUGMENT, EVERYTHING], ids=["usual", "everything"])
def test_workers_change_nothing(paths, augment):
    alone = load(paths, augment=augment)
    assert_same(alone, load(paths, workers=2, augment=augment))
    assert_same(alone, load(paths, cache="memory", augment=augment))
    assert_same(alone[2:], load(paths, first=2, augment=augment))


def test_threads_change_nothing(paths, masks, monkeypatch):
    plain, swapped = load(paths), load_masked(paths, masks, "swap", cache="none")
    monkeypatch.setattr(loading, "has_shared_memory", lambda _: False)
    monkeypatch.setattr(loading, "DataLoader", None)
    assert_same(plain, load(paths, workers=2))
    found = load_masked(paths, masks, "swap", cache="none", workers=2)
    assert_same(swapped, found)
    assert all(torch.equal(a.inputs.mask, b.inputs.mask) for a, b in zip(swapped, found, strict=True))


def test_a_process_that_is_killed_is_told(paths, monkeypatch):
    def killed(*_, **__):
        raise RuntimeError("DataLoader worker (pid 7) is killed by signal: Bus error. It is possible that ...")

    monkeypatch.setattr(loading, "DataLoader", killed)
    with pytest.raises(UserError, match=r"a loader process has ended \(DataLoader worker .*Bus error.*data\.workers=0"):
        load(paths, workers=1)


def test_all_files_are_read_before_a_training_that_keeps_none(paths, tmp_path):
    ImageStore(paths, INPUT, cache="none").require_readable()
    (tmp_path / "cut.jpg").write_bytes(jpeg()[:400])
    store = ImageStore(np.array([*paths, str(tmp_path / "cut.jpg")]), INPUT, cache="none")
    with pytest.raises(UserError, match=r"cut\.jpg is not a readable image"):
        store.require_readable()


def test_a_resumed_epoch_goes_on_where_it_stopped(paths):
    assert_same(load(paths)[2:], load(paths, first=2))
    assert load(paths, first=4) == []


def test_ranks_load_columns_of_the_same_batches(paths):
    whole = load(paths)
    left, right = load(paths, columns=slice(0, 3)), load(paths, columns=slice(3, 6))
    for batch, one, other in zip(whole, left, right, strict=True):
        assert torch.equal(torch.cat([one.inputs.images, other.inputs.images]), batch.inputs.images)
        assert torch.equal(torch.cat([one.index, other.index]), batch.index)


@pytest.mark.parametrize("place", [EpochKey(1, 0, 0), EpochKey(0, 1, 0), EpochKey(0, 0, 1)])
def test_another_place_in_the_run_is_augmented_otherwise(paths, place):
    for batch, other in zip(load(paths), load(paths, place=place), strict=True):
        assert not torch.equal(batch.inputs.images, other.inputs.images)


def test_an_image_that_comes_twice_is_augmented_twice(paths):
    store = ImageStore(paths, INPUT)
    settings = DataSettings(augment=AUGMENT)
    (batch,) = training_batches(
        store, np.zeros((1, 4), int), labels=LABELS, cam=CAM, settings=settings, place=EpochKey(0, 0, 0)
    )
    assert not torch.equal(batch.inputs.images[0], batch.inputs.images[1])


def test_label_views_are_columns(paths):
    labels = np.stack([LABELS, LABELS[::-1]], axis=1)
    for batch in load(paths, labels=labels):
        assert batch.labels.tolist() == labels[batch.index].tolist()


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("size", [5, 12, 50])
def test_plain_batches_keep_the_order(paths, workers, size):
    batches = list(plain_batches(paths, INPUT, size=size, workers=workers))
    assert [len(batch) for batch in batches[:-1]] == [size] * (len(batches) - 1)
    wanted = torch.stack([prepare(decode(path), INPUT) for path in paths])
    assert torch.equal(torch.cat(batches), wanted)


def test_the_store_counts_its_images(paths):
    assert len(ImageStore(paths, INPUT, cache="none")) == 12


@pytest.mark.parametrize("cache", ["memory", "none"])
@pytest.mark.parametrize("workers", [0, 2])
def test_an_unreadable_image_is_told_whoever_loads_it(paths, tmp_path, cache, workers):
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"")
    with pytest.raises(UserError, match=r"broken\.jpg is empty") as caught:
        load(np.array([str(broken)] * 12), cache=cache, workers=workers)
    assert "\n" not in str(caught.value)


def test_paths_may_be_a_list(paths):
    assert len(list(plain_batches([str(Path(path)) for path in paths], INPUT, size=12))) == 1


# ---- masks


@pytest.fixture(scope="module")
def masks(tmp_path_factory):
    folder = tmp_path_factory.mktemp("masks")
    files = []
    for number in range(12):
        mask = np.zeros((40, 20), dtype=np.uint8)
        mask[5 : 20 + number, 4:15] = 255 * (number != 7)  # number 7 shows nobody
        files.append(saved(folder / f"{number}.png", mask, mode="1"))
    return np.array([str(file) for file in files])


PLAIN = AugmentSettings(flip=0, pad=0, erase=None)


def load_masked(paths, masks, use, *, cache="memory", workers=0, augment=AUGMENT, **options):
    store = ImageStore(paths, INPUT, cache=cache, masks=masks)
    settings = DataSettings(workers=workers, augment=augment)
    foreground = ForegroundSettings(use=use, **options)
    return list(
        training_batches(store, PLAN, labels=LABELS, cam=CAM, settings=settings, place=START, foreground=foreground)
    )


def test_masks_come_with_their_images(paths, masks):
    for batch in load_masked(paths, masks, "pool", augment=PLAIN):
        assert batch.inputs.mask.shape == (6, 1, 32, 16)
        assert batch.inputs.mask.dtype == torch.uint8
        for row, mask, image in zip(batch.index.tolist(), batch.inputs.mask, batch.inputs.images, strict=True):
            assert torch.equal(mask, fit_mask(decode_mask(masks[row]), INPUT))
            assert torch.equal(image, prepare(decode(paths[row]), INPUT))


def test_pooling_leaves_the_images_as_they_are(paths, masks):
    assert_same(load_masked(paths, masks, "pool"), load(paths))


def test_removed_backgrounds_have_the_mean_colour(paths, masks):
    colour = mean_colour(INPUT)
    for batch in load_masked(paths, masks, "mask", augment=PLAIN):
        for row, mask, image in zip(batch.index.tolist(), batch.inputs.mask[:, 0], batch.inputs.images, strict=True):
            whole = prepare(decode(paths[row]), INPUT)
            assert torch.equal(image[:, mask == 1], whole[:, mask == 1])
            behind = whole if row == 7 else colour.reshape(3, 1, 1).expand_as(whole)
            assert torch.equal(image[:, mask == 0], behind[:, mask == 0])


def test_swapped_backgrounds_come_from_other_images(paths, masks):
    whole = [prepare(decode(path), INPUT) for path in paths]
    fitted = [fit_mask(decode_mask(mask), INPUT) for mask in masks]
    seen = set()
    for batch in load_masked(paths, masks, "swap", augment=PLAIN, probability=1.0):
        for row, mask, image in zip(batch.index.tolist(), batch.inputs.mask, batch.inputs.images, strict=True):
            assert torch.equal(mask, fitted[row])
            others = [
                other
                for other in range(12)
                if other != row and torch.equal(image, swap_background(whole[row], mask, whole[other], fitted[other]))
            ]
            assert len(others) == 1 or (row == 7 and torch.equal(image, whole[7]))
            seen.update(others)
    assert len(seen) > 5


def test_half_of_the_backgrounds_are_swapped(paths, masks):
    whole = [prepare(decode(path), INPUT) for path in paths]
    batches = load_masked(paths, masks, "swap", augment=PLAIN)
    kept = [
        torch.equal(image, whole[row])
        for batch in batches
        for row, image in zip(batch.index.tolist(), batch.inputs.images, strict=True)
    ]
    assert 0.2 < np.mean(kept) < 0.8


@pytest.mark.parametrize("use", ["mask", "swap", "pool"])
@pytest.mark.parametrize("how", [{"cache": "none"}, {"cache": "auto"}, {"cache": "none", "workers": 2}])
def test_neither_cache_nor_workers_change_masked_batches(paths, masks, use, how):
    wanted, found = load_masked(paths, masks, use), load_masked(paths, masks, use, **how)
    assert_same(wanted, found)
    assert all(torch.equal(a.inputs.mask, b.inputs.mask) for a, b in zip(wanted, found, strict=True))


def test_masked_batches_keep_the_order(paths, masks):
    batches = list(masked_batches(paths, masks, INPUT, size=5))
    assert [len(images) for images, _ in batches] == [5, 5, 2]
    assert torch.equal(
        torch.cat([images for images, _ in batches]), torch.cat(list(plain_batches(paths, INPUT, size=12)))
    )
    assert torch.equal(batches[1][1][0], fit_mask(decode_mask(masks[5]), INPUT))


@pytest.mark.parametrize("cache", ["memory", "none"])
@pytest.mark.parametrize("workers", [0, 2])
def test_a_mask_of_another_size_is_told(paths, masks, tmp_path, cache, workers):
    small = str(saved(tmp_path / "small.png", np.zeros((40, 10), dtype=np.uint8)))
    with pytest.raises(UserError, match=r"small\.png has 10 x 40 pixels, its image .*\.png has 20 x 40") as caught:
        load_masked(paths, np.array([small] * 12), "pool", cache=cache, workers=workers)
    assert "\n" not in str(caught.value)
