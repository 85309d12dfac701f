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
    """The addresses of one image as it was shown: whole, the person alone, the background alone."""

    whole: str
    foreground: str
    background: str


def background_bias_rows(found: BackgroundBias) -> list[tuple[str, RankScores]]:
    """Return the rows of the table with their titles."""
    return [
        ("whole images", found.whole),
        ("the person alone", found.foreground),
        ("the background alone", found.background),
        ("nothing (a random order)", found.chance),
    ]


def background_bias_sentence(found: BackgroundBias) -> str:
    """Return the interpretation of the figures, in plain words."""
    text = (
        f"Shown only the background, the model still finds the right person first for "
        f"{of_hundred(100 * found.background.rank1)} queries (a random order: {of_hundred(100 * found.chance.rank1)})"
    )
    gained, possible = found.background.mAP - found.chance.mAP, found.whole.mAP - found.chance.mAP
    if found.whole.hardly_above(found.chance):
        return f"{text}; but on whole images, too, it is hardly better than a random order."
    if gained >= 0.5 * possible:
        return f"{text}: it has learnt places, not people."
    if gained >= 0.15 * possible:
        return f"{text}: in part it knows people by the places where they stand."
    return f"{text}: it looks at people, not at places."


def triples(found: BackgroundBias, inputs: InputSettings) -> list[Triple]:
    """Return the examples as the model was shown them; those whose files are gone are left out."""
    return [triple for example in found.examples if (triple := _triple(example, inputs)) is not None]


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
