"""The inputs and outputs that programs which run a re-identification model expect of its graph.

One body, other first operations: whatever a program feeds is an affine function of the pixels, per channel, so it moves
into the mean and the standard deviation that the model subtracts and divides by.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from passerby.inference.onnx_model import OnnxSettings
from passerby.inputs import InputSettings

Consumer = Literal["boxmot", "ultralytics", "deepstream", "openvino", "onnx", "reid"]
GraphConsumer = Literal["boxmot", "ultralytics", "deepstream", "openvino", "onnx"]
ExportPrecision = Literal["float32", "half", "int8"]
ValueScale = Literal["imagenet", "unit", "bytes"]
"""Values of the input: normalised by ImageNet's mean and standard deviation, from 0 to 1, or from 0 to 255."""

Three = tuple[float, float, float]

IMAGENET_MEAN: Three = (0.485, 0.456, 0.406)
IMAGENET_STD: Three = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Contract:
    """Input and output of the graph for one program.

    Attributes:
        consumer: its name.
        dtype: type of the input.
        scale: of the values of the input.
        colour: order of its channels.
        output: name of the output; the input is `images`.
        unit_length: whether the graph divides the vectors by their length.
        batch: number of images at a time; None = any.
        side: side of square images that the graph resizes by itself; None = images of the size of the model.

    """

    consumer: GraphConsumer
    dtype: Literal["uint8", "float32"] = "float32"
    scale: ValueScale = "bytes"
    colour: Literal["rgb", "bgr"] = "rgb"
    output: str = "vectors"
    unit_length: bool = False
    batch: int | None = None
    side: int | None = None

    def size(self, model: InputSettings) -> tuple[int, int]:
        """Return height and width of the input of the graph of a model."""
        return model.size if self.side is None else (self.side, self.side)

    def settings(self, model: InputSettings) -> OnnxSettings:
        """Return how passerby prepares images for the graph of a model."""
        mean, std = (IMAGENET_MEAN, IMAGENET_STD) if self.scale == "imagenet" else ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
        return OnnxSettings(
            size=self.size(model),
            interpolation=model.interpolation,
            colour=self.colour,
            mean=mean,
            std=std,
            values="bytes" if self.scale == "bytes" else "normalised",
            output=self.output,
        )

    def affine(self) -> tuple[Three, Three]:
        """Return scale and shift of each channel, which map pixels from 0 to 255 to the values of the input."""
        if self.scale == "bytes":
            return (1.0, 1.0, 1.0), (0.0, 0.0, 0.0)
        if self.scale == "unit":
            return (1 / 255, 1 / 255, 1 / 255), (0.0, 0.0, 0.0)
        red, green, blue = (1 / (255 * std) for std in IMAGENET_STD)
        shifts = [-mean / std for mean, std in zip(IMAGENET_MEAN, IMAGENET_STD, strict=True)]
        return (red, green, blue), (shifts[0], shifts[1], shifts[2])


CONTRACTS: dict[GraphConsumer, Contract] = {
    "onnx": Contract("onnx", dtype="uint8"),
    "boxmot": Contract("boxmot", scale="imagenet", output="output0"),
    "ultralytics": Contract("ultralytics", scale="unit", output="output0"),
    "deepstream": Contract("deepstream"),
    "openvino": Contract("openvino", colour="bgr", output="reid_embedding", unit_length=True, batch=1),
}
"""The contract of each program that runs a graph."""
