"""Execution providers of onnxruntime: the GPU where it offers one, else the CPU."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from passerby.device import require_device_name

Provider = str | tuple[str, dict[str, str]]

CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"


def choose_providers(available: Sequence[str], device: str) -> list[Provider]:
    """Return the execution providers for a device, the best first.

    Args:
        available: the providers that onnxruntime was built with.
        device: as in `InferenceSettings`.

    >>> choose_providers(["CUDAExecutionProvider", "CPUExecutionProvider"], "cpu")
    ['CPUExecutionProvider']

    """
    require_device_name(device)
    if device == "cpu" or CUDA not in available:
        return [CPU]
    number = device.partition(":")[2] or "0"
    return [(CUDA, {"device_id": number, "use_tf32": "0"}), CPU]


def explain_fallback(running: Sequence[str], wanted: Sequence[Provider], device: str) -> str | None:
    """Return the reason for a graph running on the CPU although a GPU is there or requested, else None.

    Args:
        running: the providers of the session.
        wanted: those of `choose_providers`.
        device: as in `InferenceSettings`.

    """
    expected = len(wanted) > 1 or device.startswith("cuda") or (device == "auto" and torch.cuda.is_available())
    if CUDA in running or not expected:
        return None
    why = "could not be started" if len(wanted) > 1 else "is not installed (pip install onnxruntime-gpu)"
    return f"runs on the CPU: the CUDA provider of onnxruntime {why}"
