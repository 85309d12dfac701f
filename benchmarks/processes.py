"""What a step of several processes costs, and how much of the messages is hidden behind the backward pass.

    torchrun --nproc-per-node 2 benchmarks/processes.py --backbone resnet18

Steps that average gradients during the backward pass, steps that average them after it in one message, and steps that
do not average at all (which is no training; the difference is the price of messages) take turns, so that whatever else
runs on the machine meets them all. Medians over the turns; of a turn the slowest process counts.
"""

from __future__ import annotations

import argparse
import logging
import statistics
import time
from collections.abc import Callable, Iterable
from typing import Literal

import torch
from torch import Tensor, nn
from torch.autograd import Variable

from passerby.bench.step import Shape, make_batch, make_step_run
from passerby.training import distributed
from passerby.training.averaging import GradientAveraging
from passerby.training.trainer import Trainer
from passerby.types import Batch

CASES = ("during", "after", "none")


class AfterBackward(GradientAveraging):
    """Gradients averaged in one message when the backward pass is over, or not at all."""

    def __init__(self, average: Callable[[list[Tensor]], None]) -> None:
        super().__init__()
        self.average = average

    def loss(
        self,
        compute: Callable[[], Tensor],
        parameters: Iterable[nn.Parameter],
        *,
        backward: Literal["accumulates", "averages"],
    ) -> Tensor:
        """Return the loss of this process; a callback at the end of its backward pass averages."""
        loss, learning = compute(), [parameter for parameter in parameters if parameter.requires_grad]

        def average() -> None:
            self.average([parameter.grad for parameter in learning if parameter.grad is not None])

        def add_callback(gradient: Tensor) -> Tensor:
            Variable._execution_engine.queue_callback(average)  # the way that torch's own wrapper waits for the end
            return gradient

        loss.register_hook(add_callback)
        return loss


def timed(trainer: Trainer, batch: Batch) -> float:
    """Return the seconds of a step of the slowest process."""
    distributed.wait()
    began = time.perf_counter()
    trainer.step(batch, count=1)
    seconds = torch.tensor(time.perf_counter() - began)
    torch.distributed.all_reduce(seconds, torch.distributed.ReduceOp.MAX)
    return seconds.item()


def overlap(trainer: Trainer) -> str:
    """Describe what the wrapper has measured of its messages in the first steps."""
    wrapper = trainer.step.averaging._wrapper
    assert wrapper is not None
    known = wrapper._get_ddp_logging_data()
    keys = ("backward_compute_time", "backward_comm_time", "backward_compute_comm_overlap_time")
    backward, messages, both = (known[f"avg_{key}"] / 1e6 for key in keys)  # nanoseconds
    sizes = ", ".join(f"{int(size) / 2**20:.1f}" for size in known["bucket_sizes"].split(","))
    return (
        f"during: backward pass {backward:.1f} ms, messages of {sizes} MiB under way {messages:.1f} ms, "
        f"of which {both:.1f} ms beside the backward pass ({both / messages:.0%})"
    )


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbone", default="test_resnet")
    parser.add_argument("--size", type=int, nargs=2, default=(64, 32))
    parser.add_argument("--batch", type=int, default=8, help="images of each process")
    parser.add_argument("--turns", type=int, default=21)
    args = parser.parse_args()
    logging.getLogger("timm").setLevel(logging.ERROR)
    torch.set_num_threads(1)
    distributed.start()
    shape = Shape(args.backbone, tuple(args.size), args.batch)
    batch = make_batch(shape)
    trainers = {case: make_step_run(shape, bf16=False) for case in CASES}
    trainers["after"].step.averaging = AfterBackward(distributed.average_tensors)
    trainers["none"].step.averaging = AfterBackward(lambda _: None)
    seconds: dict[str, list[float]] = {case: [] for case in CASES}
    for turn in range(args.turns + 2):
        for case in CASES:
            spent = timed(trainers[case], batch)
            if turn >= 2:
                seconds[case].append(spent)
    if distributed.rank() == 0:
        print(f"{shape}, {distributed.world()} processes of one thread, milliseconds of a step, {args.turns} turns")
        for case in CASES:
            low, _, high = statistics.quantiles(seconds[case])
            print(f"| {case} | {1e3 * statistics.median(seconds[case]):.1f} | {1e3 * low:.1f} to {1e3 * high:.1f} |")
        print(overlap(trainers["during"]))
    distributed.stop()


if __name__ == "__main__":
    main()
