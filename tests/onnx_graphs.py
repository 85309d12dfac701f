"""Tiny ONNX graphs as other programs might bring them: each averages the colours of an image, so the input shows."""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper

Shape = tuple[int | str | None, ...]


def average(axes: tuple[int, ...], *, source: str = "images", target: str = "vectors", keep: int = 0):
    """Return the nodes that average over axes, and the constant that names them."""
    constant = helper.make_tensor(f"{target}_axes", TensorProto.INT64, [len(axes)], axes)
    node = helper.make_node("ReduceMean", [source, f"{target}_axes"], [target], keepdims=keep)
    return [node], [constant]


def write_graph(
    path: Path,
    *,
    shape: Shape = ("batch", 3, "height", "width"),
    dtype: int = TensorProto.FLOAT,
    nodes=None,
    constants=(),
    outputs: dict[str, int] | None = None,
    more_inputs: tuple[str, ...] = (),
    metadata: dict[str, str] | None = None,
) -> Path:
    """Write a graph whose input is `images`; without nodes it averages each colour of (B, 3, H, W) into `vectors`."""
    if nodes is None:
        nodes, constants = average((2, 3))
    inputs = [helper.make_tensor_value_info(name, dtype, shape) for name in ("images", *more_inputs)]
    outputs = outputs or {"vectors": TensorProto.FLOAT}
    told = [helper.make_tensor_value_info(name, kind, None) for name, kind in outputs.items()]
    graph = helper.make_graph(nodes, "tiny", inputs, told, list(constants))
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("elsewhere", 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
    helper.set_model_props(model, metadata or {})
    onnx.save(model, path)
    return path


def cast(source: str, target: str, kind: int):
    return helper.make_node("Cast", [source], [target], to=kind)


def whole(name: str, *numbers: int):
    return helper.make_tensor(name, TensorProto.INT64, [len(numbers)], np.array(numbers))
