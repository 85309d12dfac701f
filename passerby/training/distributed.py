"""Several processes, one run: what is summed, what is gathered, and who writes; `averaging` averages gradients."""

from __future__ import annotations

import functools
import os
from collections.abc import Iterable, Sequence
from dataclasses import replace

import ignite.distributed as idist
import torch
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx

from passerby.processes import gather_rows as gather_rows
from passerby.processes import rank as rank
from passerby.processes import world as world
from passerby.types import Output


def start() -> bool:
    """Join the other processes when `torchrun` started this one; return whether that was done here and now."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1 or torch.distributed.is_initialized():
        return False
    idist.initialize("nccl" if torch.cuda.is_available() else "gloo")
    gradient_group()  # now: it could not be made any more, and would be waited for, once a process has failed
    return True


def stop() -> None:
    """Leave the other processes."""
    gradient_group.cache_clear()
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        idist.finalize()


def is_first_failure() -> bool:
    """Whether nothing has failed in another process before; each process that fails asks once."""
    try:
        store = torch.distributed.distributed_c10d._get_default_store()
        return int(store.add("passerby/failures", 1)) == 1
    except RuntimeError:  # the process that keeps the counter has failed and gone
        return False


def is_lost_connection(error: BaseException) -> bool:
    """Whether an error says that another process did not answer."""
    lost = isinstance(error, torch.distributed.DistError) or "gloo" in str(error).lower()
    return isinstance(error, RuntimeError) and lost


@functools.cache
def gradient_group() -> torch.distributed.ProcessGroup:
    """Return the process group of gradients, made by the first call; every process must ask."""
    group = torch.distributed.new_group()
    assert isinstance(group, torch.distributed.ProcessGroup)
    return group


def wait() -> None:
    """Wait until every process is here."""
    if world() > 1:
        torch.distributed.barrier()


def of_first(number: int) -> int:
    """Return the number that process 0 gives."""
    if world() == 1:
        return number
    shared = torch.tensor([number], device="cuda" if torch.distributed.get_backend() == "nccl" else "cpu")
    torch.distributed.broadcast(shared, 0)
    return int(shared.item())


def any_of(flag: bool) -> bool:
    """Whether the flag is up in any process."""
    if world() == 1:
        return flag
    flags = torch.tensor([float(flag)], device="cuda" if torch.cuda.is_available() else "cpu")
    torch.distributed.all_reduce(flags)
    return bool(flags.item())


def ranks_where(flag: bool, device: torch.device) -> list[int]:
    """Return the numbers of the processes in which the flag is true; every process must ask."""
    if world() == 1:
        return [0] if flag else []
    flags = torch.zeros(world(), device=device)
    flags[rank()] = float(flag)
    torch.distributed.all_reduce(flags)
    return torch.nonzero(flags).flatten().tolist()


def gather_state(state: dict[str, Tensor]) -> list[dict[str, Tensor]]:
    """Return the named tensors of every process, on the CPU, by its number."""
    local = {name: tensor.cpu() for name, tensor in state.items()}
    states: list[dict[str, Tensor]] = [{} for _ in range(world())]
    torch.distributed.all_gather_object(states, local)
    return states


def average_tensors(tensors: Sequence[Tensor]) -> None:
    """Replace each tensor's content by its mean over all processes; one message for all of them."""
    if world() == 1 or not tensors:
        return
    flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
    torch.distributed.all_reduce(flat)
    flat /= world()
    for tensor, piece in zip(tensors, flat.split([tensor.numel() for tensor in tensors]), strict=True):
        tensor.copy_(piece.reshape(tensor.shape))


def share_state(modules: Iterable[nn.Module]) -> None:
    """Give every process the parameters of process 0 and the mean of all floating-point buffers."""
    if world() == 1:
        return
    with torch.no_grad():
        for module in modules:
            for parameter in module.parameters():
                torch.distributed.broadcast(parameter.data, 0)
            for buffer in module.buffers():
                if buffer.is_floating_point():
                    torch.distributed.all_reduce(buffer)
                    buffer /= world()
                else:
                    torch.distributed.broadcast(buffer, 0)


def gather(out: Output, labels: Tensor) -> tuple[Output, Tensor]:
    """Join the features and labels (B / world, ...) of all processes to (B, ...), with gradients to each owner.

    Maps are not joined: losses look at vectors.

    The backward pass sums over processes, so that averaging the parameters' gradients afterwards gives exactly the
    gradient of the loss over the joined batch.
    """
    if world() == 1:
        return out, labels

    joined = replace(
        out,
        before_neck=_Join.apply(out.before_neck),
        after_neck=_Join.apply(out.after_neck),
        stripes=None if out.stripes is None else _Join.apply(out.stripes),
        projected=None if out.projected is None else _Join.apply(out.projected),
        penultimate=None if out.penultimate is None else _Join.apply(out.penultimate),
    )
    return joined, _join(labels)


def gather_batch(rows: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """Join tensors (B / world, ...) of all processes to (B, ...), in the order of the batch; see `gather`."""
    if world() == 1:
        return tuple(rows)
    return tuple(_Join.apply(each) if each.is_floating_point() else _join(each) for each in rows)


def _join(rows: Tensor) -> Tensor:
    pieces = [torch.empty_like(rows, memory_format=torch.contiguous_format) for _ in range(world())]
    torch.distributed.all_gather(pieces, rows.contiguous())
    return torch.cat(pieces)


class _Join(torch.autograd.Function):
    """`_join` with a gradient: what all processes want changed in the rows of this one."""

    @staticmethod
    def forward(_context: FunctionCtx, rows: Tensor) -> Tensor:
        return _join(rows)

    @staticmethod
    def backward(_context: FunctionCtx, gradient: Tensor) -> Tensor:
        summed = gradient.clone(memory_format=torch.contiguous_format)
        torch.distributed.all_reduce(summed)
        return summed.chunk(world())[rank()]
