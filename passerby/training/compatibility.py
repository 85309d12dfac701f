"""Checks that a checkpoint fits the run that it is loaded into, before any tensor is loaded."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from passerby.data.samplers.sampler import SamplerSettings
from passerby.errors import UserError
from passerby.losses.mix import LossMix, LossSettings
from passerby.training.checkpoint import Checkpoint, is_number
from passerby.training.counters import position_text
from passerby.training.plan import count_batches
from passerby.types import Stage

SOURCE = "last.pt"
"""Name of the file in error messages."""


def require_stage(checkpoint: Checkpoint, epochs: list[int]) -> None:
    """Raise `UserError` unless the position of a checkpoint exists in a run; `epochs` lists those of its stages."""
    if checkpoint.stage >= len(epochs):
        raise UserError(f"{SOURCE} stands at {position_text(stage=checkpoint.stage)}, and the run has {len(epochs)}")
    last = epochs[checkpoint.stage]
    if checkpoint.epoch > last or (checkpoint.epoch == last and checkpoint.iteration):
        raise UserError(
            f"{SOURCE} stands after {checkpoint.epoch} epochs of {position_text(stage=checkpoint.stage)}, "
            f"which has {last}"
        )


def require_place(checkpoint: Checkpoint, stage: Stage, sampler: SamplerSettings, *, accumulate: int) -> None:
    """Raise `UserError` unless the batch and the labels of a checkpoint are those of the stage."""
    count = count_batches(stage, sampler)
    if checkpoint.iteration >= max(count, 1) or checkpoint.iteration % accumulate:
        batch = position_text(batch=checkpoint.iteration)
        raise UserError(f"{SOURCE} stands before {batch}, where no epoch of {count:,} stops")
    labels, classes = checkpoint.labels, checkpoint.classes
    if labels is None:
        return
    if len(labels) != len(stage.train):
        raise UserError(f"{SOURCE} holds labels of {len(labels):,} images, and the stage has {len(stage.train):,}")
    highest = int(labels.max()) if labels.numel() else -1
    if (labels < -1).any() or (labels.ndim == 1 and classes is not None and highest >= max(classes, 1)):
        raise UserError(f"{SOURCE} holds labels beyond the {classes} identities of its losses")


def require_losses(checkpoint: Checkpoint, settings: LossSettings, *, dimension: int, classes: int) -> None:
    """Raise `UserError` unless the losses of a checkpoint have the shapes of so many classes; allocates nothing."""
    with torch.device("meta"):
        losses = LossMix(settings, dimension=dimension, classes=max(1, classes))
    require_state(checkpoint.losses, losses.state_dict(), name="losses")


def require_state(state: Mapping[str, Tensor], expected: Mapping[str, Tensor], *, name: str) -> None:
    """Raise `UserError` unless named tensors have the names, shapes and kinds of a module's own."""
    missing, unexpected = [key for key in expected if key not in state], [key for key in state if key not in expected]
    if missing or unexpected:
        difference = f"lacks {missing[0]}" if missing else f"holds {unexpected[0]}, which the run has not"
        raise UserError(f"{SOURCE} does not fit the run: its {name} {difference}")
    for key, value in state.items():
        tensor = expected[key]
        if value.shape != tensor.shape or value.is_floating_point() != tensor.is_floating_point() or value.is_complex():
            raise UserError(
                f"{SOURCE} does not fit the run: {key} of its {name} is {_form(value)} instead of {_form(tensor)}"
            )


def _form(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} {tuple(tensor.shape)}"


def require_optimiser(saved: Mapping[str, object], optimiser: torch.optim.Optimizer) -> None:
    """Raise `UserError` unless the state of an optimiser is one of this optimiser's parameters.

    Its tensors are read by kernels that trust their shapes.
    """
    expected = optimiser.state_dict()["param_groups"]
    groups, states = saved["param_groups"], saved["state"]
    assert isinstance(groups, list)
    assert isinstance(states, dict)
    counts = [len(group["params"]) for group in expected]
    numbers = [group.get("params") for group in groups]
    if numbers != [group["params"] for group in expected]:
        lengths = [len(each) if isinstance(each, list) else "no" for each in numbers]
        raise UserError(f"{SOURCE} does not fit the run: its optimiser has {lengths} parameters instead of {counts}")
    for group, expected_group in zip(groups, expected, strict=True):
        needed = [key for key in expected_group if key in _NEEDED or key in group]  # torch adds settings
        if unlike := [key for key in needed if not _alike(group.get(key), expected_group[key], key)]:
            raise UserError(f"{SOURCE} does not fit the run: {sorted(unlike)[0]!r} of its optimiser is not as expected")
    parameters = [parameter for group in optimiser.param_groups for parameter in group["params"]]
    for number, state in states.items():
        if number >= len(parameters):
            raise UserError(
                f"{SOURCE} does not fit the run: its optimiser has a state of parameter {number}, which the run lacks"
            )
        _require_memory(state, parameters[number], number, optimiser)


_NEEDED = {"lr", "weight_decay", "betas", "eps", "momentum", "dampening", "nesterov"}


def _alike(value: object, expected: object, key: str) -> bool:
    """Whether a setting of a parameter group fits the optimiser: a number for `lr`, an equal value otherwise."""
    if key == "lr":
        return is_number(value)
    if isinstance(value, list | tuple) and isinstance(expected, list | tuple):
        return list(value) == list(expected)
    return bool(type(value) is type(expected) and value == expected)


def _require_memory(
    state: Mapping[str, object], parameter: Tensor, number: int, optimiser: torch.optim.Optimizer
) -> None:
    is_sgd = isinstance(optimiser, torch.optim.SGD)
    if set(state) not in ([set(), {"momentum_buffer"}] if is_sgd else [{"step", "exp_avg", "exp_avg_sq"}]):
        description = ", ".join(sorted(state)) or "nothing"
        raise UserError(f"{SOURCE} does not fit the run: its optimiser holds {description} of parameter {number}")
    for name, value in state.items():
        if name == "momentum_buffer" and value is None:
            continue
        shape = torch.Size() if name == "step" else parameter.shape
        if not isinstance(value, Tensor) or not value.is_floating_point() or value.shape != shape:
            description = _form(value) if isinstance(value, Tensor) else repr(value)
            raise UserError(
                f"{SOURCE} does not fit the run: {name} of parameter {number} of its optimiser is {description} "
                f"instead of {tuple(shape)}"
            )


def take_over(methods: dict[str, Tensor], load: Callable[[dict[str, Tensor]], None]) -> None:
    """Restore the state of methods; raise `UserError` where it does not fit."""
    try:
        load(methods)
    except UserError:
        raise
    except Exception as error:  # each method builds itself from the shapes of its state
        raise UserError(f"{SOURCE} does not fit the run: the state of its methods is damaged ({error!r})") from error
