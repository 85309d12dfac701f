"""Names of all that a stage may train, and the tensors that its `freeze` leaves as they are."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import nn

from passerby.errors import UserError
from passerby.losses.mix import LossMix
from passerby.models.embedder import Embedder
from passerby.models.groups import batch_norms
from passerby.models.layers import layer_scales
from passerby.optim import selects
from passerby.recipe import StageSettings

EMBEDDER, LOSSES, METHODS = "", "losses", "method"
"""What the names of tensors begin with: `backbone.*`, `neck.*`; `losses.softmax.*`; `method.NAME.*`."""


def named_modules(modules: Mapping[str, nn.Module]) -> Iterator[tuple[str, nn.Module]]:
    """Yield every module below some named ones with its full name."""
    for root, module in modules.items():
        for name, below in module.named_modules():
            # The losses of a mix lie in a dictionary of their own, which its parameters are named after.
            inner = name.removeprefix("losses.") if root == LOSSES else name
            yield ".".join(part for part in (root, inner) if part), below


def named_parameters(modules: Mapping[str, nn.Module]) -> dict[str, nn.Parameter]:
    """Return every parameter below some named modules by its full name, in their order and each once."""
    parameters: dict[int, tuple[str, nn.Parameter]] = {}
    for prefix, module in named_modules(modules):
        for name, parameter in module.named_parameters(recurse=False):
            parameters.setdefault(id(parameter), (f"{prefix}.{name}" if prefix else name, parameter))
    return dict(parameters.values())


@dataclass(eq=False)
class Frozen:
    """Frozen parameters and modules of the present stage.

    Attributes:
        parameters: those that would learn without it.
        modules: those that behave as in a test, so that their batch norms use and keep their running statistics.

    """

    parameters: list[nn.Parameter] = field(default_factory=list)
    modules: list[nn.Module] = field(default_factory=list)

    def freeze(self, modules: Mapping[str, nn.Module], patterns: Sequence[str]) -> None:
        """Freeze what patterns select of some named modules, also what is new since the last call."""
        for name, parameter in named_parameters(modules).items():
            if parameter.requires_grad and selects(patterns, name):
                parameter.requires_grad_(False)
                self.parameters.append(parameter)
        frozen = {id(parameter) for parameter in self.parameters}
        self.modules = [module for name, module in named_modules(modules) if _rests(name, module, patterns, frozen)]

    def hold(self) -> None:
        """Put frozen modules into the mode of a test again, after `train()` was called on all."""
        for module in self.modules:
            module.eval()

    def release(self) -> None:
        """Unfreeze everything."""
        for parameter in self.parameters:
            parameter.requires_grad_(True)
        self.parameters, self.modules = [], []


def _rests(name: str, module: nn.Module, patterns: Sequence[str], frozen: set[int]) -> bool:
    """Whether nothing of a module learns because of the patterns; of a batch norm its statistics decide."""
    if not patterns:
        return False
    if batch_norms(module) == [module]:
        return selects(patterns, f"{name}.running_mean")
    parameters = list(module.parameters())
    norms = [f"{name}.{below}.running_mean" for below, m in module.named_modules() if batch_norms(m) == [m]]
    return (
        any(id(parameter) in frozen for parameter in parameters)
        and not any(parameter.requires_grad for parameter in parameters)
        and all(selects(patterns, norm.lstrip(".")) for norm in norms)
    )


def require_trainable(stage: StageSettings, embedder: Embedder) -> None:
    """Raise `UserError` when a pattern of a stage selects no parameter, or its backbone has no layers to tell apart.

    Parameters of methods come about with the stage, so a pattern that begins with the name of one is not looked into.
    """
    if stage.optim.layer_decay is not None:
        layer_scales(embedder.backbone.body, stage.optim.layer_decay)
    with torch.device("meta"):
        losses = LossMix(stage.losses, dimension=embedder.dimension, classes=2)
    known = list(named_parameters({EMBEDDER: embedder, LOSSES: losses}))
    of_methods = tuple(f"{METHODS}.{name}." for name in stage.method.chosen)
    groups = [(f"optim.groups.{number}.match", group.match) for number, group in enumerate(stage.optim.groups)]
    for key, pattern in [*(("freeze", pattern) for pattern in stage.freeze), *groups]:
        bare = pattern.removeprefix("!")
        if not bare.startswith(of_methods) and not any(selects([bare], name) for name in known):
            roots = dict.fromkeys([*(f"{name.partition('.')[0]}." for name in known), *of_methods])
            raise UserError(
                f"{key}: {pattern!r} matches no parameter of stage {stage.title!r}; their names begin with "
                f"{', '.join(roots)}"
            )
