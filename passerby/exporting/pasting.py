"""Lines of configuration for the programs that run an exported model, with its calibrated distance where it has one."""

from __future__ import annotations

from pathlib import Path

from passerby.exporting.contracts import Consumer, ExportPrecision
from passerby.metrics.calibration import Calibration

RATE = 1e-3
"""False accept rate whose distance is suggested."""

NVTRACKER_BATCH = 100
"""Boxes that nvtracker embeds at a time where the graph takes any number."""

_NETWORK_MODES: dict[ExportPrecision, int] = {"float32": 0, "half": 1, "int8": 2}


def accepted(calibration: Calibration | None, rate: float = RATE) -> float | None:
    """Return the cosine distance of a false accept rate; None without a calibration that holds for single images."""
    if calibration is None or calibration.camera_norm != "none":
        return None
    distances = [row.distance for row in calibration.pooled.thresholds if abs(row.rate / rate - 1) < 1e-9]
    return distances[0] if distances else None


def configuration(
    consumer: Consumer,
    out: Path,
    *,
    dimension: int,
    size: tuple[int, int],
    precision: ExportPrecision,
    batch: int | None = None,
    calibration: Calibration | None,
) -> tuple[str, ...]:
    """Return the lines that make a program use a file.

    Args:
        consumer: the program.
        out: the file or folder.
        dimension: length D of the vectors.
        size: height and width of the images.
        precision: of the graph.
        batch: number of images at a time; None = any.
        calibration: of the exported vector, or None.

    """
    path, distance = out.resolve(), accepted(calibration)
    if consumer == "boxmot":
        return _boxmot(path, distance)
    if consumer == "ultralytics":
        return _ultralytics(path, distance)
    if consumer == "deepstream":
        return _deepstream(path, dimension, size, precision, batch or NVTRACKER_BATCH)
    if consumer == "reid":
        return ("from reid import ReIDModel", f"model = ReIDModel.from_pretrained({str(path)!r})")
    if consumer == "openvino":
        return ("import openvino", f"model = openvino.compile_model({str(path)!r})")
    return ("from passerby import Encoder", f"encoder = Encoder({str(path)!r})")


def _boxmot(path: Path, distance: float | None) -> tuple[str, ...]:
    lines = (
        "from pathlib import Path",
        "from boxmot import BotSort",
        f'tracker = BotSort(reid_weights=Path({str(path)!r}), device="cpu", half=False)',
    )
    if distance is None:
        return lines
    return (*lines, "# in the configuration of the tracker:", f"appearance_thresh: {distance:.4f}")


def _ultralytics(path: Path, distance: float | None) -> tuple[str, ...]:
    lines = ("tracker_type: botsort", "with_reid: True", f"model: {path}")
    # BoT-SORT compares half the cosine distance with 1 - appearance_thresh.
    return lines if distance is None else (*lines, f"appearance_thresh: {1 - distance / 2:.4f}")


def _deepstream(
    path: Path, dimension: int, size: tuple[int, int], precision: ExportPrecision, batch: int
) -> tuple[str, ...]:
    height, width = size
    return (
        "ReID:",
        "  reidType: 2",
        f"  batchSize: {batch}",
        f"  reidFeatureSize: {dimension}",
        "  addFeatureNormalization: 1",
        f"  inferDims: [3, {height}, {width}]",
        f"  networkMode: {_NETWORK_MODES[precision]}",
        "  inputOrder: 0",
        "  colorFormat: 0",
        "  netScaleFactor: 1.0",
        "  offsets: [0.0, 0.0, 0.0]",
        "  keepAspc: 0",
        f"  onnxFile: {path}",
        f"  modelEngineFile: {path.with_suffix('.engine')}",
    )
