"""Reading weights of any program: tensors by name, without executing code from the file.

Beside tensors and plain Python, checkpoints of other programs hold a few harmless things: numpy's numbers, the
arguments of a script, paths, tables of settings. They are read as plain values, by functions of this file, so that the
packages that wrote them are neither needed nor run.
"""

from __future__ import annotations

import argparse
import pickle
import re
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from passerby.errors import UserError, first_line
from passerby.models.finite import require_finite


@dataclass(frozen=True)
class WeightsTable:
    """The tensors of a file, and what was decided to find them.

    Attributes:
        tensors: by name.
        notes: sentences for a person, such as which of two networks was taken.

    """

    tensors: dict[str, Tensor]
    notes: tuple[str, ...] = ()


def read_weights(path: str | Path) -> dict[str, Tensor]:
    """Read the tensors of a .safetensors, .pt or .pth file; see `read_table`."""
    return read_table(path).tensors


def read_table(path: str | Path) -> WeightsTable:
    """Read the tensors of a .safetensors, .pt or .pth file out of the wrappers of training programs.

    Of a teacher and its student the teacher is taken.

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
    inner, notes = _unwrap(state)
    if not isinstance(inner, dict) or not any(isinstance(v, Tensor) for v in inner.values()):
        raise UserError(f"{path} holds no table of named tensors")
    tensors = {str(k): v for k, v in inner.items() if isinstance(v, Tensor)}
    require_finite(tensors, source=str(path))
    return WeightsTable(tensors, tuple(notes))


def _unwrap(state: object) -> tuple[object, list[str]]:
    """Return the innermost table of a checkpoint, and sentences on what beside it is left alone."""
    notes: list[str] = []
    for key in _WRAPPERS:
        if not isinstance(state, dict) or not isinstance(state.get(key), dict):
            continue
        networks = [name for name in _WRAPPERS if name != key and isinstance(state.get(name), dict)]
        if networks:
            notes.append(f"the weights are those of {key!r}; {few_names(networks)} in the same file are not used")
        state = state[key]
    return state, notes


def few_names(names: Sequence[str], *, most: int = 3) -> str:
    """Return the first names of a list and how many more there are.

    >>> few_names(["a", "b", "c", "d"], most=2)
    'a, b, 2 more'
    """
    more = [f"{len(names) - most} more"] if len(names) > most else []
    return ", ".join([*names[:most], *more])


_WRAPPERS = ("teacher", "state_dict", "model", "embedder", "student")
"""Keys of checkpoints that hold the tensors of a network, the one that is taken first."""


def _reason(error: Exception) -> str:
    """Return the reason without torch's advice to trust the file."""
    if "TorchScript" in str(error):
        return (
            "it is a TorchScript archive, which holds a program; where you trust it, save its tensors alone: "
            "torch.save(torch.jit.load(FILE, map_location='cpu').state_dict(), OTHER)"
        )
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
    tables = [(_Table, name) for name in _TABLES]
    return [np.dtype, *dict.fromkeys(numbers), *scalars, *paths, *tables, argparse.Namespace]


class _Table:
    """Stands for the classes of `_TABLES`: making one gives a plain dictionary."""

    def __new__(cls, *items: object) -> OrderedDict[object, object]:  # type: ignore[misc]  # that is its purpose
        return OrderedDict()


_TABLES = (
    "yacs.config.CfgNode",
    "fvcore.common.config.CfgNode",
    "fastreid.config.config.CfgNode",
    "detectron2.config.config.CfgNode",
    "easydict.EasyDict",
    "addict.addict.Dict",
    "mmcv.utils.config.ConfigDict",
    "mmengine.config.config.ConfigDict",
)
"""Dictionaries of settings, by the names under which checkpoints hold them."""


def _number(dtype: np.dtype[np.generic], content: bytes) -> object:
    """Return a number of numpy as one of Python."""
    if dtype.kind not in "biufc":
        raise pickle.UnpicklingError(f"a value of numpy's type {dtype}")
    return np.frombuffer(content, dtype, count=1)[0].item()


def _path(*parts: str) -> str:
    """Return a path as text."""
    return "/".join(parts)
