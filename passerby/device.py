"""Inference settings: device, batch size, readers and precision.

torch is loaded by the methods only, so the command line can build the settings without it.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from passerby.errors import UserError

if TYPE_CHECKING:
    import torch

Precision = Literal["float32", "bf16", "fp16"]
EnginePrecision = Literal["float32", "bf16", "fp16", "int8"]
AnyPrecision = Literal["auto", "float32", "bf16", "fp16", "int8"]
Engine = Literal["torch", "onnxruntime", "openvino"]
AnyEngine = Literal["auto", "torch", "onnxruntime", "openvino"]

THREADS = 4
"""Threads that read ahead unless it is said otherwise; where there are fewer processors, they take turns."""

PRECISIONS: tuple[AnyPrecision, ...] = ("auto", "float32", "bf16", "fp16", "int8")
ENGINES: tuple[AnyEngine, ...] = ("auto", "torch", "onnxruntime", "openvino")


def _warn(note: str) -> None:
    warnings.warn(note, stacklevel=2)


def require_device_name(name: str) -> None:
    """Raise `UserError` unless a device is named in a way that is known."""
    if not re.fullmatch(r"auto|cpu|cuda(:\d{1,3})?", name):
        raise UserError(f"device {name!r} is not known; it is auto, cpu, cuda, or one of several GPUs as in cuda:1")


@dataclass(frozen=True)
class InferenceSettings:
    """Settings of inference.

    Attributes:
        device: `auto` (an NVIDIA GPU where there is one), `cpu`, `cuda`, or one of several GPUs as in `cuda:1`.
        batch: images at a time, >= 1; halved where they do not fit into the memory of the device.
        workers: threads that read images ahead while the network runs, >= 0; 0 = read when they are needed.
        precision: of the network; `auto` = as the recipe trains it on a GPU, float32 on the CPU; `int8` only where
            `passerby.engines` runs it.
        notify: called with sentences for the user, for example on a batch that was too large.
        engine: program that runs the network on the CPU, for those who embed by `passerby.engines`; `auto` = the
            fastest that gives equal vectors, by a probe.

    Raises:
        UserError: a value that is not allowed. Whether the device is there is checked when it is used.

    """

    device: str = "auto"
    batch: int = 64
    workers: int = THREADS
    precision: AnyPrecision = "auto"
    notify: Callable[[str], None] = _warn
    engine: AnyEngine = "torch"

    def __post_init__(self) -> None:
        require_device_name(self.device)
        if self.batch < 1 or self.workers < 0:
            raise UserError(
                f"batch must be at least 1 and workers at least 0, got batch {self.batch} and workers {self.workers}"
            )
        if self.precision not in PRECISIONS:
            raise UserError(f"precision is one of {', '.join(PRECISIONS)}, got {self.precision!r}")
        if self.engine not in ENGINES:
            raise UserError(f"engine is one of {', '.join(ENGINES)}, got {self.engine!r}")

    def torch_device(self) -> torch.device:
        """Return the device.

        Raises:
            UserError: torch does not see it.

        """
        return find_device(self.device)

    def network_precision(self, trained: str = "auto") -> Precision:
        """Return the precision of a network whose recipe trains it in `trained` (engine.precision).

        Raises:
            UserError: fp16 was asked for by name, and the device is a CPU; or int8, and the engine of the CPU is
                another one than onnxruntime.

        """
        import torch

        is_cpu = self.torch_device().type == "cpu"
        if self.precision == "int8" and (not is_cpu or self.engine not in ("auto", "onnxruntime")):
            raise UserError(
                "precision int8 is run by onnxruntime on the CPU, in embed, search, evaluate and passerby.Encoder; "
                "add --device cpu --engine onnxruntime"
            )
        if is_cpu:
            if self.precision == "fp16":
                raise UserError("precision fp16 is for GPUs, and the model runs on the CPU; use bf16 or float32")
            return "bf16" if self.precision == "bf16" else "float32"
        wanted = trained if self.precision == "auto" else self.precision
        if wanted == "bf16":
            return "bf16"
        if wanted == "fp16":
            return "fp16"
        supported = wanted == "auto" and torch.cuda.is_bf16_supported(including_emulation=False)
        return "bf16" if supported else "float32"


AUTOMATIC = InferenceSettings()


def find_device(name: str) -> torch.device:
    """Return the device of a name; `auto` is the GPU in use, or the CPU where there is none.

    >>> find_device("cpu")
    device(type='cpu')

    Raises:
        UserError: an unknown name, or a GPU that torch does not see.

    """
    import torch

    require_device_name(name)
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name == "cpu" or (name == "auto" and not count):
        return torch.device("cpu")
    if not count:
        raise UserError(f"device {name!r} cannot be used, because torch sees no GPU here; auto and cpu can")
    number = int(name.partition(":")[2] or torch.cuda.current_device())
    if number >= count:
        raise UserError(f"device {name!r} cannot be used, because torch sees {count} GPU here, counted from 0")
    return torch.device("cuda", number)


def out_of_memory(error: BaseException) -> bool:
    """Whether an exception says that a device, or the machine, has no memory left for a tensor."""
    return type(error).__name__ == "OutOfMemoryError" or "can't allocate memory" in str(error)


class FittingBatch:
    """Runs a step on as many images at once as fit into memory, starting with all of them.

    Args:
        notify: called with a sentence each time the number is halved.

    Attributes:
        size: images at a time; None until a step has failed.

    """

    def __init__(self, notify: Callable[[str], None] = _warn) -> None:
        self.notify = notify
        self.size: int | None = None

    def run(self, step: Callable[[slice], torch.Tensor], count: int) -> torch.Tensor:
        """Return the joined results of `step` on consecutive slices that cover 0..count.

        Raises:
            UserError: a single image does not fit.

        """
        import torch

        found: list[torch.Tensor] = []
        first = 0
        while first < count:
            chosen = slice(first, count if self.size is None else min(first + self.size, count))
            result = self._attempt(step, chosen)
            if result is None:  # outside of the except block, whose traceback holds on to what the step allocated
                self._halve(chosen.stop - chosen.start)
                continue
            found.append(result)
            first = chosen.stop
        return torch.cat(found)

    def _attempt(self, step: Callable[[slice], torch.Tensor], chosen: slice) -> torch.Tensor | None:
        try:
            return step(chosen)
        except RuntimeError as error:
            if not out_of_memory(error):
                raise
            return None

    def _halve(self, tried: int) -> None:
        import torch

        if tried == 1:
            raise UserError("out of memory with a single image at a time; another device (--device cpu) may have more")
        self.size = tried // 2
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        self.notify(f"out of memory with {tried} images at a time; going on with {self.size}")
