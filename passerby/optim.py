"""Optimisers, learning-rate schedules and the exponential moving average (EMA) of the weights.

A schedule is a pure function of the step, so resuming is exact.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from types import MappingProxyType
from typing import Annotated, Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from passerby.errors import UserError
from passerby.settings import Settings


class GroupSettings(Settings):
    """Learning rate and weight decay of a group of parameters."""

    match: Annotated[str, Field(min_length=1)] = Field(
        description="pattern of names of parameters, such as backbone.*, neck.*, losses.*, method.NAME.*"
    )
    lr_scale: Annotated[float, Field(gt=0)] = Field(1.0, description="factor of the learning rate")
    weight_decay: Annotated[float, Field(ge=0)] | None = Field(
        None, description="weight decay of the group; null = that of the optimiser"
    )

    @model_validator(mode="after")
    def _has_effect(self) -> Self:
        if self.lr_scale == 1 and self.weight_decay is None:
            raise ValueError(f"the group {self.match!r} has no effect; give it lr_scale or weight_decay")
        return self


class OptimSettings(Settings):
    """Optimiser and schedule.

    `multistep` is piecewise constant; `cosine` stays flat for `flat_epochs` and then falls to `min_lr`. Both warm
    up linearly by step from `warmup_factor` of the rate.
    """

    name: Literal["adam", "adamw", "sgd"] = Field("adam", description="optimiser")
    lr: Annotated[float, Field(gt=0)] = Field(3.5e-4, description="learning rate after the warm-up")
    weight_decay: Annotated[float, Field(ge=0)] = Field(5e-4, description="weight decay")
    momentum: Annotated[float, Field(ge=0, lt=1)] = Field(0.9, description="momentum, for sgd")
    schedule: Literal["multistep", "cosine", "constant"] = Field("multistep", description="learning-rate schedule")
    warmup_epochs: Annotated[float, Field(ge=0)] = Field(10, description="length of the linear warm-up in epochs")
    warmup_factor: Annotated[float, Field(gt=0, le=1)] = Field(
        0.01, description="factor of the learning rate at the first step of the warm-up"
    )
    milestones: tuple[Annotated[int, Field(ge=1)], ...] = Field(
        (40, 70), description="epochs at which the learning rate is reduced, for multistep"
    )
    gamma: Annotated[float, Field(gt=0, le=1)] = Field(
        0.1, description="factor of the learning rate at each milestone, for multistep"
    )
    flat_epochs: Annotated[float, Field(ge=0)] = Field(
        0, description="epochs at the full learning rate before the decay, for cosine"
    )
    min_lr: Annotated[float, Field(ge=0)] = Field(7e-7, description="learning rate at the end of cosine")
    freeze_backbone_steps: Annotated[int, Field(ge=0)] = Field(
        0, description="optimiser steps at the start of the stage in which the backbone is frozen"
    )
    batch_norm: Literal["train", "freeze_stats", "freeze_all"] = Field(
        "train", description="freeze_stats: running statistics are frozen and used; freeze_all: scale and shift too"
    )
    ema_decay: Annotated[float, Field(gt=0, lt=1)] | None = Field(
        None, description="decay of the EMA of the weights, which is the tested model, e.g. 0.999; null = no EMA"
    )

    groups: tuple[GroupSettings, ...] = Field(
        (), description="groups with their own learning rate and weight decay; the first that matches applies"
    )
    layer_decay: Annotated[float, Field(gt=0, lt=1)] | None = Field(
        None, description="layer-wise decay: factor of the learning rate from a layer to the one below, e.g. 0.75"
    )

    @model_validator(mode="after")
    def _nothing_idle(self) -> Self:
        """Refuse a setting that would have no effect."""
        owners = {"milestones": "multistep", "gamma": "multistep", "flat_epochs": "cosine", "min_lr": "cosine"}
        for field, owner in owners.items():
            if field in self.model_fields_set and self.schedule != owner and not self._is_default(field):
                raise ValueError(f"{field} has no effect with schedule: {self.schedule}")
        if not self._is_default("momentum") and self.name != "sgd":
            raise ValueError(f"momentum has no effect with name: {self.name}")
        if list(self.milestones) != sorted(set(self.milestones)):
            raise ValueError(f"milestones must rise, got {list(self.milestones)}")
        return self

    def _is_default(self, field: str) -> bool:
        return bool(getattr(self, field) == type(self).model_fields[field].default)


def learning_rate_at(settings: OptimSettings, step: int, *, steps_per_epoch: int, epochs: int) -> float:
    """Return the learning rate at a step.

    With W warm-up steps, e the epoch of the step, s = max(delay, floor(W / steps_per_epoch)) and
    T = epochs - max(ceil(W / steps_per_epoch), delay), the cosine is
    final + (base - final) (1 + cos(pi max(0, e - s) / T)) / 2.

    Args:
        settings: the schedule.
        step: optimiser steps done before this one in the stage, >= 0.
        steps_per_epoch: optimiser steps in an epoch, >= 1.
        epochs: epochs of the stage, >= 1.

    Differs from fast-reid: `milestones` are epochs of the stage, not epochs after the warm-up.

    """
    warmup = round(settings.warmup_epochs * steps_per_epoch)
    epoch = step // steps_per_epoch
    base = settings.lr
    if settings.schedule == "multistep":
        base *= settings.gamma ** sum(epoch >= at for at in settings.milestones)
    elif settings.schedule == "cosine":
        begin = max(settings.flat_epochs, warmup // steps_per_epoch)
        length = epochs - max(math.ceil(warmup / steps_per_epoch), settings.flat_epochs)
        if length > 0:
            share = min(1.0, max(0.0, epoch - begin) / length)
            base = settings.min_lr + (base - settings.min_lr) * (1 + math.cos(math.pi * share)) / 2
    if step < warmup:
        base *= settings.warmup_factor * (1 - step / warmup) + step / warmup
    return base


def never_falls(settings: OptimSettings, epochs: int) -> bool:
    """Whether a stage of so many epochs ends before its schedule has lowered the learning rate.

    >>> never_falls(OptimSettings(milestones=(40, 70)), 30), never_falls(OptimSettings(milestones=(40, 70)), 60)
    (True, False)
    """
    if settings.schedule == "multistep":
        return all(step >= epochs for step in settings.milestones)
    return settings.schedule == "cosine" and max(settings.flat_epochs, math.ceil(settings.warmup_epochs)) >= epochs - 1


def stretched(settings: OptimSettings, factor: float) -> dict[str, float | list[int]]:
    """Return the lengths of a schedule, in epochs, times `factor`; milestones stay whole and >= 1.

    >>> stretched(OptimSettings(milestones=(40, 70), warmup_epochs=10), 0.1)
    {'warmup_epochs': 1.0, 'milestones': [4, 7]}
    """
    lengths: dict[str, float | list[int]] = {"warmup_epochs": settings.warmup_epochs * factor}
    if settings.schedule == "multistep":
        lengths["milestones"] = sorted({max(1, round(step * factor)) for step in settings.milestones})
    if settings.schedule == "cosine":
        lengths["flat_epochs"] = settings.flat_epochs * factor
    return lengths


def selects(patterns: Sequence[str], name: str) -> bool:
    """Whether patterns select a name: the last matching pattern decides, and one with a leading `!` excludes the name.

    `*` matches any characters, dots included; `?` and `[...]` are those of file names.

    >>> [selects(["*", "!losses.*"], name) for name in ("backbone.conv1.weight", "losses.softmax.weight")]
    [True, False]
    """
    matches = [pattern for pattern in patterns if fnmatchcase(name, pattern.removeprefix("!"))]
    return bool(matches) and not matches[-1].startswith("!")


def make_optimiser(
    settings: OptimSettings,
    parameters: Mapping[str, nn.Parameter],
    *,
    no_weight_decay: Iterable[nn.Parameter] = (),
    scales: Mapping[str, float] = MappingProxyType({}),
) -> torch.optim.Optimizer:
    """Build the optimiser over every parameter that requires a gradient.

    A parameter group is made for each pair of a factor of the learning rate and a weight decay.

    Args:
        settings: which optimiser.
        parameters: all trainable parameters, by name.
        scales: further factors of the learning rate, by name.
        no_weight_decay: parameters without weight decay.

    """
    without_decay = {id(parameter) for parameter in no_weight_decay}
    members_of: dict[tuple[float, float], list[nn.Parameter]] = {(1.0, settings.weight_decay): []}
    for name, parameter in parameters.items():
        if parameter.requires_grad:
            group_settings = next((group for group in settings.groups if selects([group.match], name)), None)
            scale = scales.get(name, 1.0) * (1.0 if group_settings is None else group_settings.lr_scale)
            decay = (
                settings.weight_decay
                if group_settings is None or group_settings.weight_decay is None
                else group_settings.weight_decay
            )
            members_of.setdefault((scale, 0.0 if id(parameter) in without_decay else decay), []).append(parameter)
    groups: list[dict[str, object]] = [
        {"params": members, "lr": settings.lr * scale, "lr_scale": scale, "weight_decay": decay}
        for (scale, decay), members in members_of.items()
        if members
    ]
    if not groups:
        raise UserError("all parameters are frozen, so nothing can be trained; remove patterns from `freeze`")
    match settings.name:
        case "adam":
            return torch.optim.Adam(groups, lr=settings.lr, weight_decay=settings.weight_decay, fused=True)
        case "adamw":
            return torch.optim.AdamW(groups, lr=settings.lr, weight_decay=settings.weight_decay, fused=True)
        case "sgd":
            return torch.optim.SGD(
                groups, lr=settings.lr, momentum=settings.momentum, weight_decay=settings.weight_decay
            )


def set_lr(optimiser: torch.optim.Optimizer, value: float) -> None:
    """Set the learning rate of every parameter group, times the factor of the group."""
    for group in optimiser.param_groups:
        group["lr"] = value * group.get("lr_scale", 1.0)


def base_lr(optimiser: torch.optim.Optimizer) -> float:
    """Return the learning rate of the last step, without the factors of groups."""
    group = optimiser.param_groups[0]
    return float(group["lr"] / group.get("lr_scale", 1.0))


# ---- EMA of the weights


def effective_decay(decay: float, step: int) -> float:
    """Return the decay of the EMA at update `step` (t, from 0): min(decay, (1 + t) / (10 + t)).

    Without this warm-up the initial weights would dominate the EMA of a short run.

    >>> [effective_decay(0.999, step) for step in (0, 80, 100_000)]
    [0.1, 0.9, 0.999]
    """
    return min(decay, (1 + step) / (10 + step))


def make_average(module: nn.Module, *, decay: float) -> AveragedModel:
    """Return the EMA of a module, which `update_parameters` updates.

    The statistics of batch norms are averaged like the weights; whole numbers are copied. The first update copies
    everything.

    Args:
        module: the module.
        decay: decay in (0, 1) after the warm-up; see `effective_decay`.

    """

    def update(means: Sequence[Tensor], values: Sequence[Tensor], count: Tensor | int) -> None:
        if means[0].is_floating_point():
            torch._foreach_lerp_(list(means), list(values), 1 - effective_decay(decay, int(count)))
        else:
            torch._foreach_copy_(list(means), list(values))

    averaged = AveragedModel(module, multi_avg_fn=update, use_buffers=True)
    averaged.module.eval()
    return averaged.requires_grad_(False)
