"""What each of two processes does: train recipes and write down what it ended with; and one process to compare with."""

import json
import os
import socket
from collections.abc import Callable
from pathlib import Path

import torch
from ignite.engine import Engine, Events
from safetensors.torch import load_file

from passerby.errors import UserError
from passerby.recipe import Recipe, load_recipe
from passerby.training import distributed
from passerby.training.session import Interrupted, train
from passerby.training.trainer import Trainer, Watch, make_trainer
from tests.training.alone import CONTEXT
from tests.training.runs import interrupt_after, state_hash


def train_in_two(
    recipe: Path, out: Path, variants: dict[str, list[str]], *, broken_off: dict[str, int] | None = None
) -> None:
    """Start both processes as `torchrun` would, and wait for them.

    Args:
        recipe: a file.
        out: a run folder for each variant is made there.
        variants: overrides by name; the last one is also tried in a folder that holds a run.
        broken_off: variants that are also stopped in a batch, counted from 1, and gone on with.

    """
    in_two(_train, recipe, out, variants, broken_off or {})


def in_two(function: Callable[..., dict[str, object]], recipe: Path, out: Path, *args: object) -> None:
    """Call `function(rank, recipe, out, *args)` in two processes that have joined, and write `out/rank0.json`, ...

    Args:
        function: at the top of a module; returns what is written.
        recipe: passed on.
        out: a folder.
        args: passed on.

    """
    assert start_two(_join, function, recipe, out, *args) == [0, 0]


def start_two(function: Callable[..., None], *args: object) -> list[int | None]:
    """Call `function(rank, *args)` in two processes that `torchrun` could have started; return their exit codes."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    processes = [CONTEXT.Process(target=_start, args=(rank, port, function, *args)) for rank in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(900)
        process.kill()
    return [process.exitcode for process in processes]


def _start(rank: int, port: int, function: Callable[..., None], *args: object) -> None:
    settings = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2, "LOCAL_WORLD_SIZE": 2, "MASTER_PORT": port}
    os.environ |= {name: str(value) for name, value in settings.items()}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "GLOO_SOCKET_IFNAME": "lo"}
    torch.set_num_threads(1)
    function(rank, *args)


def _join(rank: int, function: Callable[..., dict[str, object]], recipe: Path, out: Path, *args: object) -> None:
    distributed.start()
    (out / f"rank{rank}.json").write_text(json.dumps(function(rank, recipe, out, *args)))
    distributed.wait()
    distributed.stop()


def _train(
    rank: int, recipe: Path, out: Path, variants: dict[str, list[str]], broken_off: dict[str, int]
) -> dict[str, object]:
    """Train every variant and return what each ended with."""
    found: dict[str, object] = {}
    for name, overrides in variants.items():
        runs = []
        train(load_recipe(str(recipe), overrides), out / name, watch=[lambda run, _, runs=runs: runs.append(run)])
        state = runs[-1].state
        followers = {f"mean.{key}": value for each in state.followers for key, value in each.state_dict().items()}
        found[name] = state_hash({**state.embedder.state_dict(), **state.losses.state_dict(), **followers})
    for each, batch in broken_off.items():
        given, folder = load_recipe(str(recipe), variants[each]), out / f"{each}, broken off"
        try:
            train(given, folder, watch=[interrupt_after(batch)] if rank == 1 else [])
            found[f"{each}, stopped"] = False
        except Interrupted:
            found[f"{each}, stopped"] = True
            distributed.wait()  # until process 0 has written it
            train(given, folder, start="resume")
    try:
        train(load_recipe(str(recipe), ["engine.mining=local"]), out / "not finite", watch=[spoil(rank)])
    except UserError as error:
        found["not finite"] = str(error)
    try:
        train(load_recipe(str(recipe), overrides), out / name)
    except UserError as error:
        found["refused"] = str(error)
    return found


def spoil(rank: int) -> Watch:
    """Return a watch that makes what process 1 learns not a number in its second batch."""

    def attach(run: Trainer, engine: Engine) -> None:
        @engine.on(Events.ITERATION_STARTED(once=2))
        def _spoil() -> None:
            if rank == 1:
                next(run.state.embedder.parameters()).data.fill_(torch.nan)

    return attach


def compare_with_one(together: Path, recipe: Recipe, alone: Path) -> tuple[float, float]:
    """Train in this process, too.

    Args:
        together: the run of two processes.
        recipe: theirs.
        alone: where it is trained by one process.

    Returns:
        The largest change of a weight by the training, and the largest difference between the two runs.

    """
    at_the_start = make_trainer(recipe, alone).state.embedder.state_dict()
    train(recipe, alone)
    both, one = (load_file(folder / "embedder.safetensors") for folder in (together, alone))
    names = [name for name in one if one[name].is_floating_point()]
    moved = max(float((one[name] - at_the_start[name]).abs().max()) for name in names)
    return moved, max(float((one[name] - both[name]).abs().max()) for name in names)
