"""A trained model as one file for other programs, checked against torch before it is written."""

from passerby.exporting.graph import Inference
from passerby.exporting.onnx import Format, export, write_onnx
from passerby.exporting.parity import Parity, parity

__all__ = ["Format", "Inference", "Parity", "export", "parity", "write_onnx"]
