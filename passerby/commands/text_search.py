"""Functions behind `passerby search --text`: a description instead of an image."""

from __future__ import annotations

from pathlib import Path

import torch

from passerby.commands.searching import Answer, SearchOptions
from passerby.device import InferenceSettings
from passerby.encoders import load_trained
from passerby.encoders.loading import GRAPHS
from passerby.errors import UserError
from passerby.models.clip_text import ClipTextTower
from passerby.models.clip_text_file import load_text_tower, read_text_tower
from passerby.models.clip_tokens import tokenise
from passerby.retrieval import require_threshold, search_projected
from passerby.types import Embeddings, Floats


def require_one_query(image: Path | None, text: str | None, *, tower: Path | None, picture: Path | None) -> None:
    """Raise `UserError` unless there is either an image or a text, a text tower for a text and a picture for an image.

    Args:
        image: the image or folder to search for.
        text: the description.
        tower: file of a text tower.
        picture: file of the picture of the results.

    """
    if (image is None) == (text is None):
        given = "nothing to search for" if image is None else "an image and --text are two queries"
        raise UserError(f"{given}; give either an image, a folder of images, or --text")
    if tower is not None and text is None:
        raise UserError("--text-tower encodes a description and has no effect on an image; add --text")
    if picture is not None and text is not None:
        raise UserError("--picture begins with the image that is searched for, and --text has none; leave it out")


def search_text(
    run: Path,
    table: Embeddings,
    text: str,
    options: SearchOptions,
    *,
    tower: Path | None,
    inference: InferenceSettings,
) -> Answer:
    """Search for a description.

    Args:
        run: the run or model file that made the table.
        table: where to look.
        text: the description.
        options: of which count and threshold are for texts too.
        tower: file of the CLIP whose text tower is used; None = that in the model file.
        inference: on which device the model runs.

    Raises:
        UserError: a model without a text tower or a projection, vectors of another kind or model, or an option that is
            for images.

    """
    _require_text_options(options)
    if run.suffix.lower() in GRAPHS:
        raise UserError(f"{run} is a graph without a text tower; search by --text with a run or a .safetensors model")
    model = load_trained(run, inference=inference)
    encoder = load_text_tower(model.source) if tower is None else read_text_tower(tower)
    if encoder is None:
        raise UserError(
            f"{model.source} holds no text tower; name the file of the CLIP that the model is of with --text-tower"
        )
    (hits,) = search_projected(
        model, table, text_vectors(encoder, [text]), count=options.count, threshold=options.threshold
    )
    return Answer(text, None, tuple(hits))


def text_vectors(tower: ClipTextTower, texts: list[str]) -> Floats:
    """Return the vectors (Q, E) float32 of texts, not normalised.

    Raises:
        UserError: a text that cannot be encoded, or a tower without a table of tokens.

    """
    tokens = tokenise(texts, context=tower.settings.context)
    if int(tokens.max()) >= tower.settings.vocabulary:
        raise UserError(
            f"the text tower has vectors of {tower.settings.vocabulary} tokens, and the text has token "
            f"{int(tokens.max())}; name a file of CLIP as OpenAI or open_clip publish it with --text-tower"
        )
    with torch.inference_mode():
        vectors: Floats = tower(tokens).numpy()
    return vectors


def _require_text_options(options: SearchOptions) -> None:
    require_threshold(options.threshold)
    for_images = {
        "--accept": options.accept is not None,
        "--camera-norm": options.camera_norm != "none",
        "--other-cameras": options.cameras != "all",
        "--camera": options.camera is not None,
        "--cameras-of": options.cameras_of is not None,
        "--pattern": options.pattern is not None,
    }
    if unused := [name for name, is_given in for_images.items() if is_given]:
        raise UserError(f"{unused[0]} is for images that are searched for, and has no effect on --text; leave it out")
