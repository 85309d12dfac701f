"""A trained model in the form that a tracker or another program loads."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

import numpy as np

from passerby.device import find_device
from passerby.encoders import Trained, images_of
from passerby.errors import UserError
from passerby.exporting.contracts import CONTRACTS, Consumer, Contract, ExportPrecision, GraphConsumer
from passerby.exporting.describing import exported_calibration
from passerby.exporting.ir import to_ir, write_ir
from passerby.exporting.onnx import Graph, checked_graph, load_weights, require_near, with_feature
from passerby.exporting.parity import Parity, compare_graph
from passerby.exporting.pasting import configuration
from passerby.exporting.reid_folder import write_reid_folder
from passerby.files import atomic_write, write_json
from passerby.inference.onnx import load_onnx
from passerby.thresholds import read_calibration
from passerby.types import VectorName, Words

KNOWN_WORDS = (
    "resnet50", "resnet101", "osnet_x1_0", "osnet_x0_75", "osnet_x0_5", "osnet_x0_25", "osnet_ibn_x1_0",
    "osnet_ain_x1_0",
)  # fmt: skip
"""Beginnings of file names from which releases of boxmot before 25 take the kind of network."""

MOST_IMAGES = 512
"""Images from which int8 takes its ranges."""


@dataclass(frozen=True)
class ExportOptions:
    """Choices of an export.

    Attributes:
        flip: whether vectors are averaged with those of mirror images; None = off, and for `onnx` as the recipe says.
        precision: of weights and operations.
        shape: `square` resizes inside the graph, for programs that feed squares only.
        batch: number of images at a time; None = as the program expects, which is any number for most.
        images: folder of images of one's own cameras, for `int8`.
        feature: which vector; None = the tested one.
        device: where the file is compared with torch.

    """

    flip: Literal["on", "off"] | None = None
    precision: ExportPrecision = "float32"
    shape: Literal["model", "square"] = "model"
    batch: int | None = None
    images: Path | None = None
    feature: VectorName | None = None
    device: str = "auto"


@dataclass(frozen=True)
class Exported:
    """A written export.

    Attributes:
        path: the file or folder.
        difference: from torch.
        lines: of configuration for the program.
        notes: sentences for the person.
        trained: the model as it was exported.

    """

    path: Path
    difference: Parity
    lines: tuple[str, ...]
    notes: tuple[str, ...]
    trained: Trained


def export_for(run: Path, out: Path | None, consumer: Consumer, options: ExportOptions = ExportOptions()) -> Exported:
    """Write the model of a run for a program, once its vectors are those of torch.

    Args:
        run: a run folder, or its embedder.safetensors.
        out: the file, or the folder for `reid`; None = one in the working directory, named after the network.
        consumer: the program.
        options: choices.

    Raises:
        UserError: no finished run, an ending of another format, a part of the model that the program has no place for,
            an option that it does not take, or vectors that differ.

    """
    trained = _loaded(run, consumer, options)
    ending = {"openvino": ".xml", "reid": ""}.get(consumer, ".onnx")
    out = Path(f"{default_stem(trained, consumer, options.precision)}{ending}") if out is None else out
    if consumer != "reid" and out.suffix != ending:
        raise UserError(f"--for {consumer} writes a file that ends in {ending}, got {out}")
    _require_takes(trained, consumer, options)
    notes = list(_notes(trained, consumer, out, options))
    if consumer == "reid":
        difference, size = write_reid_folder(trained, out), trained.embedder.input.size
    else:
        contract = _contract(trained, consumer, options)
        difference, size = _write(trained, contract, out, options), contract.size(trained.embedder.input)
    lines = configuration(
        consumer,
        out,
        dimension=trained.embedder.dimension,
        size=size,
        precision=options.precision,
        batch=options.batch,
        calibration=exported_calibration(trained, precision=options.precision),
    )
    return Exported(out, difference, lines, tuple(notes), trained)


def _loaded(run: Path, consumer: Consumer, options: ExportOptions) -> Trained:
    trained = with_feature(load_weights(run), options.feature, source=str(run))
    if options.flip is not None:
        return trained.with_flip(options.flip == "on")
    return trained if consumer == "onnx" else trained.with_flip(False)


def default_stem(trained: Trained, consumer: Consumer, precision: ExportPrecision) -> str:
    """Return a file name without its ending, which begins with the name of the network where boxmot knows it.

    Releases of boxmot before 25 take the network by the first known name in that of the file, and normalise otherwise
    where it holds "clip".
    """
    name = re.sub(r"[^a-z0-9]+", "_", trained.embedder.settings.backbone.split(".")[0].lower()).strip("_")
    name = re.sub(r"_?clip_?", "", name) or "network"
    if not name.startswith(KNOWN_WORDS) and consumer == "boxmot":
        name = f"resnet50_{name}"
    ending = "" if precision == "float32" else f"_{precision}"
    return f"{name}_{consumer}{ending}"


def _require_takes(trained: Trained, consumer: Consumer, options: ExportOptions) -> None:
    """Raise `UserError` for parts of a model, and options, that a program has no place for."""
    mask = trained.recipe.input_mask
    if mask != "none":
        weighted = "weights its pooling by foreground masks" if mask == "weighted" else "needs foreground masks"
        raise UserError(
            f"this model {weighted} (test.input_mask={mask}), and {consumer} gives it none; a model trained with "
            "foreground.use=swap takes images as they are"
        )
    if trained.embedder.cameras.count and consumer != "onnx":
        raise UserError(
            f"this model uses the camera of each image ({trained.embedder.cameras}), and {consumer} gives it none; "
            "train it without cameras, or use it by passerby.Encoder"
        )
    if options.shape == "square" and consumer != "ultralytics":
        raise UserError(f"--square is for releases of ultralytics that feed squares; {consumer} takes rectangles")
    if consumer == "reid" and (options.precision != "float32" or options.batch is not None):
        raise UserError("reid takes weights in float32 and any number of images; leave out --half, --int8 and --batch")
    if options.precision == "int8" and options.images is None:
        raise UserError("--int8 needs images of your cameras: --calibration-images FOLDER")
    if options.precision != "int8" and options.images is not None:
        raise UserError("--calibration-images belongs to --int8")


def _contract(trained: Trained, consumer: GraphConsumer, options: ExportOptions) -> Contract:
    contract = CONTRACTS[consumer]
    if options.shape == "square":
        contract = replace(contract, side=max(trained.embedder.input.size))
    return contract if options.batch is None else replace(contract, batch=options.batch)


def _notes(trained: Trained, consumer: Consumer, out: Path, options: ExportOptions) -> list[str]:
    notes = []
    if trained.recipe.test.flip and not trained.flip and options.flip is None:
        notes.append(
            "the recipe averages mirror images, this file does not, because that doubles the time; --flip on does"
        )
    stored = read_calibration(trained.source)
    if stored is not None and exported_calibration(trained, precision=options.precision) is None:
        notes.append(
            f"the calibration of the model is of {stored.feature}, flip {'on' if stored.flip else 'off'}, in float; it "
            "is not that of this file and was left out"
        )
    name = out.name.lower()
    if consumer == "boxmot" and ("clip" in name or not name.startswith(KNOWN_WORDS)):
        notes.append(
            "releases of boxmot before 25 take the network by the beginning of the file name, for example resnet50_ "
            'or osnet_x0_25_, and normalise otherwise where it holds "clip"'
        )
    return notes


def _write(trained: Trained, contract: Contract, out: Path, options: ExportOptions) -> Parity:
    """Write the graph of a contract with what lies beside it, and return the difference from torch."""
    paths = None if options.images is None else _representatives(options.images)
    graph = checked_graph(trained, contract, out=out, device=options.device, precision=options.precision, paths=paths)
    if contract.consumer == "openvino":
        return _write_openvino(graph, contract, out, options)
    with atomic_write(out) as file:
        file.write(graph.content)
    if contract.consumer == "boxmot":
        sidecar = {
            "model_name": _known_word(out),
            "preprocess": "resize",
            "img_size": list(trained.embedder.input.size),
        }
        write_json(out.with_name(f"{out.name}.metadata.json"), sidecar)
    return graph.difference


def _known_word(out: Path) -> str:
    """Return the network that boxmot takes a file for."""
    words = [word for word in KNOWN_WORDS if out.name.lower().startswith(word)]
    return max(words, key=len) if words else "resnet50"


def _representatives(folder: Path) -> Words:
    """Return at most `MOST_IMAGES` image files of a folder, spread evenly over the sorted names."""
    files = sorted(str(path) for path, _ in images_of(folder))
    if not files:
        raise UserError(f"--calibration-images {folder} holds no images")
    rows = np.unique(np.linspace(0, len(files) - 1, min(len(files), MOST_IMAGES)).astype(int))
    return np.array([files[row] for row in rows])


def _write_openvino(graph: Graph, contract: Contract, out: Path, options: ExportOptions) -> Parity:
    contents = to_ir(graph.content, precision=options.precision, batch=contract.batch, texts=graph.description.texts)
    with TemporaryDirectory() as folder:
        trial = Path(folder) / out.name
        write_ir(trial, contents)
        difference = compare_graph(graph.network, load_onnx(trial), find_device(options.device), images=graph.images)
    require_near(difference, options.precision, out)
    write_ir(out, contents)
    return difference
