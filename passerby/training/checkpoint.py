"""Checkpoints: tensors and plain Python only, written atomically, loaded without running code.

Each field is checked when a file is read; `training.compatibility` checks that a checkpoint fits a run.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import get_args

import torch
from torch import Tensor

from passerby.device import Precision
from passerby.errors import UserError, first_line
from passerby.files import atomic_write
from passerby.models.finite import require_finite
from passerby.training.probe import Arithmetic

State = dict[str, object]


@dataclass(frozen=True)
class Checkpoint:
    """The complete state of a run, so that a resumed run is equal to an uninterrupted one.

    Attributes:
        recipe: the resolved recipe as YAML.
        stage, epoch, iteration: position: finished stages, epochs of the stage, batches of the epoch.
        embedder, losses, methods, optimiser, scaler: their states.
        ended: whether the end-of-stage work of the methods is finished.
        ema: the state of the EMA of the embedder, or None.
        previous_model: the state of the model of the stage before, or None.
        labels: the labels of the unfinished epoch, or None.
        earlier_labels: the labels of the epoch before, or None; None in checkpoints of earlier versions.
        classes: number of identities of the losses; None in checkpoints of 0.1, where it is that of the stage.
        threads: number of threads of the next step; None in checkpoints of earlier versions.
        precision, channels_last: arithmetic of the network; None in checkpoints of earlier versions.
        sums: sums of the loss terms of the unfinished epoch, see `Counters`.
        images: fingerprints of the training images by data set; None in checkpoints of 0.1.
        machine: device and number of processes, and the precision, in words; None in checkpoints of 0.1.
        cameras: those that the model learns, by data set; None where it uses none.
        processes: of each process, the state that differs from process 0 in an unfinished epoch, see
            `training.process_state`.

    """

    recipe: str
    stage: int
    epoch: int
    iteration: int
    embedder: dict[str, Tensor]
    losses: dict[str, Tensor]
    methods: dict[str, Tensor]
    optimiser: State
    scaler: State
    labels: Tensor | None
    sums: dict[str, list[float]]
    ema: dict[str, Tensor] | None = None
    previous_model: dict[str, Tensor] | None = None
    ended: bool = False
    earlier_labels: Tensor | None = None
    classes: int | None = None
    threads: int | None = None
    processes: list[dict[str, Tensor]] | None = None
    precision: Precision | None = None
    channels_last: bool | None = None
    images: dict[str, str] | None = None
    machine: dict[str, str] | None = None
    cameras: dict[str, list[int]] | None = None

    @property
    def arithmetic(self) -> Arithmetic | None:
        """Precision and layout, where they are known."""
        if self.precision is None or self.channels_last is None:
            return None
        return Arithmetic(self.precision, self.channels_last)


def save_checkpoint(checkpoint: Checkpoint, path: Path) -> None:
    """Write a checkpoint beside `path` and rename it.

    Raises:
        UserError: the disk is full; the earlier checkpoint is untouched.

    """
    buffer = io.BytesIO()
    torch.save(vars(checkpoint), buffer)
    with atomic_write(path) as file:
        file.write(buffer.getbuffer())


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint to the CPU.

    Raises:
        UserError: no such file, not a checkpoint of passerby, or an invalid field.

    """
    if not path.is_file():
        raise UserError(f"no checkpoint {path}; leave out --resume to start a new run there")
    try:
        entries = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds for a damaged or a foreign file
        raise UserError(_unreadable(path, first_line(error))) from error
    checkpoint = parse_checkpoint(entries, path)
    for name in ("embedder", "ema", "previous_model"):
        require_finite(getattr(checkpoint, name) or {}, source=f"{path}, {name}")
    return checkpoint


def parse_checkpoint(entries: object, path: Path) -> Checkpoint:
    """Return the entries of a file as a checkpoint, or raise `UserError` with the first invalid field."""
    if not isinstance(entries, dict):
        raise UserError(_unreadable(path, "it holds no table of fields"))
    expected = {field.name: field for field in fields(Checkpoint)}
    missing = [name for name, field in expected.items() if field.default is MISSING and name not in entries]
    unknown = [str(name) for name in entries if name not in expected]
    if missing or unknown:
        differences = [f"without {', '.join(missing)}"] * bool(missing) + [f"with {', '.join(unknown)}"] * bool(unknown)
        raise UserError(_unreadable(path, " and ".join(differences)))
    for name, value in entries.items():
        if not _FORMS[name].fits(value):
            raise UserError(_unreadable(path, f"{name} is not {_FORMS[name].words}"))
    return Checkpoint(**entries)


def _unreadable(path: Path, why: str) -> str:
    return f"{path} is not a readable checkpoint ({why}), so the run cannot be resumed; start a new one elsewhere"


# ---- the form of each field


@dataclass(frozen=True)
class _Form:
    words: str
    fits: Callable[[object], bool]

    def or_none(self) -> _Form:
        return _Form(f"{self.words} or nothing", lambda value: value is None or self.fits(value))


def is_number(value: object) -> bool:
    """Whether a value is a finite number, not a truth value."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_count(value: object) -> bool:
    return type(value) is int and 0 <= value < 2**31


def _is_tensor(value: object) -> bool:
    """Whether a value is an ordinary tensor that has all of its elements."""
    if not isinstance(value, Tensor) or value.layout != torch.strided or value.is_quantized or value.is_meta:
        return False
    return value.numel() * value.element_size() <= value.untyped_storage().nbytes()


def _is_plain(value: object) -> bool:
    """Whether a value is plain data, as `get_extra_state` of a module returns it."""
    if isinstance(value, list | tuple):
        return all(map(_is_plain, value))
    if isinstance(value, dict):
        return all(isinstance(key, str) and _is_plain(each) for key, each in value.items())
    return value is None or isinstance(value, str | bool | int | float)


def _is_state(value: object) -> bool:
    """Whether a value is a table of named tensors, and of plain data where modules say what they are built of."""
    plain = "_extra_state"
    return isinstance(value, Mapping) and all(
        isinstance(name, str) and (_is_plain(each) if name.split(".")[-1] == plain else _is_tensor(each))
        for name, each in value.items()
    )


def _is_labels(value: object) -> bool:
    return isinstance(value, Tensor) and _is_tensor(value) and value.dtype == torch.int64 and value.ndim in (1, 2)


def _table(of: Callable[[object], bool]) -> Callable[[object], bool]:
    def fits(value: object) -> bool:
        return isinstance(value, Mapping) and all(isinstance(key, str) and of(each) for key, each in value.items())

    return fits


def _is_optimiser(value: object) -> bool:
    if not isinstance(value, dict) or set(value) != {"state", "param_groups"}:
        return False
    groups, state = value["param_groups"], value["state"]
    if not isinstance(groups, list) or not all(isinstance(group, dict) for group in groups):
        return False
    each = _table(lambda entry: entry is None or is_number(entry) or _is_tensor(entry))
    return isinstance(state, dict) and all(_is_count(number) and each(entry) for number, entry in state.items())


def _are_sums(value: object) -> bool:
    return isinstance(value, list | tuple) and len(value) == 3 and all(map(is_number, value))


def _are_tables(value: object) -> bool:
    return isinstance(value, list) and all(map(_table(_is_tensor), value))


def _are_numbers(value: object) -> bool:
    return isinstance(value, list) and all(type(each) is int for each in value)


_COUNT = _Form("a whole number from 0", _is_count)
_TRUTH = _Form("true or false", lambda value: isinstance(value, bool))
_WORDS = _Form("a table of words", _table(lambda value: isinstance(value, str)))
_TENSORS = _Form("a table of named tensors", _table(_is_tensor))
_LABELS = _Form("a tensor of whole numbers (N,) or (N, V)", _is_labels)
_FORMS = {
    "recipe": _Form("text", lambda value: isinstance(value, str)),
    "stage": _COUNT,
    "epoch": _COUNT,
    "iteration": _COUNT,
    "embedder": _TENSORS,
    "losses": _TENSORS,
    "methods": _Form("a table of named tensors and plain data", _is_state),
    "optimiser": _Form("the state of an optimiser", _is_optimiser),
    "scaler": _Form("a table of numbers", _table(is_number)),
    "labels": _LABELS.or_none(),
    "earlier_labels": _LABELS.or_none(),
    "sums": _Form("a table of three numbers each", _table(_are_sums)),
    "ema": _TENSORS.or_none(),
    "previous_model": _TENSORS.or_none(),
    "ended": _TRUTH,
    "classes": _Form("a whole number from 0", _is_count).or_none(),
    "threads": _COUNT.or_none(),
    "processes": _Form("a list of tables of named tensors", _are_tables).or_none(),
    "precision": _Form("a precision", lambda value: value in get_args(Precision)).or_none(),
    "channels_last": _TRUTH.or_none(),
    "images": _WORDS.or_none(),
    "machine": _WORDS.or_none(),
    "cameras": _Form("a table of lists of numbers", _table(_are_numbers)).or_none(),
}
