"""What a run ran on, so that a surprising number can be traced to a version or a machine."""

from __future__ import annotations

import platform
import sys
from importlib import metadata

import torch

from passerby import __version__

_LIBRARIES = ("torch", "torchvision", "timm", "pytorch-ignite", "numpy", "numba")


def environment(*, device: str, precision: str, processes: int) -> dict[str, str]:
    """Return versions, machine and command line as words."""
    found = {
        "passerby": __version__,
        "python": platform.python_version(),
        **{name: metadata.version(name) for name in _LIBRARIES},
        "system": platform.platform(),
        "processor": _processor(),
        "threads": str(torch.get_num_threads()),
        "device": device,
        "precision": precision,
        "processes": str(processes),
        "command": " ".join(sys.argv),
    }
    if torch.cuda.is_available():
        found["gpu"] = torch.cuda.get_device_name()
    return found


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:  # noqa: PTH123 - not a path of ours
            names = [line.split(":", 1)[1].strip() for line in file if line.startswith("model name")]
    except OSError:
        names = []
    return names[0] if names else platform.machine()
