"""What each of several processes does in `test_distributed.py`: train recipes and write down what it ended with."""

import json
import os
import socket
from pathlib import Path

import torch

from passerby.errors import UserError
from passerby.recipe import load_recipe
from passerby.train import distributed
from passerby.train.session import train
from tests.train.alone import CONTEXT
from tests.train.runs import state_hash


def train_in_two(recipe: Path, out: Path, variants: dict[str, list[str]]) -> None:
    """Start both processes as `torchrun` would, and wait for them."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    processes = [CONTEXT.Process(target=_train, args=(rank, port, recipe, out, variants)) for rank in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(240)
        process.kill()
    assert [process.exitcode for process in processes] == [0, 0]


def _train(rank: int, port: int, recipe: Path, out: Path, variants: dict[str, list[str]]) -> None:
    """Train every variant and write one file per process."""
    told = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2, "LOCAL_WORLD_SIZE": 2, "MASTER_PORT": port}
    os.environ |= {name: str(value) for name, value in told.items()}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "GLOO_SOCKET_IFNAME": "lo"}
    torch.set_num_threads(1)
    distributed.start()
    found = {}
    for name, overrides in variants.items():
        runs = []
        train(load_recipe(str(recipe), overrides), out / name, watch=[lambda run, _, runs=runs: runs.append(run)])
        followers = {f"mean.{key}": value for each in runs[-1].followers for key, value in each.state_dict().items()}
        found[name] = state_hash({**runs[-1].embedder.state_dict(), **runs[-1].losses.state_dict(), **followers})
    try:
        train(load_recipe(str(recipe), overrides), out / name)
    except UserError as error:
        found["refused"] = str(error)
    (out / f"rank{rank}.json").write_text(json.dumps(found))
    distributed.wait()
    distributed.stop()
