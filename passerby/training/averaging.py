"""Gradients averaged over the processes of a run, while the backward pass goes on.

`DistributedDataParallel` is put around all that a training step computes, from the batch to the loss, and not around
the model alone. So it averages classifiers, memories and networks of methods in the same messages; it finds the
parameters that the loss reaches, not those that the output of the model reaches; and several forward passes in a step
are one to it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from typing import Literal, cast

from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from passerby.training import distributed


class GradientAveraging:
    """The average of gradients over all processes, made by the backward pass of a loss.

    A parameter whose gradient is missing in some processes counts as 0 there. One that has a gradient in no process
    keeps none, so that the optimiser passes it over as it does in one process: a gradient of 0 would leave it to weight
    decay and momentum. Messages have a process group of their own, because losses exchange features in the same
    backward pass.
    """

    def __init__(self) -> None:
        self._parameters: list[nn.Parameter] = []
        self._wrapper: DistributedDataParallel | None = None

    def loss(
        self,
        compute: Callable[[], Tensor],
        parameters: Iterable[nn.Parameter],
        *,
        backward: Literal["accumulates", "averages"],
    ) -> Tensor:
        """Return a loss whose backward pass leaves the average over processes in the gradients.

        Args:
            compute: returns the scalar loss of this process.
            parameters: all that may have a gradient, in the same order in each process; those that do not require one
                now are left out.
            backward: whether the gradients only add up in this process, for a later step that averages the sums.

        """
        if distributed.world() == 1:
            return compute()
        learning = [parameter for parameter in parameters if parameter.requires_grad]
        if not learning:
            return compute()
        wrapper = self._around(learning)
        with wrapper.no_sync() if backward == "accumulates" else nullcontext():
            return cast("Tensor", wrapper(compute))

    def _around(self, learning: Sequence[nn.Parameter]) -> DistributedDataParallel:
        """Return the wrapper around some parameters, a new one where other parameters learn than before."""
        same = len(learning) == len(self._parameters) and all(
            parameter is other for parameter, other in zip(learning, self._parameters, strict=True)
        )
        if self._wrapper is None or not same:
            self._parameters, self._wrapper = list(learning), _wrap(learning)
        return self._wrapper


class _Computation(nn.Module):
    """The computation of a loss from parameters; it holds no buffers, which each process keeps for itself."""

    def __init__(self, parameters: Sequence[nn.Parameter]) -> None:
        super().__init__()
        # Torch prints a warning in the first step in which every parameter has a gradient; this one never has.
        self.unused = nn.Parameter(parameters[0].new_zeros(()))
        self.learning = nn.ParameterList(parameters)

    def forward(self, compute: Callable[[], Tensor]) -> Tensor:
        return compute()


def _wrap(parameters: Sequence[nn.Parameter]) -> DistributedDataParallel:
    """Wrap the computation of a loss; the parameters are the same in all processes already."""
    return DistributedDataParallel(
        _Computation(parameters),
        init_sync=False,
        process_group=distributed.gradient_group(),
        find_unused_parameters=True,  # needed in some steps, and cheap in the others
    )
