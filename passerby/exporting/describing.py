"""Metadata of an exported graph: its name and version, input and output, vector, recipe, and calibrated thresholds."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from passerby import __version__
from passerby.encoders import Trained
from passerby.exporting.contracts import Contract, ExportPrecision, ValueScale
from passerby.metrics.calibration import Calibration
from passerby.recipe.places import public_text
from passerby.thresholds import KEY, read_calibration

if TYPE_CHECKING:
    from onnx import ModelProto

_SCALES: dict[ValueScale, str] = {
    "imagenet": "values from 0 to 1, normalised by ImageNet's mean and standard deviation",
    "unit": "values from 0 to 1, not normalised",
    "bytes": "values from 0 to 255, not normalised",
}


@dataclass(frozen=True)
class GraphTexts:
    """Texts of an exported graph.

    Attributes:
        texts: metadata by key: `passerby` and `recipe`, and `calibration` where the exported vector is calibrated.
        sentence: input and output for people.
        calibration: of the exported vector; None without one.

    """

    texts: dict[str, str]
    sentence: str
    calibration: Calibration | None


def describe(trained: Trained, contract: Contract, *, name: str, precision: ExportPrecision = "float32") -> GraphTexts:
    """Return the texts of the graph of a model for one program; `name` is that of the file."""
    embedder = trained.embedder
    calibration = exported_calibration(trained, precision=precision)
    described: dict[str, object] = {
        "name": name,
        "version": __version__,
        "consumer": contract.consumer,
        "precision": precision,
        "model": embedder.settings.model_dump(mode="json"),
        "input": embedder.input.model_dump(mode="json"),
        "feature": trained.feature,
        "flip": trained.flip,
        "dimension": embedder.dimension,
        "normalised": contract.unit_length,
    }
    if contract.consumer != "onnx":
        described["takes"] = contract.settings(embedder.input).model_dump(mode="json")
    if calibration is not None:
        distances = {f"{row.rate:g}": row.distance for row in calibration.pooled.thresholds}
        described["acceptance"] = {"dataset": calibration.dataset, "cosine_distance_at_false_accept_rate": distances}
    cameras = ""
    if embedder.cameras.count:
        unknown = embedder.backbone.unknown_camera
        described |= {"cameras": embedder.cameras.to_plain(), "unknown_camera": unknown}
        cameras = (
            f"cam: int64 (batch,), the place of the camera of each image in the list of cameras ({embedder.cameras}), "
            f"from 0, {'no unknown ones' if unknown == 'refuse' else '-1 = unknown'}. "
        )
    texts = {"passerby": json.dumps(described), "recipe": public_text(trained.recipe)}
    if calibration is not None:
        texts[KEY] = calibration.model_dump_json()
    return GraphTexts(texts, _sentence(trained, contract, cameras), calibration)


def _sentence(trained: Trained, contract: Contract, cameras: str) -> str:
    embedder = trained.embedder
    height, width = contract.size(embedder.input)
    batch = "batch" if contract.batch is None else str(contract.batch)
    length = "of length 1" if contract.unit_length else "not normalised"
    scale = "not normalised" if contract.dtype == "uint8" else _SCALES[contract.scale]
    return (
        f"images: {contract.dtype} {contract.colour.upper()} ({batch}, 3, {height}, {width}), resized "
        f"({embedder.input.interpolation}), {scale}. {cameras}{contract.output}: float32 ({batch}, "
        f"{embedder.dimension}), {length}, to be compared by {trained.recipe.test.distance} distance."
    )


def exported_calibration(trained: Trained, *, precision: ExportPrecision = "float32") -> Calibration | None:
    """Return the calibration in the file of a model where it is that of the exported vectors.

    Another vector, mirror images, and whole numbers of 8 bits change the distances.
    """
    calibration = read_calibration(trained.source)
    if calibration is None or precision == "int8":
        return None
    return calibration if (calibration.feature, calibration.flip) == (trained.feature, trained.flip) else None


def write_description(model: ModelProto, description: GraphTexts) -> None:
    """Write texts into the metadata of a graph."""
    model.doc_string = description.sentence
    for key, value in description.texts.items():
        entry = model.metadata_props.add()
        entry.key, entry.value = key, value
