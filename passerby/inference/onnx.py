"""ONNX embedders: those that passerby wrote and those of any other program. `passerby.exporting` writes them.

A file of passerby says what its images must look like. Of any other the graph shows shapes and types, and one image
shows the rest; the normalisation cannot be seen, so it can be set, and what was assumed is told. Operators that would
have to be loaded from a library of their own are refused, so a file never brings code.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
import numpy.typing as npt
import torch
from pydantic import Field

from passerby.data.decoding import Pixels
from passerby.data.loading import plain_batches
from passerby.device import THREADS
from passerby.errors import UserError, did_you_mean, first_line
from passerby.files import reading
from passerby.inference.openvino import Node, OpenvinoSession, Preparation
from passerby.inference.providers import Provider, choose_providers, explain_fallback
from passerby.inputs import InputSettings
from passerby.settings import Plain, Settings, build, override
from passerby.threads import onnx_entries
from passerby.types import (
    NO_CAMERAS,
    UNKNOWN,
    CameraTable,
    Floats,
    Ints,
    UnknownCamera,
    Words,
    present_name,
    require_known_cameras,
)

if TYPE_CHECKING:
    from onnxruntime import InferenceSession, NodeArg

Numbers = npt.NDArray[np.generic]

_TYPES: dict[str, type[np.generic]] = {
    "tensor(uint8)": np.uint8,
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(double)": np.float64,
}
MOST_AT_ONCE = 4096
"""Largest fixed batch of a graph; it is filled up to even for a single image."""
_CAMERA_INPUT = "cam"
_SILENT = 4  # onnxruntime's own complaints would stand above our sentence


class OnnxSettings(InputSettings):
    """Input settings of an ONNX file of another program, which its graph does not contain."""

    values: Literal["normalised", "bytes"] = Field(
        "normalised", description="scale of the input: normalised by mean and std, or bytes from 0 to 255"
    )
    output: str | None = Field(None, description="name of the output; null = the first with one vector per image")


class _Written(Settings):
    """Metadata of an ONNX file written by passerby."""

    input: InputSettings = Field(description="input settings of the model")
    feature: str = Field(description="name of the feature that the file returns")
    dimension: Annotated[int, Field(ge=1, le=1 << 16)] = Field(description="length of the vectors")
    flip: bool = Field(description="whether each vector is averaged with that of the mirror image")
    cameras: dict[str, list[int]] = Field({}, description="cameras that the model learnt, by data set")
    unknown_camera: UnknownCamera = Field("refuse", description="treatment of an image of an unknown camera")


@dataclass(frozen=True)
class Entry:
    """The one input of a graph.

    Attributes:
        name: of the input.
        dtype: of its values.
        layout: whether the colours stand before or after height and width.
        size: (H, W), None where the graph takes any.
        batch: how many images at a time, None = any number.

    """

    name: str
    dtype: type[np.generic]
    layout: Literal["nchw", "nhwc"]
    size: tuple[int | None, int | None]
    batch: int | None


@dataclass(frozen=True, eq=False)
class OnnxModel:
    """An embedder in an ONNX file.

    Attributes:
        source: how error texts call it.
        session: of onnxruntime or OpenVINO.
        entry: what the graph takes; its `batch` is what really works.
        settings: how images are prepared for it.
        output: the name of the output that is kept.
        dimension: length D of its vectors.
        feature: which feature of its model that is, `""` when unknown.
        flip: whether the graph averages it with the mirror image's.
        recipe: YAML of the run that it came from, or None.
        cameras: those that the model learnt; empty where it uses none, and the graph then has no input for them.
        unknown_camera: treatment of an image of an unknown camera.
        notes: sentences about what was assumed.

    """

    source: str
    session: InferenceSession | OpenvinoSession
    entry: Entry
    settings: OnnxSettings
    output: str
    dimension: int
    feature: str = ""
    flip: bool = False
    recipe: str | None = None
    cameras: CameraTable = NO_CAMERAS
    unknown_camera: UnknownCamera = "refuse"
    notes: tuple[str, ...] = ()

    def run(self, images: Pixels, cam: Ints | None = None) -> Floats:
        """Map prepared images (B, 3, H, W) uint8 to vectors (B, D) float32, for any B.

        Args:
            images: in the form that `settings` describe.
            cam: (B,) rows of the camera table, -1 = unknown; None = all unknown.

        Raises:
            UserError: a graph that fails, or an unknown camera where the model refuses those.

        """
        cam = np.full(len(images), UNKNOWN) if cam is None else cam
        require_known_cameras(cam, self.cameras, unknown=self.unknown_camera, source=self.source)
        size = self.entry.batch or max(1, len(images))
        vectors = np.empty((len(images), self.dimension), dtype=np.float32)  # (B, D)
        for start in range(0, len(images), size):
            part = images[start : start + size]
            padded = np.concatenate([part, np.repeat(part[-1:], size - len(part), axis=0)])
            vectors[start : start + len(part)] = self._step(padded, cam[start : start + size])[: len(part)]
        return vectors

    def _step(self, images: Pixels, cam: Ints) -> Numbers:
        fed = {self.entry.name: _feed(images, self.entry, self.settings)}
        if self.cameras.count:
            fed[_CAMERA_INPUT] = np.ascontiguousarray(cam, np.int64)
        try:
            found: Numbers = self.session.run([self.output], fed)[0]
            return found.reshape(len(images), self.dimension)
        except Exception as error:  # onnxruntime has a class for each status, and numpy one for a wrong shape
            if "Failed to allocate memory" in str(error):
                raise UserError(
                    f"{self.source}: out of memory with {len(images)} images at once; lower --batch"
                ) from error
            raise UserError(f"{self.source} fails on {len(images)} images at once ({first_line(error)})") from error

    def vectors(
        self,
        paths: Words,
        cam: Ints | None = None,
        *,
        batch: int = 64,
        workers: int = THREADS,
        progress: Callable[[int, int], None] | None = None,
    ) -> Floats:
        """Embed image files (N,), of rows (N,) of the camera table, in order: (N, D) float32, as the graph has them."""
        cam = np.full(len(paths), UNKNOWN) if cam is None else cam
        require_known_cameras(cam, self.cameras, unknown=self.unknown_camera, source=self.source)
        vectors, done = np.empty((len(paths), self.dimension), dtype=np.float32), 0  # (N, D)
        for images in plain_batches(paths, self.settings, size=batch, workers=workers):
            vectors[done : done + len(images)] = self.run(images.numpy(), cam[done : done + len(images)])
            done += len(images)
            if progress is not None:
                progress(done, len(paths))
        return vectors


def _feed(images: Pixels, entry: Entry, settings: OnnxSettings) -> Numbers:
    """Convert prepared bytes (B, 3, H, W) to layout, scale and type of the graph's input."""
    values: Numbers = images
    if settings.values == "normalised":
        mean, std = (np.array(three, np.float32).reshape(1, 3, 1, 1) for three in (settings.mean, settings.std))
        values = (images / np.float32(255) - mean) / std
    if entry.layout == "nhwc":
        values = values.transpose(0, 2, 3, 1)
    return np.ascontiguousarray(values, dtype=entry.dtype)


# ---- opening


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
    if not path.is_file():
        raise UserError(f"no ONNX file {path}")
    if path.suffix.lower() == ".xml":
        session = OpenvinoSession(path)
        entry = _entry(session, str(path), takes_cameras=False)
        settings = _settings(entry, given, str(path), shown=session.preparation)
        return _foreign(session, entry, settings, str(path), reason=f" ({session.preparation.reason})")
    return read_onnx(path, given, source=str(path), device=device)


def read_onnx(graph: Path | bytes, given: Sequence[str] = (), *, source: str, device: str = "cpu") -> OnnxModel:
    """Open an ONNX embedder from a file or from its bytes; `source` is how error texts call it."""
    wanted = choose_providers(_available_providers(), device)
    session = _open(graph, source, wanted)
    written = session.get_modelmeta().custom_metadata_map
    described = _described(written, source) if "passerby" in written else None
    entry = _entry(session, source, takes_cameras=described is not None and bool(described.cameras))
    if described is not None:
        if given:
            raise UserError(f"--input {given[0]}: {source} was written by passerby and says itself what it takes")
        model = _own(session, entry, described, source, recipe=written["recipe"])
    else:
        model = _foreign(session, entry, _settings(entry, given, source), source)
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
    return dict(_open(path, str(path), ["CPUExecutionProvider"]).get_modelmeta().custom_metadata_map)


def _open(graph: Path | bytes, source: str, providers: Sequence[Provider]) -> InferenceSession:
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
    inputs = [node for node in session.get_inputs() if not (takes_cameras and node.name == _CAMERA_INPUT)]
    if len(inputs) != 1:
        names = ", ".join(node.name for node in inputs) or "none"
        raise UserError(f"{source} has {len(inputs)} inputs ({names}); an embedder takes one, the images")
    node = inputs[0]
    if node.type not in _TYPES:
        raise UserError(f"{source} takes {node.type}; images can be given as {', '.join(_TYPES)}")
    shape = [side if isinstance(side, int) else None for side in node.shape]
    if len(shape) != 4 or (shape[1] not in (3, None) and shape[3] not in (3, None)):
        raise UserError(f"{source} takes {_shape(node)}; images are (batch, 3, height, width) or with the 3 at the end")
    batch, first, second, last = shape
    if first == 3 or last != 3:
        return Entry(node.name, _TYPES[node.type], "nchw", (second, last), batch)
    return Entry(node.name, _TYPES[node.type], "nhwc", (first, second), batch)


def _shape(node: NodeArg | Node) -> str:
    return f"({', '.join('?' if side is None else str(side) for side in node.shape)})"


# ---- files of passerby


def _described(written: dict[str, str], source: str) -> _Written:
    """Return the metadata of a file written by passerby."""
    with reading(source, "an ONNX file with passerby settings that can be read"):
        described = dict(json.loads(written["passerby"]))
        known = {name: described[name] for name in _Written.model_fields if name in described}
        if "recipe" not in written:
            raise KeyError("recipe")
        return build(_Written, known, source=source)


def _own(
    session: InferenceSession | OpenvinoSession, entry: Entry, described: _Written, source: str, *, recipe: str
) -> OnnxModel:
    """Return the model of a file written by passerby, after a check of its metadata against its graph."""
    # The graph takes RGB bytes, whatever order and scale its network wants.
    takes = {"colour": "rgb", "values": "bytes", "output": "vectors"}
    settings = build(OnnxSettings, {**described.input.model_dump(mode="json"), **takes}, source=source)
    expected = Entry("images", np.uint8, "nchw", settings.size, None)
    takes_cameras = any(node.name == _CAMERA_INPUT for node in session.get_inputs())
    if entry != expected or "vectors" not in _names(session) or takes_cameras != bool(described.cameras):
        raise UserError(f"{source} carries passerby settings that do not fit its graph; export it again")
    return OnnxModel(
        source,
        session,
        entry,
        settings,
        "vectors",
        described.dimension,
        present_name(described.feature),
        described.flip,
        recipe,
        CameraTable.from_plain(described.cameras, source=source),
        described.unknown_camera,
    )


# ---- files of others


def _settings(entry: Entry, given: Sequence[str], source: str, *, shown: Preparation | None = None) -> OnnxSettings:
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


def _foreign(
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
        return _foreign(session, replace(entry, batch=1), settings, source, reason=reason)
    _require_telling(session, entry, settings, name, source)
    note = _assumed(settings, name, outputs, source, reason=reason)
    return OnnxModel(source, session, entry, settings, name, outputs[name].shape[1], notes=(note,))


def _names(session: InferenceSession | OpenvinoSession) -> list[str]:
    return [node.name for node in session.get_outputs()]


def _probe(
    session: InferenceSession | OpenvinoSession, entry: Entry, settings: OnnxSettings, count: int, source: str
) -> dict[str, Numbers]:
    """Return every output for `count` images of noise."""
    height, width = settings.size
    images = np.random.default_rng(0).integers(0, 256, (count, 3, height, width), dtype=np.uint8)
    names = _names(session)
    try:
        found = session.run(names, {entry.name: _feed(images, entry, settings)})
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
        fed = _feed(np.repeat(image[None], count, axis=0), entry, settings)
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
