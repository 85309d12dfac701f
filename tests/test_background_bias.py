"""Background bias of models that are known to look at one thing only."""

import itertools

import numpy as np
import pytest
from PIL import Image

from passerby.background_bias import BackgroundBias, chance_of, measure_background_bias
from passerby.data.decoding import decode
from passerby.data.foreground import decode_mask
from passerby.errors import UserError
from passerby.evaluation import evaluate
from passerby.inference.embed import WHOLE, View
from passerby.inference.tested import label_vectors
from passerby.metrics.chance import RankScores, expected_ap
from passerby.report.background_bias import background_bias_sentence
from passerby.types import Dataset, Split

PEOPLE = 6


@pytest.fixture(scope="module")
def places(tmp_path_factory) -> Dataset:
    """Everybody has a place of their own and clothes of their own; one query and two gallery images of each."""
    folder = tmp_path_factory.mktemp("places")
    person = np.zeros((32, 16), dtype=bool)
    person[4:28, 4:12] = True
    Image.fromarray(person).save(folder / "mask.png")
    rows = []
    for pid, number in itertools.product(range(PEOPLE), range(3)):
        pixels = np.full((32, 16, 3), 40 * pid, dtype=np.uint8)
        pixels[person] = 250 - 40 * pid
        Image.fromarray(pixels).save(folder / f"{pid}_{number}.png")
        rows.append((f"{folder}/{pid}_{number}.png", pid, number))

    def split(wanted):
        path, pid, cam = zip(*(row for row in rows if (row[2] == 0) == wanted), strict=True)
        return Split(
            np.array(path), np.array(pid), np.array(cam), mask_path=np.array([f"{folder}/mask.png"] * len(pid))
        )

    return Dataset("places", Split.empty(), split(True), split(False))


def both(dataset):
    """Yield the images of query and gallery with their masks."""
    for split in (dataset.query, dataset.gallery):
        yield from zip(split.path, split.path if split.mask_path is None else split.mask_path, strict=True)


def looking_at(part, dataset, view):
    """Embed by the mean colour of the background or of the person, as if by a network."""
    vectors = []
    for path, file in both(dataset):
        pixels, mask = decode(path).astype(float), decode_mask(file).astype(bool)
        if view.visible != "whole":
            pixels[~mask if view.visible == "foreground" else mask] = 116
        seen = pixels[mask if part == "person" else ~mask].mean()
        vectors.append([np.cos(seen / 100), np.sin(seen / 100)])
    return label_vectors(np.array(vectors, dtype=np.float32), dataset, feature="after_neck", input_mask=view.input_mask)


def measured(part, dataset, tested=WHOLE):
    return measure_background_bias(
        dataset,
        looking_at(part, dataset, tested),
        embed=lambda view: looking_at(part, dataset, view),
        score=evaluate,
        cameras="standard",
    )


def test_a_model_that_looks_at_places_only(places):
    found = measured("place", places)
    assert found.whole.mAP == found.background.mAP == 1
    assert found.kept_by_background == 1
    assert found.foreground.mAP < 0.5
    assert found.lost_without_background > 0.5


def test_a_model_that_looks_at_people_only(places):
    found = measured("person", places)
    assert found.whole == found.foreground == RankScores(1, 1)
    assert found.lost_without_background == 0
    assert found.background.mAP < 0.5


def test_what_was_tested_already_is_not_embedded_again(places):
    asked = []

    def embed(view):
        asked.append(view.input_mask)
        return looking_at("place", places, view)

    for tested in (WHOLE, View(None, "foreground"), View(None, "whole", "weighted")):
        measure_background_bias(
            places, looking_at("place", places, tested), embed=embed, score=evaluate, cameras="standard"
        )
    assert asked == ["foreground", "background", "none", "background", "foreground", "background"]


@pytest.mark.parametrize(
    ("whole", "sentence"),
    [
        ((0.30, 0.32), "the features describe persons, not backgrounds"),
        ((0.33, 0.10), "the features describe persons, not backgrounds"),
        ((0.20, 0.10), "but whole images, too, are hardly better than a random order"),
    ],
)
def test_a_ranking_is_no_better_than_chance_only_where_both_figures_say_so(whole, sentence):
    chance = RankScores(0.16, 0.08)
    assert sentence in background_bias_sentence(BackgroundBias(RankScores(*whole), RankScores(*whole), chance, chance))


def test_two_people_serve_as_examples(places):
    examples = measured("place", places).examples
    assert [example.image.rpartition("/")[2] for example in examples] == ["0_0.png", "1_0.png"]


def test_it_survives_json(places):
    found = measured("person", places)
    again = BackgroundBias.from_json(found.to_json())
    assert again.examples == found.examples
    assert again.background.mAP == pytest.approx(found.background.mAP)
    for broken in ({}, {**found.to_json(), "examples": 3}, {**found.to_json(), "whole": 3}):
        with pytest.raises((KeyError, TypeError)):
            BackgroundBias.from_json(broken)


def test_images_without_masks_are_told(places):
    query = places.query
    bare = Dataset("bare", places.train, Split(query.path, query.pid, query.cam), places.gallery)
    with pytest.raises(UserError, match=r"a mask is missing for 6 of 18 test images of bare \(first: .*0_0\.png\)"):
        measured("place", bare)


@pytest.mark.parametrize(("matches", "kept"), [(1, 1), (1, 4), (2, 5), (3, 6), (4, 4)])
def test_a_random_order_is_the_mean_over_all_orders(matches, kept):
    found = [
        np.mean([(number + 1) / rank for number, rank in enumerate(hits)])
        for hits in itertools.combinations(range(1, kept + 1), matches)
    ]
    assert expected_ap(np.array([matches]), np.array([kept]))[0] == pytest.approx(np.mean(found))


def test_chance_follows_the_rule_of_the_cameras(places):
    chance = chance_of(places, cameras="standard")
    assert chance.rank1 == pytest.approx(2 / 12)
    assert chance.mAP == pytest.approx(float(expected_ap(np.array([2]), np.array([12]))[0]))
