"""Calibrated thresholds in model files: the distance up to which two images show the same person.

A threshold belongs to a model, a vector, a way of preparing images and the kind of images that it was found on. So it
is stored in the file of the model, with the name of the data set; used on another one it may let through far more.
"""

from __future__ import annotations

import json
import xml.etree.ElementTree as ElementTree
from pathlib import Path

from passerby.errors import UserError
from passerby.files import atomic_write, reading
from passerby.inference.openvino import openvino_texts
from passerby.metadata import safetensors_texts, with_safetensors_text
from passerby.metrics.calibration import Calibration
from passerby.settings import build

KEY = "calibration"
"""Name of the text in the metadata of a file."""


def model_file(path: Path) -> Path:
    """Return the file of a model: that of a run folder, or the path itself."""
    return path / "embedder.safetensors" if path.is_dir() else path


def write_calibration(path: Path, calibration: Calibration) -> Path:
    """Store a calibration in the file of a model, in place of an earlier one, and return the file.

    Args:
        path: a run folder, a .safetensors, an .onnx file, or the .xml of an OpenVINO model.
        calibration: of that model.

    Raises:
        UserError: a file that holds no such text.

    """
    file, text = model_file(path), calibration.model_dump_json()
    if file.suffix.lower() == ".xml":
        content = _with_openvino_text(file, text)
    elif file.suffix.lower() == ".onnx":
        content = _with_onnx_text(file, text)
    else:
        content = with_safetensors_text(file, KEY, text)
    with atomic_write(file) as opened:
        opened.write(content)
    return file


def read_calibration(path: Path) -> Calibration | None:
    """Return the calibration in the file of a model, or None where it has none.

    Raises:
        UserError: no such file, or a calibration that cannot be read.

    """
    file = model_file(path)
    if file.suffix.lower() == ".onnx":
        text = _onnx_text(file)
    elif file.suffix.lower() == ".xml":
        text = openvino_texts(file).get(KEY)
    elif file.suffix.lower() == ".safetensors":
        text = safetensors_texts(file).get(KEY)
    else:
        return None
    if text is None:
        return None
    with reading(file, "a model with a calibration that can be read"):
        data = dict(json.loads(text))
    return build(Calibration, data, source=f"the calibration in {file}")


def accepted_distance(path: Path, rate: float) -> tuple[float, Calibration]:
    """Return the threshold of a model at a false accept rate, with the calibration that it stems from.

    Raises:
        UserError: the model is not calibrated, or not for this rate.

    """
    calibration = read_calibration(path)
    if calibration is None:
        raise UserError(
            f"{path} is not calibrated, so no distance belongs to a false accept rate; calibrate it on labelled "
            f"images of your cameras: passerby calibrate {path} --data FOLDER"
        )
    return calibration.distance(rate), calibration


def require_no_threshold(threshold: float | None) -> None:
    """Raise `UserError` where a threshold is given beside a false accept rate."""
    if threshold is not None:
        raise UserError("--accept finds the threshold of a false accept rate; leave out --threshold")


def decision_threshold(run: Path, threshold: float | None, accept: float | None) -> float | None:
    """Return the threshold of a decision: as given, or that of a false accept rate in the calibration of a model.

    Raises:
        UserError: both are given, the model is not calibrated for the rate, or its calibration has a camera norm, which
            two images alone do not have.

    """
    if accept is None:
        return threshold
    require_no_threshold(threshold)
    distance, calibration = accepted_distance(run, accept)
    if calibration.camera_norm != "none":
        raise UserError(
            f"the model is calibrated with camera norm {calibration.camera_norm!r}, which needs many images of each "
            "camera; to compare two images, calibrate it with --camera-norm none"
        )
    return distance


def domain_note(calibration: Calibration, dataset: str) -> str | None:
    """Return a sentence where thresholds are used on another data set than they were found on, else None.

    Args:
        calibration: of the model.
        dataset: name of the one that the thresholds are used on; empty = unknown, as of a folder of images.

    """
    if dataset == calibration.dataset:
        return None
    if not dataset:
        return (
            f"the threshold was calibrated on {calibration.dataset}; whether these images are like those is not known, "
            "and on others false accepts can be many times more frequent"
        )
    return (
        f"the threshold was calibrated on {calibration.dataset or 'another data set'} and is used on {dataset}; on "
        "images of another kind false accepts can be many times more frequent: calibrate on images of these cameras"
    )


def _onnx_text(file: Path) -> str | None:
    from passerby.inference.onnx import onnx_texts

    return onnx_texts(file).get(KEY)


def _with_onnx_text(file: Path, text: str) -> bytes:
    try:
        import onnx
    except ImportError as error:
        raise UserError(
            "storing a calibration in an ONNX file needs the extra `export`: pip install 'passerby[export]'"
        ) from error
    with reading(file, "an ONNX file"):
        model = onnx.load(file)
    kept = [entry for entry in model.metadata_props if entry.key != KEY]
    del model.metadata_props[:]
    model.metadata_props.extend(kept)
    added = model.metadata_props.add()
    added.key, added.value = KEY, text
    return bytes(model.SerializeToString())


def _with_openvino_text(file: Path, text: str) -> bytes:
    with reading(file, "an OpenVINO .xml file"):
        root = ElementTree.fromstring(file.read_bytes())
        info = root.find("rt_info")
        info = ElementTree.SubElement(root, "rt_info") if info is None else info
        for entry in info.findall(KEY):
            info.remove(entry)
        ElementTree.SubElement(info, KEY, value=text)
        return b'<?xml version="1.0"?>\n' + ElementTree.tostring(root)
