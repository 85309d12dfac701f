"""Engines in their precisions, and the choice between them by measured times."""

from __future__ import annotations

import importlib.util
from collections.abc import Collection, Mapping
from dataclasses import dataclass

import torch

from passerby.device import AnyPrecision, Engine, EnginePrecision
from passerby.models.embedder import Embedder
from passerby.models.one_column import ends_in_one_column

TOLERANCE = 1e-3
"""Largest cosine distance between the vectors of an engine and those of torch in float32."""
GAIN = 1.05
"""Speed against torch in float32 from which another candidate is taken."""


@dataclass(frozen=True, order=True)
class Candidate:
    """An engine in a precision."""

    engine: Engine
    precision: EnginePrecision

    def __str__(self) -> str:
        return f"{self.engine} {self.precision}"


EXACT = Candidate("torch", "float32")
"""Whatever the others are compared with."""


@dataclass(frozen=True)
class Speed:
    """Times of a candidate.

    Attributes:
        seconds: per image.
        setup: seconds before its first image, for the conversion of the network.

    """

    seconds: float
    setup: float = 0.0

    def of(self, images: int, *, is_ready: bool = False) -> float:
        """Return the seconds for so many images, without the preparation where that is done already."""
        return (0.0 if is_ready else self.setup) + images * self.seconds


def cheapest(
    speeds: Mapping[Candidate, Speed], images: int, *, ready: Collection[Candidate] = (), exact: Candidate = EXACT
) -> Candidate:
    """Return the candidate that embeds so many images soonest, and `exact` unless another one is clearly faster.

    Args:
        speeds: of the candidates, `exact` among them.
        images: that are still to be embedded.
        ready: candidates whose network is converted.
        exact: the reference.

    >>> speeds = {EXACT: Speed(0.04), Candidate("openvino", "bf16"): Speed(0.01, setup=15)}
    >>> str(cheapest(speeds, 400)), str(cheapest(speeds, 1000))
    ('torch float32', 'openvino bf16')
    """

    def seconds(candidate: Candidate) -> float:
        penalty = 1.0 if candidate == exact else GAIN
        return penalty * speeds[candidate].of(images, is_ready=candidate in ready)

    return min(sorted(speeds, key=lambda candidate: candidate != exact), key=seconds)


GRAPH_ENGINES: tuple[Engine, ...] = ("onnxruntime", "openvino")
"""Engines that run a converted network."""
_PACKAGES: dict[Engine, tuple[str, ...]] = {
    "torch": (),
    "onnxruntime": ("onnx", "onnxscript", "onnxruntime"),
    "openvino": ("onnx", "onnxscript", "openvino"),
}


def candidates_of(embedder: Embedder, precision: AnyPrecision = "auto") -> list[Candidate]:
    """Return the candidates for a network on this processor with the packages that are installed, torch first.

    By itself bf16 is left out without instructions for it, and where a strided convolution outputs one column.

    Args:
        embedder: the network on the CPU.
        precision: float32 or bf16; `auto` = either, float32 first.

    """
    precisions: list[EnginePrecision] = ["float32"] if precision == "auto" else [precision_named(precision)]
    if precision == "auto" and torch.cpu._is_avx512_bf16_supported() and not ends_in_one_column(embedder):
        precisions.append("bf16")
    engines: list[Engine] = ["torch", *(name for name in GRAPH_ENGINES if is_installed(name))]
    return [Candidate(engine, each) for engine in engines for each in precisions if is_possible(engine, each)]


def precision_named(precision: AnyPrecision) -> EnginePrecision:
    """Return a precision by name, float32 for `auto`."""
    return "float32" if precision == "auto" else precision


def is_installed(engine: Engine) -> bool:
    """Whether the packages of an engine are installed."""
    return all(importlib.util.find_spec(name) is not None for name in _PACKAGES[engine])


def is_possible(engine: Engine, precision: EnginePrecision) -> bool:
    """Whether an engine computes a float32 network, without images for it, in a precision on the CPU."""
    return precision == "float32" or (precision == "bf16" and engine != "onnxruntime")
