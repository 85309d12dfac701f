"""Reading weights of any program: tensors by name, without executing code from the file.

Beside tensors and plain Python, checkpoints of other programs hold a few harmless things: numpy's numbers, the
arguments of a script, paths. Numbers and paths are read as plain values, by functions of this file.
"""

from __future__ import annotations

import argparse
import pickle
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from passerby.errors import UserError, first_line
from passerby.models.finite import require_finite


def read_weights(path: str | Path) -> dict[str, Tensor]:
    """Read the tensors of a .safetensors, .pt or .pth file.

    Raises:
        UserError: no such file, no table of tensors, something that is not on the list of harmless things, or a tensor
            with NaN or infinity.

    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"no weights file {path}")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            state: object = dict(load_file(path))
        else:
            with torch.serialization.safe_globals(_harmless()):
                state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # safetensors and torch each have several ways to say "not mine"
        raise UserError(f"{path} is not a readable weights file ({_reason(error)})") from error
    for key in ("state_dict", "model", "embedder"):
        if isinstance(state, dict) and isinstance(state.get(key), dict):
            state = state[key]
    if not isinstance(state, dict) or not any(isinstance(v, Tensor) for v in state.values()):
        raise UserError(f"{path} holds no table of named tensors")
    tensors = {str(k): v for k, v in state.items() if isinstance(v, Tensor)}
    require_finite(tensors, source=str(path))
    return tensors


def _reason(error: Exception) -> str:
    """Return the reason without torch's advice to trust the file."""
    foreign = re.search(r"GLOBAL (\S+) was not an allowed|build (?:\S+ )?type '?(\S+?)'?(?:\s|$)", str(error))
    if foreign:
        return (
            f"it holds {foreign[1] or foreign[2]}, and only tensors and plain values are read, since the rest could "
            "run code; where you trust the file, load it with the program that wrote it and save its state_dict alone: "
            "torch.save(model.state_dict(), FILE)"
        )
    return "torch cannot read it" if isinstance(error, pickle.UnpicklingError | LookupError) else first_line(error)


# ---- what is read beside tensors


def _harmless() -> list[Callable[..., object] | tuple[Callable[..., object], str]]:
    """Return the names allowed in a file, with their replacements."""
    numbers = [type(np.dtype(code)) for code in "?bBhHiIlLqQefdgFD"]
    scalars = [(_number, f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")]
    systems, places = ("Posix", "Windows", "PurePosix", "PureWindows"), ("pathlib", "pathlib._local")
    paths = [(_path, f"{module}.{system}Path") for module in places for system in systems]
    return [np.dtype, *dict.fromkeys(numbers), *scalars, *paths, argparse.Namespace]


def _number(dtype: np.dtype[np.generic], content: bytes) -> object:
    """Return a number of numpy as one of Python."""
    if dtype.kind not in "biufc":
        raise pickle.UnpicklingError(f"a value of numpy's type {dtype}")
    return np.frombuffer(content, dtype, count=1)[0].item()


def _path(*parts: str) -> str:
    """Return a path as text."""
    return "/".join(parts)
