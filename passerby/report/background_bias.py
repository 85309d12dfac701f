"""Background bias in the report: table, sentence, example images."""

from __future__ import annotations

import io
from dataclasses import dataclass

from PIL import Image
from torch import Tensor

from passerby.background_bias import BackgroundBias, Example
from passerby.data.decoding import decode
from passerby.data.foreground import decode_mask, dilate_mask, fill_masked, fit_mask, mean_colour
from passerby.data.loading import prepare
from passerby.errors import UserError
from passerby.inputs import InputSettings
from passerby.metrics.chance import RankScores
from passerby.report.explanations import of_hundred
from passerby.report.palette import data_uri

_SCALE = 2  # small inputs are drawn larger, their pixels to be seen


@dataclass(frozen=True)
class Triple:
    """The addresses of the views of one image: whole, the person alone, the background alone."""

    whole: str
    foreground: str
    background: str


def background_bias_rows(bias: BackgroundBias) -> list[tuple[str, RankScores]]:
    """Return the rows of the table with their titles."""
    return [
        ("whole images", bias.whole),
        ("the person alone", bias.foreground),
        ("the background alone", bias.background),
        ("nothing (a random order)", bias.chance),
    ]


def background_bias_sentence(bias: BackgroundBias) -> str:
    """Return the interpretation of the figures, in plain words."""
    text = (
        f"With the background alone, the first image found shows the right person for "
        f"{of_hundred(100 * bias.background.rank1)} queries (a random order: {of_hundred(100 * bias.chance.rank1)})"
    )
    gained, possible = bias.background.mAP - bias.chance.mAP, bias.whole.mAP - bias.chance.mAP
    if bias.whole.hardly_above(bias.chance):
        return f"{text}; but whole images, too, are hardly better than a random order."
    if gained >= 0.5 * possible:
        return f"{text}: the features describe backgrounds more than persons."
    if gained >= 0.15 * possible:
        return f"{text}: the features describe the background in part."
    return f"{text}: the features describe persons, not backgrounds."


def triples(bias: BackgroundBias, inputs: InputSettings) -> list[Triple]:
    """Return the examples as inputs of the model; those with missing files are left out."""
    return [triple for example in bias.examples if (triple := _triple(example, inputs)) is not None]


def _triple(example: Example, inputs: InputSettings) -> Triple | None:
    try:
        image = prepare(decode(example.image), inputs.model_copy(update={"colour": "rgb"}))
        mask = fit_mask(decode_mask(example.mask), inputs)
    except UserError:
        return None
    colour = mean_colour(inputs)
    if inputs.colour == "bgr":
        colour = colour.flip(0)
    return Triple(
        _inline(image),
        _inline(fill_masked(image, mask == 0, colour)),
        _inline(fill_masked(image, dilate_mask(mask), colour)),
    )


def _inline(image: Tensor) -> str:
    pixels = Image.fromarray(image.permute(1, 2, 0).numpy())
    if pixels.height < 200:
        pixels = pixels.resize((_SCALE * pixels.width, _SCALE * pixels.height), Image.Resampling.NEAREST)
    buffer = io.BytesIO()
    pixels.save(buffer, "JPEG", quality=85, optimize=True)
    return data_uri(buffer.getvalue(), kind="jpeg")
