"""Inference: images, arrays or files in, vectors out; by torch or by an ONNX graph."""
