"""Background bias: the same test on whole images, on the person alone, and on the background alone.

In background-only images the person is covered with the mean colour, slightly beyond the edge of the mask, so that no
colour of the clothes remains; the outline remains, and objects outside the mask, often bags. The scores are therefore
upper bounds, to be compared with the chance level.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from passerby.data.datasets import without_mask
from passerby.data.foreground import decode_mask
from passerby.errors import UserError
from passerby.inference.embed import WHOLE, View
from passerby.metrics.chance import RankScores, chance_level
from passerby.metrics.relevance import relevance
from passerby.types import UNKNOWN, Cameras, Dataset, Embeddings, Scores

Shown = Literal["whole", "foreground", "background"]
SHOWN: tuple[Shown, ...] = ("whole", "foreground", "background")

_COUNT_EXAMPLES = 2
_VISIBLE = 0.1  # share of its image that a person must cover to serve as an example


@dataclass(frozen=True)
class Example:
    """The files of an image and of its mask."""

    image: str
    mask: str


@dataclass(frozen=True)
class BackgroundBias:
    """Scores of one test set for whole images, the person alone and the background alone.

    Attributes:
        whole, foreground, background: scores of whole images, of the person alone, of the background alone.
        chance: chance level, the mean scores of a random order.
        examples: images for reports.

    """

    whole: RankScores
    foreground: RankScores
    background: RankScores
    chance: RankScores
    examples: tuple[Example, ...] = ()

    @property
    def kept_by_background(self) -> float:
        """Background-only mAP as a share of the mAP on whole images: the background-bias score."""
        return self.background.mAP / self.whole.mAP

    @property
    def lost_without_background(self) -> float:
        """Share of the mAP on whole images that is lost without the background; negative where the mAP rises."""
        return 1 - self.foreground.mAP / self.whole.mAP

    def to_json(self) -> dict[str, object]:
        """Return plain JSON values, rates in percent (0..100)."""
        rows = {name: getattr(self, name) for name in (*SHOWN, "chance")}
        return {
            **{name: {"mAP": 100 * row.mAP, "rank1": 100 * row.rank1} for name, row in rows.items()},
            "kept_by_background": 100 * self.kept_by_background,
            "lost_without_background": 100 * self.lost_without_background,
            "examples": [{"image": example.image, "mask": example.mask} for example in self.examples],
        }

    @classmethod
    def from_json(cls, entry: Mapping[str, object]) -> BackgroundBias:
        """Restore an object from the values of `to_json`.

        Raises:
            KeyError, TypeError, ValueError: missing or invalid values.

        """
        whole, foreground, background, chance = (_figures(entry[name]) for name in (*SHOWN, "chance"))
        examples = entry["examples"]
        if not isinstance(examples, list):
            raise TypeError(f"expected a list, got {type(examples).__name__}")
        parsed = tuple(Example(str(example["image"]), str(example["mask"])) for example in examples)
        return cls(whole, foreground, background, chance, parsed)


def _figures(value: object) -> RankScores:
    if not isinstance(value, dict):
        raise TypeError(f"expected an object, got {type(value).__name__}")
    return RankScores(float(value["mAP"]) / 100, float(value["rank1"]) / 100)


def measure_background_bias(
    dataset: Dataset,
    tested: Embeddings,
    *,
    embed: Callable[[View], Embeddings],
    score: Callable[[Embeddings], Scores],
    cameras: Cameras,
) -> BackgroundBias:
    """Test a model on whole images, on the person alone and on the background alone.

    Args:
        dataset: the test set.
        tested: its embeddings as the recipe tests them, which are reused; where pooling is weighted by the mask, that
            of the other views is too.
        embed: embeds query and gallery in another view.
        score: scores embeddings.
        cameras: the camera rule of the test, for the chance level.

    Raises:
        UserError: a test image has no mask.

    """
    bare, count = without_mask((dataset.query, dataset.gallery))
    if bare:
        raise UserError(
            f"a mask is missing for {len(bare):,} of {count:,} test images of {dataset.name} (first: {bare[0]}), and "
            "background bias needs all of them; `passerby segment apply` makes masks"
        )
    masks = np.concatenate([dataset.query.masks, dataset.gallery.masks])
    pooling: Literal["plain", "weighted"] = "weighted" if tested.input_mask == "weighted" else "plain"
    views = {name: View(masks, name, pooling) for name in SHOWN}
    if pooling == "plain":
        views["whole"] = WHOLE
    scores = {
        name: _row(score(tested if view.input_mask == tested.input_mask else embed(view)))
        for name, view in views.items()
    }
    return BackgroundBias(**scores, chance=chance_of(dataset, cameras=cameras), examples=_examples(dataset))


def chance_of(dataset: Dataset, *, cameras: Cameras) -> RankScores:
    """Return the chance level: the mean scores over all orders of the gallery."""
    gallery = dataset.gallery.select(dataset.gallery.pid != UNKNOWN)
    return chance_level(relevance(dataset.query, gallery, cameras=cameras))


def _row(scores: Scores) -> RankScores:
    return RankScores(scores.mAP, scores.rank(1))


def _examples(dataset: Dataset) -> tuple[Example, ...]:
    """Choose queries of different identities with a large mask."""
    examples: dict[int, Example] = {}
    query = dataset.query
    for path, mask, pid in zip(query.path.tolist(), query.masks.tolist(), query.pid.tolist(), strict=True):
        if pid not in examples and decode_mask(mask).mean() >= _VISIBLE:
            examples[pid] = Example(path, mask)
        if len(examples) == _COUNT_EXAMPLES:
            break
    return tuple(examples.values())
