"""Open ONNX embedders: those that passerby wrote and those of any other program. `passerby.exporting` writes them.

A file of passerby says what its images must look like. Of any other the graph shows shapes and types, and one image
shows the rest; the normalisation cannot be seen, so it can be set, and what was assumed is told. Operators that would
have to be loaded from a library of their own are refused, so a file never brings code.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
import torch
from pydantic import Field

from passerby.errors import UserError, first_line
from passerby.files import reading
from passerby.inference.onnx_foreign import MOST_AT_ONCE, read_foreign, settings_of_graph
from passerby.inference.onnx_model import CAMERA_INPUT, INPUT_TYPES, Entry, OnnxModel, OnnxSettings, output_names
from passerby.inference.openvino import Node, OpenvinoSession, openvino_texts
from passerby.inference.providers import Provider, choose_providers, explain_fallback
from passerby.inputs import InputSettings
from passerby.settings import Settings, build
from passerby.threads import onnx_entries
from passerby.types import (
    CameraTable,
    UnknownCamera,
    present_name,
)

if TYPE_CHECKING:
    from onnxruntime import InferenceSession, NodeArg

_SILENT = 4  # onnxruntime's own complaints would stand above our sentence


class _Written(Settings):
    """Metadata of an ONNX file written by passerby."""

    input: InputSettings = Field(description="input settings of the model")
    feature: str = Field(description="name of the feature that the file returns")
    dimension: Annotated[int, Field(ge=1, le=1 << 16)] = Field(description="length of the vectors")
    flip: bool = Field(description="whether each vector is averaged with that of the mirror image")
    cameras: dict[str, list[int]] = Field({}, description="cameras that the model learnt, by data set")
    unknown_camera: UnknownCamera = Field("refuse", description="treatment of an image of an unknown camera")
    takes: OnnxSettings | None = Field(None, description="input and output of the graph; null = RGB bytes, `vectors`")


def load_onnx(path: Path, given: Sequence[str] = (), *, device: str = "cpu") -> OnnxModel:
    """Open an ONNX embedder, or the .xml of one in OpenVINO's format.

    Args:
        path: the file.
        given: `key=value` of `OnnxSettings`, for a file that passerby did not write.
        device: as in `InferenceSettings`; where onnxruntime has no way to a GPU, a note says so and the CPU is used.

    Raises:
        UserError: not an ONNX file, a network that does not map one image to one vector, or a setting that has no
            effect; onnxruntime is not installed.

    """
    is_openvino = path.suffix.lower() == ".xml"
    if not path.is_file():
        raise UserError(f"no {'OpenVINO' if is_openvino else 'ONNX'} file {path}")
    if is_openvino:
        session = OpenvinoSession(path)
        texts = openvino_texts(path)
        if "passerby" in texts:
            return _written_model(session, texts, given, str(path))
        entry = _entry(session, str(path), takes_cameras=False)
        settings = settings_of_graph(entry, given, str(path), shown=session.preparation)
        return read_foreign(session, entry, settings, str(path), reason=f" ({session.preparation.reason})")
    return read_onnx(path, given, source=str(path), device=device)


def read_onnx(graph: Path | bytes, given: Sequence[str] = (), *, source: str, device: str = "cpu") -> OnnxModel:
    """Open an ONNX embedder from a file or from its bytes; `source` is how error texts call it."""
    wanted = choose_providers(_available_providers(), device)
    session = open_session(graph, source, wanted)
    texts = session.get_modelmeta().custom_metadata_map
    if "passerby" in texts:
        model = _written_model(session, texts, given, source)
    else:
        entry = _entry(session, source, takes_cameras=False)
        model = read_foreign(session, entry, settings_of_graph(entry, given, source), source)
    reason = explain_fallback(session.get_providers(), wanted, device)
    return model if reason is None else replace(model, notes=(*model.notes, f"{source} {reason}"))


def _available_providers() -> list[str]:
    try:
        import onnxruntime
    except ImportError as error:
        raise UserError("reading ONNX files needs the extra `export`: pip install 'passerby[export]'") from error
    return list(onnxruntime.get_available_providers())


def onnx_texts(path: Path) -> dict[str, str]:
    """Return the texts in the metadata of an ONNX file by name.

    Raises:
        UserError: not such a file, or onnxruntime is not installed.

    """
    if not path.is_file():
        raise UserError(f"no ONNX file {path}")
    _available_providers()
    return dict(open_session(path, str(path), ["CPUExecutionProvider"]).get_modelmeta().custom_metadata_map)


def open_session(graph: Path | bytes, source: str, providers: Sequence[Provider]) -> InferenceSession:
    """Open an ONNX graph in onnxruntime, silently; `source` is how error texts call it."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = _SILENT
    options.intra_op_num_threads = torch.get_num_threads()
    for name, value in onnx_entries().items():
        options.add_session_config_entry(name, value)
    try:
        model = graph if isinstance(graph, bytes) else str(graph)
        return onnxruntime.InferenceSession(model, options, providers=list(providers))
    except Exception as error:  # onnxruntime has a class for each status
        raise UserError(f"{source} is not an ONNX file that onnxruntime can run ({first_line(error)})") from error


def _entry(session: InferenceSession | OpenvinoSession, source: str, *, takes_cameras: bool) -> Entry:
    inputs = [node for node in session.get_inputs() if not (takes_cameras and node.name == CAMERA_INPUT)]
    if len(inputs) != 1:
        names = ", ".join(node.name for node in inputs) or "none"
        raise UserError(f"{source} has {len(inputs)} inputs ({names}); an embedder takes one, the images")
    node = inputs[0]
    if node.type not in INPUT_TYPES:
        raise UserError(f"{source} takes {node.type}; images can be given as {', '.join(INPUT_TYPES)}")
    shape = [side if isinstance(side, int) else None for side in node.shape]
    if len(shape) != 4 or (shape[1] not in (3, None) and shape[3] not in (3, None)):
        raise UserError(f"{source} takes {_shape(node)}; images are (batch, 3, height, width) or with the 3 at the end")
    batch, first, second, last = shape
    if first == 3 or last != 3:
        return Entry(node.name, INPUT_TYPES[node.type], "nchw", (second, last), batch)
    return Entry(node.name, INPUT_TYPES[node.type], "nhwc", (first, second), batch)


def _shape(node: NodeArg | Node) -> str:
    return f"({', '.join('?' if side is None else str(side) for side in node.shape)})"


def _described(written: Mapping[str, str], source: str) -> _Written:
    """Return the metadata of a file written by passerby."""
    with reading(source, "an ONNX file with passerby settings that can be read"):
        described = dict(json.loads(written["passerby"]))
        known = {name: described[name] for name in _Written.model_fields if name in described}
        if "recipe" not in written:
            raise KeyError("recipe")
        return build(_Written, known, source=source)


def _written_model(
    session: InferenceSession | OpenvinoSession, texts: Mapping[str, str], given: Sequence[str], source: str
) -> OnnxModel:
    """Return the model of a file written by passerby, with these texts in its metadata."""
    described = _described(texts, source)
    entry = _entry(session, source, takes_cameras=bool(described.cameras))
    if given:
        raise UserError(f"--input {given[0]}: {source} was written by passerby and contains its input settings")
    return _own(session, entry, described, source, recipe=texts["recipe"])


def _own(
    session: InferenceSession | OpenvinoSession, entry: Entry, described: _Written, source: str, *, recipe: str
) -> OnnxModel:
    """Return the model of a file written by passerby, after a check of its metadata against its graph."""
    settings = described.takes
    if settings is None:  # the graph takes RGB bytes, whatever order and scale its network wants
        takes = {"colour": "rgb", "values": "bytes", "output": "vectors"}
        settings = build(OnnxSettings, {**described.input.model_dump(mode="json"), **takes}, source=source)
    dtype, batch = (np.uint8, None) if described.takes is None else (np.float32, entry.batch)
    expected, output = Entry("images", dtype, "nchw", settings.size, batch), settings.output or "vectors"
    takes_cameras = any(node.name == CAMERA_INPUT for node in session.get_inputs())
    fits = entry == expected and 1 <= (batch or 1) <= MOST_AT_ONCE and output in output_names(session)
    if not fits or takes_cameras != bool(described.cameras):
        raise UserError(f"{source} carries passerby settings that do not fit its graph; export it again")
    return OnnxModel(
        source,
        session,
        entry,
        settings,
        output,
        described.dimension,
        present_name(described.feature),
        described.flip,
        recipe,
        CameraTable.from_plain(described.cameras, source=source),
        described.unknown_camera,
    )
