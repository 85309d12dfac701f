"""Augmentation: each image from a seed of its own."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from torchvision.transforms import v2

from passerby.data.transforms import (
    AugmentSettings,
    BlurSettings,
    EraseSettings,
    JitterSettings,
    PolicySettings,
    augment,
    augment_with_mask,
    mix_seeds,
    seeded,
    training_transform,
)
from passerby.inputs import InputSettings

INPUT = InputSettings(size=(32, 16))
EVERYTHING = AugmentSettings(jitter=JitterSettings(hue=0.1, saturation=0.1), pad=4)
NOTHING = AugmentSettings(flip=0, pad=0, erase=None)


def image(seed=0):
    return torch.randint(256, (3, 32, 16), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)


def test_seeded_puts_the_generator_back():
    torch.manual_seed(5)
    wanted = torch.rand(3)
    torch.manual_seed(5)
    with seeded(1):
        inner = torch.rand(3)
    assert torch.equal(torch.rand(3), wanted)
    torch.manual_seed(1)
    assert torch.equal(torch.rand(3), inner)
    torch.manual_seed(5)
    with pytest.raises(ValueError, match="high"), seeded(1):
        augment(lambda _: torch.tensor(int("high")), image(), seed=0)
    assert torch.equal(torch.rand(3), wanted)


def test_an_image_depends_on_its_seed_and_on_nothing_else():
    transform = training_transform(EVERYTHING, INPUT)
    torch.manual_seed(0)
    first = augment(transform, image(), seed=3)
    torch.manual_seed(1)
    assert torch.equal(augment(transform, image(), seed=3), first)
    others = [augment(transform, image(), seed=seed) for seed in range(4, 12)]
    assert not any(torch.equal(other, first) for other in others)
    assert all(other.shape == (3, 32, 16) and other.dtype == torch.uint8 for other in others)


def test_nothing_is_a_choice():
    assert torch.equal(augment(training_transform(NOTHING, INPUT), image(), seed=0), image())


def test_the_source_image_is_left_alone():
    source = image()
    transform = training_transform(AugmentSettings(erase=EraseSettings(probability=1)), INPUT)
    for seed in range(5):
        augment(transform, source, seed=seed)
    assert torch.equal(source, image())


def test_a_flip_mirrors():
    flipped = augment(training_transform(NOTHING.model_copy(update={"flip": 1.0}), INPUT), image(), seed=0)
    assert torch.equal(flipped, image().flip(2))


def test_erasing_fills_with_the_mean_colour():
    erase = EraseSettings(probability=1, area=(0.2, 0.4))
    inputs = InputSettings(size=(32, 16), mean=(0.1, 0.5, 0.9))
    source = torch.zeros(3, 32, 16, dtype=torch.uint8)
    erased = augment(training_transform(NOTHING.model_copy(update={"erase": erase}), inputs), source, seed=0)
    hole = (erased != 0).any(0)
    assert 0.15 < hole.float().mean() < 0.45
    assert erased[:, hole].unique(dim=1).flatten().tolist() == [26, 128, 230]


def test_padding_is_black():
    padded = augment(
        training_transform(NOTHING.model_copy(update={"pad": 8}), INPUT), torch.full_like(image(), 9), seed=1
    )
    assert set(padded.unique().tolist()) == {0, 9}


COLOURED = {
    "auto": {"policy": {"kind": "auto"}},
    "rand": {"policy": {"kind": "rand", "operations": 3, "magnitude": 12}},
    "trivial": {"policy": {"kind": "trivial", "probability": 0.7}},
    "jitter": {"jitter": {"probability": 0.8, "hue": 0.3}},
    "grayscale": {"grayscale": 0.9},
    "blur": {"blur": {"probability": 0.9, "sigma": (1.0, 10.0)}},
}


@pytest.mark.parametrize("name", COLOURED)
def test_further_augmentations_depend_on_the_seed_only(name):
    transform = training_transform(AugmentSettings(flip=0, pad=0, erase=None, **COLOURED[name]), INPUT)
    found = [augment(transform, image(), seed=seed) for seed in range(20)]
    torch.manual_seed(99)
    assert all(torch.equal(augment(transform, image(), seed=seed), found[seed]) for seed in range(20))
    assert all(other.shape == (3, 32, 16) and other.dtype == torch.uint8 for other in found)
    assert 10 <= sum(not torch.equal(other, image()) for other in found) <= 20


@pytest.mark.parametrize("name", COLOURED)
def test_further_augmentations_are_off_by_default_and_with_probability_0(name):
    settings = AugmentSettings(flip=0, pad=0, erase=None, **COLOURED[name])
    (key,) = COLOURED[name]
    off = settings.model_copy(update={key: 0.0})
    if key != "grayscale":
        off = settings.model_copy(update={key: getattr(settings, key).model_copy(update={"probability": 0.0})})
    for seed in range(5):
        assert torch.equal(augment(training_transform(off, INPUT), image(), seed=seed), image())
    assert not getattr(AugmentSettings(), key)


def test_a_picture_without_colours_is_grey():
    found = augment(training_transform(NOTHING.model_copy(update={"grayscale": 1.0}), INPUT), image(), seed=0)
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[1], found[2])


def test_probability_1_draws_no_number():
    always = training_transform(EVERYTHING, INPUT)
    assert not any(isinstance(step, v2.RandomApply) for step in always.transforms)


@pytest.mark.parametrize(
    ("kind", "values", "told"),
    [
        (PolicySettings, {"kind": "auto", "magnitude": 5}, "magnitude has no effect with kind: auto"),
        (BlurSettings, {"sigma": (2.0, 1.0)}, r"sigma must rise, got 2\.0 and 1\.0"),
    ],
)
def test_augmentations_without_sense_are_refused(kind, values, told):
    with pytest.raises(ValidationError, match=told):
        kind(**values)


@given(st.lists(st.integers(-(2**63), 2**64), min_size=1, max_size=5), st.integers(0, 4))
def test_seeds_are_in_range_and_all_parts_count(parts, place):
    seed = mix_seeds(*parts)
    assert 0 <= seed < 2**63
    assert seed == mix_seeds(*parts)
    changed = list(parts)
    changed[place % len(parts)] ^= 1
    assert mix_seeds(*changed) != seed
    torch.manual_seed(seed)


def test_neighbouring_places_do_not_collide():
    seeds = {mix_seeds(0, s, e, b, i) for s in range(3) for e in range(10) for b in range(10) for i in range(10)}
    assert len(seeds) == 3000


def test_an_area_must_rise():
    with pytest.raises(ValidationError, match=r"area must rise, got 0\.5 and 0\.1"):
        EraseSettings(area=(0.5, 0.1))


def test_an_image_and_its_mask_move_together():
    transform = training_transform(EVERYTHING.model_copy(update={"jitter": None}), INPUT)
    moved = 0
    for seed in range(20):
        mask = (image(seed)[:1] > 128).to(torch.uint8)
        pictured = 200 * mask.expand(3, -1, -1)
        found, found_mask = augment_with_mask(transform, pictured, mask, seed=seed)
        assert type(found_mask) is torch.Tensor
        assert found_mask.shape == mask.shape
        shown = found[0] == 200 * found_mask[0]
        erased = found[0] == round(255 * INPUT.mean[0])
        assert (shown | erased).all()
        moved += not torch.equal(found_mask, mask)
    assert moved > 15


def test_a_mask_changes_nothing_about_its_image():
    transform = training_transform(
        EVERYTHING.model_copy(update={"grayscale": 0.5, "blur": BlurSettings(sigma=(0.5, 1.0))}), INPUT
    )
    for seed in range(10):
        wanted = augment(transform, image(seed), seed=seed)
        found, _ = augment_with_mask(transform, image(seed), torch.ones(1, 32, 16, dtype=torch.uint8), seed=seed)
        assert torch.equal(found, wanted)
