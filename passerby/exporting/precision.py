"""Graphs in half precision and in whole numbers of 8 bits."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import numpy as np

from passerby.errors import UserError, first_line

if TYPE_CHECKING:
    from onnx import ModelProto

Numbers = np.typing.NDArray[np.generic]

WEIGHTED = ("Conv", "MatMul", "Gemm")
"""Operations with weights; those in front of the first one prepare the image."""
_NEEDS_RANGE = ("Pow", "ReduceMean", "ReduceSum", "ReduceL2", "GlobalAveragePool", "LayerNormalization", "Softmax")
"""Operations that stay in float32: sums over a map, and powers, overflow in half precision."""


def to_half(model: ModelProto) -> ModelProto:
    """Return a graph with weights and operations in float16, and input and output as they were.

    Values are rounded to float16 where they come in; their normalisation, sums over maps and powers are computed in
    float32.

    Raises:
        UserError: onnxruntime cannot convert the graph.

    """
    from onnxruntime.transformers.float16 import DEFAULT_OP_BLOCK_LIST, convert_float_to_float16

    try:
        with warnings.catch_warnings(), _quiet():
            warnings.simplefilter("ignore")  # of numbers too small for float16, which become 0
            converted: ModelProto = convert_float_to_float16(
                model,
                keep_io_types=True,
                op_block_list=[*DEFAULT_OP_BLOCK_LIST, *_NEEDS_RANGE],
                node_block_list=_preparing(model),
            )
    except Exception as error:  # it has no class of its own
        raise UserError(f"onnxruntime cannot convert the graph to half precision ({first_line(error)})") from error
    return converted


def _preparing(model: ModelProto) -> list[str]:
    """Return the names of the operations in front of the first one with weights."""
    names: list[str] = []
    for node in model.graph.node:
        if node.op_type in WEIGHTED:
            break
        names.append(node.name)
    return names


def to_int8(model: ModelProto, batches: Iterable[Numbers], *, symmetric: bool = False) -> ModelProto:
    """Return a graph whose operations with weights run in whole numbers of 8 bits.

    Args:
        model: the graph in float32.
        batches: values of its input `images` from which the ranges of all maps are taken.
        symmetric: whether the ranges lie around 0, as TensorRT needs them.

    Raises:
        UserError: onnxruntime cannot quantise the graph.

    """
    import onnx
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    class Reader(CalibrationDataReader):  # type: ignore[misc]  # onnxruntime has no types
        """The batches, one at a time."""

        def __init__(self) -> None:
            self.rest: Iterator[Numbers] = iter(batches)

        def get_next(self) -> dict[str, Numbers] | None:
            """Return the next batch by the name of its input."""
            batch = next(self.rest, None)
            return None if batch is None else {"images": batch}

    with TemporaryDirectory() as folder, _quiet():
        source, target = Path(folder) / "float.onnx", Path(folder) / "int8.onnx"
        onnx.save(model, source)
        try:
            quantize_static(
                str(source),
                str(target),
                Reader(),
                quant_format=QuantFormat.QDQ,
                op_types_to_quantize=list(WEIGHTED),
                per_channel=True,
                activation_type=QuantType.QInt8 if symmetric else QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                extra_options={"ActivationSymmetric": symmetric, "WeightSymmetric": True},
            )
        except UserError:  # an image of the person that cannot be read
            raise
        except Exception as error:  # it has no class of its own
            raise UserError(f"onnxruntime cannot quantise the graph ({first_line(error)})") from error
        return onnx.load(target)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the advice that converters write into the log from standard error."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)
