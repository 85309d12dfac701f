"""Versions, machine and command of a run, for reproduction."""

from __future__ import annotations

import platform
import shlex
import sys
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

import torch

from passerby import __version__
from passerby.plugins import used

_LIBRARIES = ("torch", "torchvision", "timm", "pytorch-ignite", "numpy", "numba")


def environment(*, device: str, precision: str, processes: int) -> dict[str, object]:
    """Return versions, machine and command line as words, and imports and plugins with their versions or hashes."""
    entries: dict[str, object] = {
        "passerby": __version__,
        "python": platform.python_version(),
        **{name: metadata.version(name) for name in _LIBRARIES},
        "system": platform.platform(),
        "processor": processor(),
        "threads": str(torch.get_num_threads()),
        "device": device,
        "precision": precision,
        "processes": str(processes),
        "command": command_line(sys.argv),
        **{group: added for group, added in used().items() if added},
    }
    if torch.cuda.is_available():
        entries["gpu"] = torch.cuda.get_device_name(device if device.startswith("cuda") else None)
    return entries


def command_line(words: Sequence[str]) -> str:
    """Return the command line of a program in shell syntax; passerby is called by its name.

    >>> command_line(["/opt/site-packages/passerby/__main__.py", "train", "small", "method={affinity: {}}"])
    "passerby train small 'method={affinity: {}}'"
    """
    program, *arguments = words
    path = Path(program)
    is_module = path.name == "__main__.py" and path.parent.name == "passerby"
    return shlex.join(["passerby" if is_module or path.stem == "passerby" else program, *arguments])


def processor() -> str:
    """Return the name of the processor's model, or of its architecture where the system does not say it."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:  # noqa: PTH123 - not a path of ours
            names = [line.split(":", 1)[1].strip() for line in file if line.startswith("model name")]
    except OSError:
        names = []
    return names[0] if names else platform.machine()
