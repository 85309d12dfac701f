"""What a worker does with a block of images: it holds the model, and writes the part."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from passerby.device import InferenceSettings
from passerby.encoders import Model, load_model, model_stamp
from passerby.encoders.embedding import readable_vectors
from passerby.engines import choose_engine
from passerby.errors import UserError
from passerby.scale.blocks import BlockResult, ImageBlock
from passerby.types.parts import write_part


@dataclass(frozen=True)
class WorkerSettings:
    """Settings of all workers of a job.

    Attributes:
        model: where the model lies, on every node.
        stamp: of the model, see `model_stamp`.
        input_text: `key=value` of an ONNX file of another program.
        inference: how it is run; its `notify` is not used.
        folder: where the parts are written, on every node.
        strict: whether an image that cannot be read ends the job.

    """

    model: Path
    stamp: str
    input_text: tuple[str, ...]
    inference: InferenceSettings
    folder: Path
    strict: bool


class BlockWorker:
    """An actor that embeds blocks of images; the model is loaded with the first one.

    A fault of the user is a value and no exception, so that it is not taken for a failure of the worker.
    """

    def __init__(self, settings: WorkerSettings) -> None:
        self.settings = settings
        self.notes: list[str] = []
        self.model: Model | None = None

    def embed(self, block: ImageBlock) -> BlockResult:
        """Embed the images of a block and write its part."""
        self.notes.clear()
        fault = ""
        try:
            self._write(block)
        except UserError as error:
            fault = str(error)
        return BlockResult(socket.gethostname(), tuple(self.notes), fault)

    def _write(self, block: ImageBlock) -> None:
        model, images = self._loaded(), block.images
        _require_images(images.path.tolist())
        left_out: list[str] = []
        vectors, rows = readable_vectors(
            model, images.path, images.cam_row, leave_out=None if self.settings.strict else left_out.append
        )
        table = images.table(vectors, rows, feature=model.feature, flip=model.flip)
        write_part(self.settings.folder / block.name, table, left_out)

    def _loaded(self) -> Model:
        if self.model is None:
            settings = self.settings
            _require_model(settings)
            inference = replace(settings.inference, notify=self.notes.append)
            self.model = choose_engine(load_model(settings.model, settings.input_text, inference=inference))
        return self.model


def _require_model(settings: WorkerSettings) -> None:
    """Refuse a model that is not there, or is another one than that of the program that gave the job."""
    stamp = ""
    with contextlib.suppress(UserError):
        stamp = model_stamp(settings.model)
    if stamp != settings.stamp:
        problem = "is another model" if stamp else "is not there"
        raise UserError(
            f"{settings.model} {problem} on node {socket.gethostname()}; put the model on storage that all nodes see "
            "at the same path"
        )


def _require_images(paths: Sequence[str]) -> None:
    """Refuse a block of which no image is there: the node does not see the storage."""
    if not any(Path(path).exists() for path in paths):
        raise UserError(
            f"{paths[0]} is not there on node {socket.gethostname()}, nor are the {len(paths) - 1} after it; put "
            "images on storage that all nodes see at the same path"
        )
