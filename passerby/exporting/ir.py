"""Graphs as OpenVINO IR: an .xml with its .bin."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from passerby.errors import UserError, first_line
from passerby.exporting.contracts import ExportPrecision
from passerby.files import atomic_write
from passerby.inference.openvino import openvino_core


def to_ir(
    content: bytes, *, precision: ExportPrecision, batch: int | None, texts: dict[str, str]
) -> tuple[bytes, bytes]:
    """Return the contents of the .xml and the .bin of an ONNX graph.

    Args:
        content: of the ONNX file.
        precision: half stores the weights in float16; devices that compute in it then do.
        batch: number of images at a time; None = any.
        texts: metadata by key.

    Raises:
        UserError: OpenVINO is not installed or cannot read the graph.

    """
    try:
        import openvino
    except ImportError as error:
        raise UserError(
            "writing OpenVINO files needs the extra `openvino`: pip install 'passerby[openvino]'"
        ) from error
    with TemporaryDirectory() as folder:
        source, target = Path(folder) / "model.onnx", Path(folder) / "model.xml"
        source.write_bytes(content)
        try:
            model: Any = openvino_core().read_model(source)
            if batch is not None:
                model.reshape([batch, *list(model.inputs[0].partial_shape)[1:]])
            for key, text in texts.items():
                model.set_rt_info(text, key)
            openvino.save_model(model, target, compress_to_fp16=precision == "half")
        except Exception as error:  # openvino has no class of its own for them
            raise UserError(f"OpenVINO cannot convert the graph ({first_line(error)})") from error
        return target.read_bytes(), target.with_suffix(".bin").read_bytes()


def write_ir(out: Path, contents: tuple[bytes, bytes]) -> None:
    """Write an .xml and its .bin, the weights first."""
    for path, content in ((out.with_suffix(".bin"), contents[1]), (out, contents[0])):
        with atomic_write(path) as file:
            file.write(content)
