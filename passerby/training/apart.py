"""What processes do not have in common in the middle of an epoch: batch-norm statistics and sums of loss terms.

Between epochs these are averaged, and one state serves all. A run that stops in between keeps those of each process,
or it would go on otherwise than a run that never stopped.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from passerby.errors import UserError
from passerby.training import distributed

_SUMS = "sums."


def own_state(modules: Mapping[str, nn.Module], sums: Mapping[str, list[float]]) -> dict[str, Tensor]:
    """Return the floating-point buffers of named modules, and the sums of loss terms, as named tensors."""
    named = {f"{name}.{key}": value for name, module in modules.items() for key, value in module.named_buffers()}
    told = {f"{_SUMS}{name}": torch.tensor(values, dtype=torch.float64) for name, values in sums.items()}
    return {name: value for name, value in named.items() if value.is_floating_point()} | told


def states_apart(modules: Mapping[str, nn.Module], sums: Mapping[str, list[float]]) -> list[dict[str, Tensor]]:
    """Return for each process what of its `own_state` differs from that of process 0; all processes must ask."""
    if distributed.world() == 1:
        return []
    first, *others = distributed.gather_state(own_state(modules, sums))
    return [{}, *({name: value for name, value in other.items() if _differs(value, first[name])} for other in others)]


def _differs(value: Tensor, other: Tensor) -> bool:
    return not torch.equal(value.nan_to_num(), other.nan_to_num())


def restore_own(state: Mapping[str, Tensor], modules: Mapping[str, nn.Module], sums: dict[str, list[float]]) -> None:
    """Give this process back what `states_apart` found of it; modules and sums are changed in place.

    Raises:
        UserError: a tensor of another shape.

    """
    for key, was in own_state(modules, sums).items():
        if (value := state.get(key)) is not None and value.shape != was.shape:
            raise UserError(f"last.pt does not fit the run: {key} of a process has the shape {tuple(value.shape)}")
    for name, module in modules.items():
        for key, buffer in module.named_buffers():
            if (value := state.get(f"{name}.{key}")) is not None:
                buffer.copy_(value)
    for name in sums:
        if (value := state.get(f"{_SUMS}{name}")) is not None:
            sums[name] = value.tolist()
