"""OpenVINO IR files (.xml with its .bin) behind the interface of onnxruntime's sessions.

What a graph does before its first convolution shows what it takes: a subtraction or a scale per channel means values
from 0 to 255, and a reversal of the channels means the other order of colours.
"""

from __future__ import annotations

import functools
import xml.etree.ElementTree as ElementTree
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch

from passerby.errors import UserError, first_line
from passerby.files import reading

Numbers = npt.NDArray[np.generic]

_TYPES = {
    "f32": "tensor(float)",
    "f16": "tensor(float16)",
    "f64": "tensor(double)",
    "u8": "tensor(uint8)",
}
_STEPS = 6
"""Operations after the input among which a normalisation is looked for."""
_BYTES_FROM = 3.0
"""A mean or divisor of a channel above it belongs to values from 0 to 255."""


@dataclass(frozen=True)
class Node:
    """An input or output: name, type as onnxruntime writes it, and sides, None where any fits."""

    name: str
    type: str
    shape: tuple[int | None, ...]


@dataclass(frozen=True)
class Preparation:
    """How images are prepared for a graph, as its first operations show.

    Attributes:
        colour: order of the channels of its input.
        values: scale of its input.
        reason: in a few words.

    """

    colour: Literal["rgb", "bgr"]
    values: Literal["normalised", "bytes"]
    reason: str


class OpenvinoSession:
    """A compiled graph.

    Args:
        graph: the .xml of an IR, whose .bin lies beside it, or the bytes of an ONNX file.
        precision: of the computation; inputs and outputs are as the graph has them.

    Raises:
        UserError: OpenVINO is not installed, the .bin is missing, or a file that OpenVINO cannot run.

    """

    def __init__(self, graph: Path | bytes, *, precision: Literal["float32", "bf16"] = "float32") -> None:
        try:
            import openvino  # noqa: F401 - its absence is told in a sentence
        except ImportError as error:
            raise UserError(
                "reading OpenVINO files needs the extra `openvino`: pip install 'passerby[openvino]'"
            ) from error
        if isinstance(graph, Path) and not graph.with_suffix(".bin").is_file():
            raise UserError(f"{graph} has its weights in {graph.with_suffix('.bin').name}, which is not beside it")
        core = openvino_core()
        try:
            model: Any = core.read_model(graph)
            self.preparation = find_preparation(model)
            self._model: Any = _compiled(core, model, precision=precision)
        except Exception as error:  # openvino has no class of its own for them
            source = "the converted model" if isinstance(graph, bytes) else str(graph)
            raise UserError(f"{source} is not an OpenVINO file that can be run ({first_line(error)})") from error
        self._inputs = [_node(port) for port in self._model.inputs]
        self._outputs = [_node(port) for port in self._model.outputs]

    def get_inputs(self) -> list[Node]:
        """Return the inputs."""
        return self._inputs

    def get_outputs(self) -> list[Node]:
        """Return the outputs."""
        return self._outputs

    def run(self, names: Sequence[str], fed: Mapping[str, Numbers]) -> list[Numbers]:
        """Return the outputs of some names for inputs by name."""
        results: Any = self._model([fed[node.name] for node in self._inputs])
        numbers = [node.name for node in self._outputs]
        return [np.array(results[numbers.index(name)]) for name in names]


@functools.cache
def openvino_core() -> Any:
    """Return OpenVINO's core, one for the process."""
    import openvino

    core = openvino.Core()
    core.set_property({"ENABLE_MMAP": False})  # a mapped file that is replaced while it is in use ends the process
    return core


def _compiled(core: Any, model: Any, *, precision: Literal["float32", "bf16"]) -> Any:
    """Compile a model for any number of images where its graph allows that, else for its own."""
    hint = "bf16" if precision == "bf16" else "f32"
    hints = {"INFERENCE_PRECISION_HINT": hint, "INFERENCE_NUM_THREADS": torch.get_num_threads()}
    own: dict[str, Any] = {port.get_any_name(): port.partial_shape for port in model.inputs}
    if len(own) == 1:
        try:
            model.reshape({name: [-1, *list(shape)[1:]] for name, shape in own.items()})
            compiled = core.compile_model(model, "CPU", hints)
            (shape,) = own.values()
            sides = [2, *(int(side.get_length()) if side.is_static else 64 for side in list(shape)[1:])]
            compiled([np.zeros(sides, np.dtype(model.inputs[0].element_type.to_dtype()))])
        except Exception:  # a reshape inside that holds the number of images
            model.reshape(own)
        else:
            return compiled
    return core.compile_model(model, "CPU", hints)


def _node(port: Any) -> Node:
    kind = port.element_type.get_type_name()
    sides = tuple(side.get_length() if side.is_static else None for side in port.partial_shape)
    return Node(port.get_any_name(), _TYPES.get(kind, kind), sides)


def find_preparation(model: Any) -> Preparation:
    """Return what the operations between the input of an openvino.Model and its first convolution show."""
    if len(model.inputs) != 1:
        return Preparation("rgb", "normalised", "nothing is known about its inputs")
    turned, scaled = False, False
    ports = list(model.inputs[0].get_target_inputs())
    for _ in range(_STEPS):
        if len(ports) != 1:
            break
        node = ports[0].get_node()
        kind = node.get_type_name()
        if kind in ("Gather", "ReverseSequence", "Reverse"):
            turned = True
        elif kind in ("Subtract", "Add", "Multiply", "Divide"):
            scaled = scaled or _is_of_bytes(kind, node)
        elif kind not in ("Convert", "Transpose"):
            break
        ports = list(node.output(0).get_target_inputs())
    colour: Literal["rgb", "bgr"] = "bgr" if turned else "rgb"
    if scaled:
        return Preparation(colour, "bytes", "its graph normalises values from 0 to 255 by itself")
    return Preparation(colour, "normalised", "its graph does not normalise by itself")


def _is_of_bytes(kind: str, node: Any) -> bool:
    """Whether an operation with a constant per channel has values as those of bytes."""
    for port in node.inputs():
        source = port.get_source_output().get_node()
        while source.get_type_name() == "Convert":
            source = source.inputs()[0].get_source_output().get_node()
        if source.get_type_name() == "Constant":
            size = float(np.abs(np.asarray(source.data, np.float64)).max())
            return size < 1 / _BYTES_FROM if kind == "Multiply" else size > _BYTES_FROM
    return False


def openvino_texts(path: Path) -> dict[str, str]:
    """Return the values below `rt_info` of an IR by name, without loading the network.

    Raises:
        UserError: not such a file.

    """
    with reading(path, "an OpenVINO .xml file"):
        root = ElementTree.fromstring(path.read_bytes())
        info = root.find("rt_info")
        return {} if info is None else {entry.tag: entry.get("value", "") for entry in info}
