"""Functions behind `--ray`: the work of a command over the workers of a Ray cluster."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal

from rich.console import Console

from passerby.commands.embedding import ImageSelection, list_places, open_model
from passerby.console import bar
from passerby.device import InferenceSettings
from passerby.encoders import Model, Trained, model_stamp
from passerby.errors import UserError
from passerby.scale.blocks import Workers
from passerby.scale.embedding import embed_parts, uses_gpus
from passerby.scale.neighbours import neighbours_over
from passerby.scale.search import galleries_over
from passerby.scale.session import ray_session, require_cluster
from passerby.scale.worker import BlockWorker, WorkerSettings
from passerby.types import Embeddings
from passerby.types.parts import count_parts, require_pyarrow

PARTS = ".parts"
"""Ending of the folder in which the parts of a file lie until it is complete."""


@dataclass(frozen=True)
class EmbeddedTable:
    """The table that was written.

    Attributes:
        count, dimension: (N, D) of its vectors.
        left_out: a sentence for each image that could not be read.

    """

    count: int
    dimension: int
    left_out: Sequence[str]


def embed_on_ray(
    path: Path,
    selection: ImageSelection,
    *,
    address: str,
    out: Path,
    inference: InferenceSettings,
    input_text: Sequence[str] = (),
    strict: bool = False,
    console: Console,
) -> EmbeddedTable:
    """Embed images and folders, or splits of a data set, over the workers of a Ray cluster.

    Args:
        path: the model, at the same place on every node.
        selection: the images.
        address: of the cluster, see `ray_session`.
        out: an .npz, or a folder of Parquet parts.
        inference: of the workers; the engine `auto` is torch, so that all parts are made alike.
        input_text: `key=value` of an ONNX file of another program.
        strict: whether an image that cannot be read ends the job.
        console: where notes and progress go.

    Raises:
        UserError: bad input, or a failure of the cluster; parts that are written stay.

    """
    require_pyarrow()
    require_cluster(address)
    if inference.device.startswith("cuda:"):
        raise UserError(f"--device {inference.device}: Ray gives each worker a GPU of its own; use auto, cuda or cpu")
    if inference.precision == "int8":
        raise UserError("--precision int8 takes ranges from the images of one process; with --ray use float32 or bf16")
    joined = out.suffix.lower() == ".npz"
    folder = (out.with_name(out.name + PARTS) if joined else out).absolute()
    inference = replace(inference, engine="torch" if inference.engine == "auto" else inference.engine)
    model = open_model(
        path, input_text, console, inference=replace(inference, device="cpu", precision="float32", engine="torch")
    )
    say = partial(console.print, highlight=False, markup=False, soft_wrap=True)
    images = list_places(model, selection, console=console)
    with ray_session(address) as ray, bar("embedding", console) as advance:
        device: Literal["cpu", "cuda"] = "cuda" if uses_gpus(ray, inference.device) else "cpu"
        settings = WorkerSettings(
            path.absolute(),
            model_stamp(path),
            tuple(input_text),
            replace(inference, device=device, notify=_drop),
            folder,
            strict or not selection.places,
        )
        stamps = _stamps(model, settings, images=str(selection), dataset=images.dataset)
        workers = Workers(BlockWorker, settings, folder, device)
        embed_parts(ray, images, workers, stamps, progress=advance, notify=say)
    table = EmbeddedTable(*count_parts(folder))
    if not table.count:
        raise UserError(f"none of {len(images):,} images can be read; see them with `passerby data check`")
    if joined:
        Embeddings.load(folder).save(out)
        shutil.rmtree(folder)
    return table


@contextmanager
def searching_on(address: str) -> Iterator[None]:
    """Search over a Ray cluster within the block: neighbours of clustering and re-ranking, and galleries in folders.

    Raises:
        UserError: the cluster cannot be used, or a failure of it.

    """
    with ray_session(address) as ray, neighbours_over(ray), galleries_over(ray):
        yield


def _stamps(model: Model, settings: WorkerSettings, *, images: str, dataset: str) -> dict[str, str | bool]:
    """Return what the vectors of a table depend on."""
    return {
        "model": settings.stamp,
        "images": images,
        "dataset": dataset,
        "feature": model.feature,
        "flip": model.flip,
        "input_mask": "none",
        "engine": settings.inference.engine if isinstance(model, Trained) else "its graph",
        "precision": settings.inference.precision,
        "device": settings.inference.device,
    }


def _drop(note: str) -> None:
    """Stand for a note of a worker, which collects its own."""
