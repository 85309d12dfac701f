"""State that differs between processes in the middle of an epoch: batch-norm statistics and sums of loss terms.

Between epochs these are averaged. A checkpoint in the middle of an epoch holds those of each process, so that a resumed
run is equal to an uninterrupted one.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from passerby.errors import UserError
from passerby.training import distributed

_SUMS = "sums."


def process_state(modules: Mapping[str, nn.Module], sums: Mapping[str, list[float]]) -> dict[str, Tensor]:
    """Return the floating-point buffers of named modules, and the sums of loss terms, as named tensors."""
    buffers = {f"{name}.{key}": value for name, module in modules.items() for key, value in module.named_buffers()}
    loss_sums = {f"{_SUMS}{name}": torch.tensor(values, dtype=torch.float64) for name, values in sums.items()}
    return {name: value for name, value in buffers.items() if value.is_floating_point()} | loss_sums


def differing_states(modules: Mapping[str, nn.Module], sums: Mapping[str, list[float]]) -> list[dict[str, Tensor]]:
    """Return for each process the tensors that differ from those of process 0; all processes must call it."""
    if distributed.world() == 1:
        return []
    first, *other_states = distributed.gather_state(process_state(modules, sums))
    return [
        {},
        *({name: value for name, value in state.items() if _differs(value, first[name])} for state in other_states),
    ]


def _differs(value: Tensor, reference: Tensor) -> bool:
    return not torch.equal(value.nan_to_num(), reference.nan_to_num())


def restore_process_state(
    state: Mapping[str, Tensor], modules: Mapping[str, nn.Module], sums: dict[str, list[float]]
) -> None:
    """Restore what `differing_states` returned for this process; modules and sums are changed in place.

    Raises:
        UserError: a tensor of another shape.

    """
    for key, present in process_state(modules, sums).items():
        if (value := state.get(key)) is not None and value.shape != present.shape:
            raise UserError(f"last.pt does not fit the run: {key} of a process has the shape {tuple(value.shape)}")
    for name, module in modules.items():
        for key, buffer in module.named_buffers():
            if (value := state.get(f"{name}.{key}")) is not None:
                buffer.copy_(value)
    for name in sums:
        if (value := state.get(f"{_SUMS}{name}")) is not None:
            sums[name] = value.tolist()
