"""A trained model as one ONNX or safetensors file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Literal

from passerby.device import InferenceSettings, find_device
from passerby.encoders import Trained, load_trained
from passerby.errors import UserError
from passerby.exporting.contracts import CONTRACTS, Contract, Precision
from passerby.exporting.describing import describe, write_description
from passerby.exporting.graph import Inference, fix_batch, translate
from passerby.exporting.parity import Parity, compare
from passerby.files import atomic_write
from passerby.inference.onnx import read_onnx
from passerby.models.embedder import save_embedder
from passerby.recipe import recipe_from_text
from passerby.recipe.places import public_text
from passerby.types import VectorName

Format = Literal["onnx", "safetensors"]

LIMITS: dict[Precision, float] = {"float32": 1e-4, "half": 1e-3}
"""Largest cosine distance between the vectors of a file and those of torch."""


def export(
    run: Path, out: Path, *, to: Format, feature: VectorName | None = None, device: str = "auto"
) -> Parity | None:
    """Write the model of a run as one file that `passerby embed`, `evaluate` and `search` take in the run's place.

    Args:
        run: a run folder, or its embedder.safetensors.
        out: the file, with the ending of its format.
        to: the format.
        feature: which vector the file gives; None = the one that the recipe tests.
        device: where an ONNX file is compared with torch, as in `InferenceSettings`.

    Returns:
        How near the ONNX file is to torch; None for safetensors, which holds the weights themselves.

    Raises:
        UserError: no finished run, an ending of another format, or a model that ONNX cannot say exactly enough.

    """
    if out.suffix != f".{to}":
        raise UserError(f"--to {to} writes a file that ends in .{to}, got {out}")
    if run.suffix == ".onnx":
        raise UserError(f"{run} is ONNX already; export starts from a run folder or its embedder.safetensors")
    trained = load_trained(run, inference=InferenceSettings(device="cpu"))
    if out.exists() and out.samefile(trained.source):
        raise UserError(f"{out} is the model itself; give another output file")
    if feature is not None:
        text = recipe_from_text(trained.recipe.dump(), [f"test.feature={feature}"], source=str(run))
        trained = replace(trained, recipe=text)
    if to == "onnx":
        return write_onnx(trained, out, device=device)
    save_embedder(trained.embedder, out, recipe=public_text(trained.recipe))
    return None


def write_onnx(trained: Trained, out: Path, *, device: str = "cpu", contract: Contract = CONTRACTS["onnx"]) -> Parity:
    """Write a model as ONNX once onnxruntime gives the same vectors as torch; otherwise nothing is written.

    By default the graph takes `images` (batch, 3, H, W), uint8 RGB, and, where the model uses cameras, `cam` (batch,)
    int64, rows of its camera table with -1 = unknown; it gives `vectors` (batch, D) float32.

    Args:
        trained: the model.
        out: the file.
        device: where the file is compared with torch, as in `InferenceSettings`.
        contract: other inputs and outputs.

    Raises:
        UserError: torch cannot translate the model, it needs masks, or the vectors differ by more than 1e-4 in cosine
            distance.

    """
    content, difference = checked_graph(trained, contract, source=str(out), name=out.stem, device=device)
    with atomic_write(out) as file:
        file.write(content)
    return difference


def checked_graph(
    trained: Trained, contract: Contract, *, source: str, name: str, device: str = "cpu"
) -> tuple[bytes, Parity]:
    """Return the bytes of an ONNX file that gives the same vectors as torch, and the largest difference.

    Args:
        trained: the model.
        contract: input and output of the graph.
        source: how error texts call it.
        name: of the file.
        device: where it is compared with torch.

    Raises:
        UserError: see `write_onnx`.

    """
    if trained.recipe.input_mask != "none":
        raise UserError(
            f"this model is tested with test.input_mask={trained.recipe.input_mask}, and an ONNX file takes no "
            "masks; a model trained with foreground.use=swap takes images as they are"
        )
    network = Inference(trained.embedder, feature=trained.feature, flip=trained.flip, contract=contract).eval()
    where = find_device(device)
    model = translate(network, trained)
    if contract.batch is not None:
        fix_batch(model, contract.batch)
    write_description(model, describe(trained, contract, name=name))
    content = bytes(model.SerializeToString())
    difference = compare(network, read_onnx(content, source=source, device=device), where)
    if not difference.cosine <= LIMITS["float32"]:
        raise UserError(
            f"{source} was not written: its vectors would be up to {difference.cosine:.1e} in cosine distance from "
            f"those of torch, and {LIMITS['float32']:.0e} is allowed"
        )
    return content, difference
