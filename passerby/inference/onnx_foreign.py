"""ONNX embedders of other programs: what their graph does not tell is tried out, assumed, and said."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from passerby.errors import UserError, did_you_mean, first_line
from passerby.inference.onnx_model import Entry, Numbers, OnnxModel, OnnxSettings, feed, output_names
from passerby.inference.openvino import OpenvinoSession, Preparation
from passerby.settings import Plain, build, override

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

MOST_AT_ONCE = 4096
"""Largest fixed batch of a graph; it is filled up to even for a single image."""


def settings_of_graph(
    entry: Entry, given: Sequence[str], source: str, *, shown: Preparation | None = None
) -> OnnxSettings:
    """Combine the given input settings with those that the graph shows."""
    data: dict[str, Plain] = {} if shown is None else {"colour": shown.colour}
    if shown is not None and shown.values == "bytes":
        data["values"] = "bytes"
    for assignment in given:
        data = override(data, assignment)
    said = build(OnnxSettings, data, source="--input")
    takes_bytes = entry.dtype is np.uint8
    if takes_bytes and said.values == "normalised" and "values" in said.model_fields_set:
        raise UserError(f"--input values=normalised: {source} takes bytes (uint8)")
    useless = sorted({"mean", "std"} & said.model_fields_set) if takes_bytes or said.values == "bytes" else []
    if useless:
        raise UserError(f"--input {useless[0]} has no effect: {source} is given bytes, which are not normalised")
    size = (entry.size[0] or said.size[0], entry.size[1] or said.size[1])
    if size != said.size and "size" in said.model_fields_set:
        raise UserError(f"--input size={list(said.size)}: {source} takes images of {size[0]}x{size[1]} only")
    if entry.batch is not None and not 1 <= entry.batch <= MOST_AT_ONCE:
        raise UserError(f"{source} takes {entry.batch:,} images at once; allowed are 1 to {MOST_AT_ONCE:,}")
    found = {**said.model_dump(mode="json"), "size": list(size), "values": "bytes" if takes_bytes else said.values}
    return build(OnnxSettings, found, source=source)


def read_foreign(
    session: InferenceSession | OpenvinoSession, entry: Entry, settings: OnnxSettings, source: str, *, reason: str = ""
) -> OnnxModel:
    """Determine output and batch size of a graph by running a few images."""
    count = entry.batch or 2
    try:
        outputs = _probe(session, entry, settings, count, source)
        name = _choose(outputs, settings.output, count, source)
    except UserError:
        if entry.batch is not None:
            raise
        # Many files promise any batch size and then reshape to a single image; two at once have shown it.
        return read_foreign(session, replace(entry, batch=1), settings, source, reason=reason)
    _require_telling(session, entry, settings, name, source)
    note = _assumed(settings, name, outputs, source, reason=reason)
    return OnnxModel(source, session, entry, settings, name, outputs[name].shape[1], notes=(note,))


def _probe(
    session: InferenceSession | OpenvinoSession, entry: Entry, settings: OnnxSettings, count: int, source: str
) -> dict[str, Numbers]:
    """Return every output for `count` images of noise."""
    height, width = settings.size
    images = np.random.default_rng(0).integers(0, 256, (count, 3, height, width), dtype=np.uint8)
    names = output_names(session)
    try:
        found = session.run(names, {entry.name: feed(images, entry, settings)})
    except Exception as error:  # onnxruntime has a class for each status
        raise UserError(
            f"{source} cannot take images of {height}x{width} ({first_line(error)}); try --input size=[H,W]"
        ) from error
    return {name: np.asarray(values) for name, values in zip(names, found, strict=True)}


def _choose(outputs: dict[str, Numbers], wanted: str | None, count: int, source: str) -> str:
    """Return the wanted output, or else the first that has a vector of floats for each image."""
    if wanted is not None and wanted not in outputs:
        raise UserError(f"--input output={wanted}: {source} has {', '.join(outputs)}{did_you_mean(wanted, outputs)}")
    for name, values in outputs.items():
        if wanted in (None, name) and _are_vectors(values, count):
            return name
    told = ", ".join(f"{name} {values.dtype} {values.shape}" for name, values in outputs.items())
    raise UserError(f"{source} gives no vector of floats per image: {count} image(s) make {told}")


def _require_telling(
    session: InferenceSession | OpenvinoSession, entry: Entry, settings: OnnxSettings, output: str, source: str
) -> None:
    """Refuse a graph whose vectors hold NaN or do not depend on the image, as with a wrong scale of its input."""
    height, width = settings.size
    count = entry.batch or 2
    rows, columns = np.arange(height)[:, None], np.arange(width)[None]
    halves = np.stack([np.broadcast_to(255 * (rows < height // 2), (height, width)), columns % 32 * 8 + 0 * rows])
    images = np.repeat(halves.astype(np.uint8)[:, None], 3, axis=1)  # (2, 3, H, W)
    images[1, 0] = 255 - images[1, 0]
    vectors = []
    for image in images:
        fed = feed(np.repeat(image[None], count, axis=0), entry, settings)
        vectors.append(np.asarray(session.run([output], {entry.name: fed})[0], np.float64)[0].ravel())
    other = "bytes" if settings.values == "normalised" else "normalised"
    advice = f"try --input values={other}, colour=bgr, or mean=[..] std=[..]"
    if not np.isfinite(vectors).all():
        raise UserError(f"{source} gives NaN or infinity for images with {settings.values} values; {advice}")
    if np.allclose(vectors[0], vectors[1], rtol=1e-5, atol=1e-7):
        raise UserError(f"{source} gives the same vector for different images with {settings.values} values; {advice}")


def _are_vectors(values: Numbers, count: int) -> bool:
    """Whether an array is (B, D) or (B, D, 1, 1) floats."""
    flat = values.ndim >= 2 and len(values) == count and values.size == count * values.shape[1] > 0
    return flat and np.issubdtype(values.dtype, np.floating)


def _assumed(settings: OnnxSettings, output: str, outputs: dict[str, Numbers], source: str, *, reason: str = "") -> str:
    height, width = settings.size
    scale = "values from 0 to 255"
    if settings.values == "normalised":
        scale = f"mean {list(settings.mean)} and std {list(settings.std)} of values from 0 to 1"
    chosen = f", output {output!r} of {len(outputs)}" if len(outputs) > 1 else ""
    return (
        f"{source} was not written by passerby; it is given {height}x{width} {settings.colour.upper()} images "
        f"({settings.interpolation}), {scale}{chosen}{reason}; change that with --input KEY=VALUE"
    )
