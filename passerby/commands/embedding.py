"""Functions behind `passerby embed`, and the model that a command is given."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from rich.console import Console

from passerby.adaptation.folder import folder_settings
from passerby.console import bar, with_notes
from passerby.data.datasets import open_dataset
from passerby.data.image_files import listing_notes
from passerby.data.repeated import repeated_note
from passerby.device import InferenceSettings
from passerby.encoders import (
    UNGIVEN,
    GivenCamera,
    Model,
    embed_dataset,
    embed_images,
    load_model,
    select_dataset,
)
from passerby.encoders.listing import list_dataset, list_images
from passerby.engines import choose_engine
from passerby.errors import UserError
from passerby.types import Dataset, Embeddings, SplitName
from passerby.types.listed import ListedImages


def open_model(path: Path, input_text: Sequence[str], console: Console, *, inference: InferenceSettings) -> Model:
    """Load a run folder, an embedder.safetensors or an ONNX file, and print assumptions about its input.

    The model is run by the engine of the inference settings, and a choice of `auto` is printed.
    """
    inference = with_notes(inference, console)
    model = choose_engine(load_model(path, input_text, inference=inference), say=inference.notify)
    for note in model.notes:
        console.print(note, highlight=False, markup=False, soft_wrap=True)
    return model


@dataclass(frozen=True)
class ImageSelection:
    """The images that a command embeds: images and folders of images, or splits of a data set.

    Attributes:
        places: images and folders; none = a data set.
        on: name of the data set in the recipe, or its kind.
        data: its folder.
        pattern: template of the file names below the one folder, or below that of the data set.
        splits: of the data set; none = query and gallery, or all images of one folder with a pattern.
        camera: that of the images, for a model that uses cameras.

    """

    places: Sequence[Path] = ()
    on: str | None = None
    data: str | None = None
    pattern: str | None = None
    splits: Sequence[SplitName] = ()
    camera: GivenCamera = UNGIVEN

    def __str__(self) -> str:
        """The images in one line."""
        return ", ".join(map(str, self.places)) if self.places else f"data set {self.on or self.data}"


def embed_places(
    model: Model, selection: ImageSelection, *, leave_out: Callable[[str], None] | None = None, console: Console
) -> Embeddings:
    """Embed images and folders of images, or splits of a data set.

    Args:
        model: makes the vectors.
        selection: the images.
        leave_out: called with a sentence for each loose image that cannot be read; None = it is refused.
        console: where notes and progress go.

    Raises:
        UserError: a selection that names nothing, or options that exclude each other.

    """
    say = partial(console.print, highlight=False, markup=False, soft_wrap=True)
    places, camera, dataset = selection.places, selection.camera, _dataset_of(model, selection)
    if dataset is not None:
        _print_notes(dataset.notes, console)
    with bar("embedding", console) as advance:
        if dataset is not None:
            return embed_dataset(
                model,
                dataset,
                splits=_splits(selection),
                cameras_of=camera.dataset,
                progress=advance,
                leave_out=leave_out if places else None,
                say=say,
            )
        with listing_notes() as listed:
            table = embed_images(model, places, camera=camera, progress=advance, leave_out=leave_out, say=say)
        assert table.path is not None
        _print_notes((*listed.sentences, *repeated_note(table.path.tolist())), console)
        return table


def list_places(model: Model, selection: ImageSelection, *, console: Console) -> ListedImages:
    """Return the images that `embed_places` embeds."""
    say = partial(console.print, highlight=False, markup=False, soft_wrap=True)
    camera, dataset = selection.camera, _dataset_of(model, selection)
    if dataset is not None:
        _print_notes(dataset.notes, console)
        return list_dataset(model, dataset, splits=_splits(selection), cameras_of=camera.dataset, say=say)
    with listing_notes() as listed:
        images = list_images(model, selection.places, camera=camera, say=say)
    _print_notes((*listed.sentences, *repeated_note(images.path.tolist())), console)
    return images


def _dataset_of(model: Model, selection: ImageSelection) -> Dataset | None:
    """Return the data set that is to be embedded, or None where loose images are."""
    places, on, data, pattern = selection.places, selection.on, selection.data, selection.pattern
    if places and (on or data):
        raise UserError("give either images and folders, or a data set by --on or --data, not both")
    if selection.splits and not (on or data):
        raise UserError("--split chooses splits of a data set; give it by --on or --data")
    if selection.camera.number is not None and not places:
        raise UserError("--camera is that of loose images; a data set has cameras of its own (see --cameras-of)")
    if places:
        return None if pattern is None else open_dataset(folder_settings(_one_folder(places), pattern=pattern))
    if not (on or data):
        raise UserError("nothing to embed; give images, folders, or a data set by --on or --data")
    return select_dataset(model.recipe, on=on, data=data, pattern=pattern)


def _splits(selection: ImageSelection) -> Sequence[SplitName]:
    """Return the splits to embed: all of a folder with a pattern, else the given ones, or query and gallery."""
    return ("train", "query", "gallery") if selection.places else selection.splits or ("query", "gallery")


def _print_notes(notes: Sequence[str], console: Console) -> None:
    for note in notes:
        console.print(note, highlight=False, markup=False, soft_wrap=True)


def _one_folder(places: Sequence[Path]) -> Path:
    if len(places) > 1:
        raise UserError(f"--pattern applies to one folder; embed {places[0]} and {places[1]} in separate calls")
    return places[0]
